package replica

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// feeder writes to a store as an owner's connection does, without a network.
type feeder struct {
	t    testing.TB
	l    *lineage
	c    *session
	next uint64
	fill uint64
	live map[string]string
}

func mustFeed(t testing.TB, s *Store) *feeder {
	t.Helper()
	l, err := s.admit(testLineage)
	if err != nil {
		t.Fatal(err)
	}
	f := &feeder{t: t, l: l, c: &session{conn: nowhere{}, epoch: 1}, live: map[string]string{}}
	if err := l.fence(1); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.session = f.c
	f.next = l.known.high + 1
	l.mu.Unlock()
	return f
}

func (f *feeder) take(k kind, number uint64, payload []byte) {
	f.t.Helper()
	raw := endBlock(append(beginBlock(nil), payload...), k, 1, number)
	b, err := cutBlock(raw)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.l.take(f.c, []block{b}); err != nil {
		f.t.Fatal(err)
	}
}

func ops(list []Op) (out []byte) {
	for i := range list {
		out = appendOp(out, &list[i])
	}
	return out
}

func (f *feeder) begin() {
	f.t.Helper()
	f.next, f.fill = max(f.next, 1), 0
	f.take(kindBegin, f.next, []byte{0, 0, 0, 0, 0, 0, 0, 1})
}

func (f *feeder) full() { f.t.Helper(); f.take(kindFull, f.fill, nil) }

func (f *feeder) chunk(list ...Op) {
	f.t.Helper()
	f.fill++
	f.take(kindFill, f.fill, ops(list))
}

func (f *feeder) frame(list ...Op) {
	f.t.Helper()
	f.take(kindFrame, f.next, ops(list))
	f.next++
	for _, op := range list {
		if op.Delete {
			delete(f.live, string(op.Key))
		} else {
			f.live[string(op.Key)] = string(op.Value)
		}
	}
}

func mustOpen(t testing.TB, dir string, segment int64) *Store {
	t.Helper()
	s, err := Open(StoreConfig{Dir: dir, Cluster: testCluster, SegmentSize: segment})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// crash leaves a store's directory as a killed process does: nothing is written at the end.
func crash(s *Store) {
	for _, l := range s.lineages {
		l.mu.Lock()
		l.err = errors.New("killed")
		l.mu.Unlock()
	}
	_ = s.Close()
}

// segments returns the paths of a lineage's segments in order.
func segments(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// The last frame torn at every octet: everything before it is there, and the log goes on.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, 0)
	f := mustFeed(t, s)
	f.begin()
	f.full()
	f.frame(set("1", "one"), set("2", "two"))
	f.frame(set("3", "three"), del("1"))
	before := maps.Clone(f.live)
	f.l.syncOnce()
	path := segments(t, dir)[0]
	kept, _ := os.Stat(path)
	f.frame(set("4", "four"), del("2"))
	crash(s)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := kept.Size(); cut <= int64(len(whole)); cut++ {
		for _, end := range []string{"cut", "zeros", "noise"} {
			torn := append([]byte{}, whole[:cut]...)
			for i := cut; i < int64(len(whole)); i++ {
				switch end {
				case "zeros":
					torn = append(torn, 0)
				case "noise":
					torn = append(torn, whole[i]^byte(1+rand.IntN(255))) // never what was there
				}
			}
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, dir, 0)
			want := before
			if cut == int64(len(whole)) {
				want = f.live
			}
			mustEqual(t, fmt.Sprintf("%s at %d", end, cut), content(t, s), want)
			if st := s.State(testLineage); !st.Full || st.Damaged {
				t.Fatalf("%s at %d: %+v", end, cut, st)
			}
			g := mustFeed(t, s)
			g.frame(set("5", "five"))
			crash(s)
			s = mustOpen(t, dir, 0)
			if got := content(t, s)["5"]; got != "five" || s.HighWater(testLineage) != g.next-1 {
				t.Fatalf("%s at %d: the log does not go on", end, cut)
			}
			crash(s)
		}
	}
}

// Every octet of a log that was closed in order is flipped: either the lineage says that it is damaged, or nothing was
// changed by it. What else is in the log stays readable.
func TestFlippedOctets(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, 4<<10)
	f := mustFeed(t, s)
	f.begin()
	f.chunk(set("base", "b"))
	f.live["base"] = "b"
	f.full()
	for i := range 12 {
		f.frame(set(fmt.Sprint("k", i), strings.Repeat("v", 400)), del(fmt.Sprint("k", i-3)), set(fmt.Sprint("s", i), "s"))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	paths := segments(t, dir)
	if len(paths) < 2 {
		t.Fatal("one segment only")
	}
	for _, path := range paths {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(whole); at += 1 + rand.IntN(16) {
			flipped := append([]byte{}, whole...)
			flipped[at] ^= 1 << rand.IntN(8)
			if err := os.WriteFile(path, flipped, 0o600); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, dir, 4<<10)
			got := content(t, s)
			if st := s.State(testLineage); st.Damaged {
				if st.Full || len(got) < len(f.live)/4 {
					t.Fatalf("octet %d of %s: %+v with %d records", at, path, st, len(got))
				}
			} else {
				mustEqual(t, fmt.Sprintf("octet %d of %s", at, path), got, f.live)
			}
			crash(s)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A damaged lineage is filled anew, and then whole again.
func TestDamageHeals(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, 4<<10)
	f := mustFeed(t, s)
	f.begin()
	f.full()
	for i := range 30 {
		f.frame(set(fmt.Sprint(i), strings.Repeat("v", 500)))
	}
	crash(s)
	path := segments(t, dir)[1]
	whole, _ := os.ReadFile(path)
	whole[len(whole)/2] ^= 1
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, 4<<10)
	if st := s.State(testLineage); !st.Damaged || st.Full {
		t.Fatalf("%+v", st)
	}
	live := f.live
	f = mustFeed(t, s)
	f.begin()
	for k, v := range live {
		f.chunk(set(k, v))
	}
	f.full()
	f.l.syncOnce()
	if st := s.State(testLineage); st.Damaged || !st.Full {
		t.Fatalf("%+v", st)
	}
	mustEqual(t, "filled anew", content(t, s), live)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, 4<<10)
	mustEqual(t, "opened again", content(t, s), live)
	crash(s)
}

