package queue

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Badger writes its logs through mappings. Where the page cache uses large folios (new kernels, large device
// read-ahead), a sync writes whole megabytes for a record of one kilobyte. MADV_RANDOM on the mapping turns the
// read-ahead off that makes them so large: 2.6 KB instead of 30 KB written per message.

// fileWatch tells of files that Badger creates.
type fileWatch struct {
	events *os.File
	ended  chan struct{}
}

// watchFiles starts to look for new files in the store's directory. Best effort: without inotify the store is slower.
func (s *Store) watchFiles() {
	dir, err := filepath.Abs(s.cfg.Dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		s.log.Warn("no watch on the store's files", "err", err)
		return
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		s.log.Warn("no watch on the store's files", "err", err)
		return
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE); err != nil {
		s.log.Warn("no watch on the store's files", "err", err)
		_ = unix.Close(fd)
		return
	}
	w := &fileWatch{events: os.NewFile(uintptr(fd), "inotify"), ended: make(chan struct{})}
	s.watch = w
	go func() {
		defer close(w.ended)
		w.follow(dir, s)
	}()
}

// follow reserves every log that appears and advises the kernel on it.
func (w *fileWatch) follow(dir string, s *Store) {
	buf := make([]byte, 16<<10)
	for {
		n, err := w.events.Read(buf)
		if err != nil {
			return
		}
		for raw := buf[:n]; len(raw) >= unix.SizeofInotifyEvent; {
			size := int(binary.NativeEndian.Uint32(raw[12:]))
			name := strings.TrimRight(string(raw[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size]), "\x00")
			raw = raw[unix.SizeofInotifyEvent+size:]
			if isLog(name) {
				_ = s.reserveLog(name, 0)
				awaitMapping(dir, name)
			}
		}
	}
}

func isLog(name string) bool {
	return strings.HasSuffix(name, ".mem") || strings.HasSuffix(name, ".vlog")
}

// awaitMapping advises once the file is mapped, which follows its creation at once.
func awaitMapping(dir, name string) {
	for wait := time.Millisecond; wait < time.Second; wait *= 2 {
		if n, err := adviseMappings(dir, name); n > 0 || err != nil {
			return
		}
		time.Sleep(wait)
	}
}

func (s *Store) stopWatching() {
	if s.watch != nil {
		_ = s.watch.events.Close()
		<-s.watch.ended
		s.watch = nil
	}
}

// adviseRandom advises on the logs that are open.
func (s *Store) adviseRandom() {
	dir, err := filepath.Abs(s.cfg.Dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err == nil {
		_, err = adviseMappings(dir, "")
	}
	if err != nil {
		s.log.Warn("no advice on the store's mappings", "err", err)
	}
}

// adviseMappings gives MADV_RANDOM to the mappings of dir's logs, or of one of them, and returns how many there are.
// A mapping that goes meanwhile costs nothing: it is advice only.
func adviseMappings(dir, name string) (int, error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	n := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		i := strings.IndexByte(line, '/')
		if i < 0 || filepath.Dir(line[i:]) != dir || !isLog(line[i:]) || name != "" && filepath.Base(line[i:]) != name {
			continue
		}
		from, to, ok := strings.Cut(line[:strings.IndexByte(line, ' ')], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if !ok || err1 != nil || err2 != nil {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_RANDOM); errno != 0 {
			return n, fmt.Errorf("madvise: %w", errno)
		}
		n++
	}
	return n, lines.Err()
}

// bytesWritten returns what this process has made the kernel write so far.
func bytesWritten() (int64, bool) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return u.Oublock * 512, true
}

func diskSpace(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// reserveLog gives the log called name, while it is written, every block it may be written to and extra bytes more: what
// Badger writes through its mapping then finds room on a full disk too, where a hole is SIGBUS. A file that is finished
// is left as it is. Where there is not that much room, half of what is left is reserved and ErrDiskFull returned.
//
// The size stays as it is: Badger takes a file that has one for an old one.
func (s *Store) reserveLog(name string, extra int64) error {
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, name), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reserve log: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("reserve log: %w", err)
	}
	want := logRoom(name)
	if info.Size() != 0 && info.Size() < want {
		return nil
	}
	want += extra
	missing := want - allocated(info)
	if missing <= 0 {
		return nil
	}
	free, _, err := diskSpace(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("reserve log: %w", err)
	}
	short := free < uint64(missing)+s.space.least.Load()
	if short {
		want -= missing - int64(min(free/2, uint64(missing)/2))
	}
	err = unix.EINTR
	for errors.Is(err, unix.EINTR) {
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, want)
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil
	case errors.Is(err, unix.ENOSPC) || err == nil && short:
		return ErrDiskFull
	case err != nil:
		return fmt.Errorf("reserve log: %w", err)
	}
	return nil
}

// reserve makes a file of size bytes that really takes them.
func reserve(path string, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return unix.Fallocate(int(f.Fd()), 0, 0, size)
}

// allocated is what a file takes on disk: Badger's logs are sparse.
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
