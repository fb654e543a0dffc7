package queue

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mappings returns start and end of the mappings of the store's files with the given suffix, from /proc/self/smaps,
// with the flags of each.
func (r *rig) mappings(suffix string) (spans [][2]uint64, flags []string) {
	r.t.Helper()
	dir, err := filepath.EvalSymlinks(r.cfg.Dir)
	if err != nil {
		r.t.Fatal(err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		r.t.Skip(err)
	}
	defer func() { _ = f.Close() }()
	ours := false
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if rest, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			if ours {
				flags = append(flags, rest)
			}
			ours = false
		}
		i := strings.IndexByte(line, '/')
		if i < 0 || filepath.Dir(line[i:]) != dir || !strings.HasSuffix(line, suffix) {
			continue
		}
		from, to, _ := strings.Cut(line[:strings.IndexByte(line, ' ')], "-")
		a, err1 := strconv.ParseUint(from, 16, 64)
		b, err2 := strconv.ParseUint(to, 16, 64)
		if err := errors.Join(err1, err2); err != nil {
			r.t.Fatal(err)
		}
		spans, ours = append(spans, [2]uint64{a, b}), true
	}
	return spans, flags
}

// tear takes the last page out of a log's mapping. Badger syncs the whole mapping, so its next sync fails as it would
// with a disk that lost a write; nothing is written there before.
func (r *rig) tear(suffix string) {
	r.t.Helper()
	spans, _ := r.mappings(suffix)
	if len(spans) == 0 {
		r.t.Fatalf("no mapping of %s", suffix)
	}
	last := spans[0] // the newest is mapped lowest or highest: tear all that are large enough to be in use
	for _, s := range spans {
		if s[1]-s[0] >= last[1]-last[0] {
			last = s
			page := uintptr(os.Getpagesize())
			if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, uintptr(s[1])-page, page, 0); errno != 0 {
				r.t.Fatal(errno)
			}
		}
	}
}

func TestFailedSync(t *testing.T) {
	for _, log := range []string{".vlog", ".mem"} { // Badger only logs the first, and returns the second
		t.Run(log, func(t *testing.T) {
			r := newRig(t)
			told := make(chan error, 10)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r.cfg.OnFail = func(err error) { told <- err }
			r.open()
			safe := r.message(strings.Repeat("x", 2000), "a@x.example.jp")
			r.put(safe)
			r.tear(log)
			err := wait(func(done func(error)) { r.Put(r.message(strings.Repeat("x", 2000), "a@x.example.jp"), done) })
			if !errors.Is(err, ErrFailed) {
				t.Fatalf("put whose sync failed: %v", err)
			}
			if err := <-told; !errors.Is(err, ErrFailed) {
				t.Errorf("told of %v", err)
			}
			for range 3 { // for good: no second try
				if err := wait(func(done func(error)) { r.Put(r.message("x", "a@x.example.jp"), done) }); !errors.Is(err, ErrFailed) {
					t.Errorf("later put: %v", err)
				}
			}
			err = wait(func(done func(error)) { r.Settle(delivered(&safe.Deliveries[0], r.cfg.Clock.Now()), done) })
			if !errors.Is(err, ErrFailed) || !errors.Is(r.Err(), ErrFailed) {
				t.Errorf("later settlement: %v; Err %v", err, r.Err())
			}
			if got := r.body(safe.ID); got != string(safe.Body) {
				t.Error("what was stored before cannot be read")
			}
			_ = r.Close() // Badger's own close finds the torn mapping too
			if len(told) != 0 {
				t.Error("told twice")
			}
			r.cfg.OnFail = nil
			r.open()
			if r.Err() != nil || r.body(safe.ID) != string(safe.Body) {
				t.Errorf("after a restart: %v", r.Err())
			}
		})
	}
}

func TestMappingsAreAdvised(t *testing.T) {
	r := newRig(t)
	for _, suffix := range []string{".mem", ".vlog"} {
		_, flags := r.mappings(suffix)
		if len(flags) == 0 {
			t.Fatalf("no mapping of %s", suffix)
		}
		for _, f := range flags {
			if !strings.Contains(f, " rr") { // VM_RAND_READ
				t.Errorf("%s has flags %s", suffix, f)
			}
		}
	}
	if r.Usage().WrittenEach <= 0 {
		t.Error("self-test measured nothing")
	}
}

// TestLogsAreReserved asks that the logs that are written have their blocks, the large message's too, and that what is
// finished takes no more than it holds.
func TestLogsAreReserved(t *testing.T) {
	r := newRig(t)
	size := func(name string) (apparent, taken int64) {
		t.Helper()
		info, err := os.Stat(filepath.Join(r.cfg.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size(), allocated(info)
	}
	for _, suffix := range []string{memSuffix, valueSuffix} {
		name := r.newestLog(suffix)
		if apparent, taken := size(name); taken < logRoom(name) || apparent <= logRoom(name) {
			t.Errorf("%s: %d bytes long, has %d, want %d", name, apparent, taken, logRoom(name))
		}
	}
	first := r.newestLog(valueSuffix)
	large := r.message(string(random(10<<20)), "a@x.example.jp")
	r.put(large)
	if _, taken := size(first); taken < logRoom(first)+10<<20 {
		t.Errorf("%s has %d bytes with a large message", first, taken)
	}
	for r.newestLog(valueSuffix) == first {
		r.put(r.message(string(large.Body), "a@x.example.jp"))
	}
	if apparent, taken := size(first); taken > apparent+1<<20 {
		t.Errorf("%s is finished with %d bytes and takes %d", first, apparent, taken)
	}
	next := r.newestLog(valueSuffix)
	until(t, 5*time.Second, "the next log to be reserved", func() bool {
		_, taken := size(next)
		return taken >= logRoom(next)
	})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, taken := size(next); taken > 1<<20 {
		t.Errorf("%s takes %d bytes when closed", next, taken)
	}
	r.open()
	if r.body(large.ID) != string(large.Body) {
		t.Error("large body is another")
	}
}