func TestDamagedFence(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, 0)
	mustFeed(t, s)
	crash(s)
	path := filepath.Join(dir, "00000007", fenceFile)
	b, _ := os.ReadFile(path)
	b[7] = 0
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(StoreConfig{Dir: dir}); !errors.Is(err, ErrChecksum) {
		t.Errorf("opened with %v", err)
	}
}

// Space: a log from which almost all was deleted gives it back, also behind records that stay.
func TestCollect(t *testing.T) {
	dir := t.TempDir()
	const segment = 64 << 10
	s := mustOpen(t, dir, segment)
	f := mustFeed(t, s)
	f.begin()
	f.full()
	value := strings.Repeat("v", 1000)
	for i := range 5000 {
		f.frame(set(fmt.Sprint(i), value), del(fmt.Sprint(i-20)), set("stays"+fmt.Sprint(i%7), fmt.Sprint(i/1000)))
		if i%200 == 0 {
			f.frame(set(fmt.Sprint("long", i), value))
			f.l.syncOnce()
		}
	}
	f.l.syncOnce()
	if err := f.l.collect(); err != nil {
		t.Fatal(err)
	}
	var disk, live int64
	for _, p := range segments(t, dir) {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		disk += info.Size()
	}
	for _, v := range f.live {
		live += int64(len(v))
	}
	if disk > 2*live+4*segment {
		t.Errorf("%d octets on disk for %d", disk, live)
	}
	mustEqual(t, "collected", content(t, s), f.live)
	crash(s)
	s = mustOpen(t, dir, segment)
	mustEqual(t, "opened again", content(t, s), f.live)
	if !s.Full(testLineage) {
		t.Error("not full")
	}
	crash(s)
}

// A store against a map: fills that are begun and not ended, live frames between chunks, collections, kills.
func TestStoreModel(t *testing.T) {
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		dir := filepath.Join(root, fmt.Sprint(runs))
		const segment = 4 << 10
		s := mustOpen(t, dir, segment)
		f := mustFeed(t, s)
		defer func() { crash(s) }()
		owner := map[string]string{} // what the owner has
		var filling []Op             // what a fill has yet to bring
		var begun, full bool
		key := rapid.IntRange(0, 30)
		steps := rapid.IntRange(10, 120).Draw(rt, "steps")
		for range steps {
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0:
				if full && rapid.IntRange(0, 2).Draw(rt, "again") > 0 {
					continue
				}
				f.begin()
				begun, full, filling = true, false, nil
				for k, v := range owner { // a scan that shows the state as of now, brought late
					filling = append(filling, set(k, v))
				}
			case 1, 2:
				if begun && !full && len(filling) > 0 {
					n := rapid.IntRange(1, len(filling)).Draw(rt, "chunk")
					f.chunk(filling[:n]...)
					filling = filling[n:]
				}
			case 3:
				if begun && !full && len(filling) == 0 {
					f.full()
					full = true
				}
			case 4:
				f.l.syncOnce()
				if err := f.l.collect(); err != nil {
					rt.Fatal(err)
				}
			case 5:
				crash(s)
				s = mustOpen(t, dir, segment)
				fill := f.fill
				f = mustFeed(t, s)
				f.fill = fill
			default:
				if !begun {
					continue
				}
				var list []Op
				for range rapid.IntRange(1, 4).Draw(rt, "ops") {
					k := fmt.Sprint(key.Draw(rt, "key"))
					if rapid.Bool().Draw(rt, "delete") {
						list = append(list, del(k))
						delete(owner, k)
					} else {
						v := strings.Repeat(k, rapid.IntRange(1, 200).Draw(rt, "size"))
						list = append(list, set(k, v))
						owner[k] = v
					}
				}
				f.frame(list...)
			}
			if full {
				mustEqual(t, "full", content(t, s), owner)
			}
		}
	})
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A key costs little memory, and a queue that drained gives it back.
func TestIndexMemory(t *testing.T) {
	l, names := newLayer(true), newDigester()
	before := heap()
	const n = 200_000
	for i := range n {
		l.live[names.of(fmt.Appendf(nil, "key%d", i))] = loc{1, uint32(i), 100}
	}
	each := (heap() - before) / n
	if len(l.live) != n || each > 60 {
		t.Errorf("%d keys, %d octets each", len(l.live), each)
	}
	clear(l.live)
	l.peak = n
	l.shrink()
	if l.peak != 0 {
		t.Error("the index keeps its size")
	}
}
