package seal

import (
	"os"

	"golang.org/x/sys/unix"
)

// page is memory outside Go's heap that holds one secret: never moved, never copied by the runtime.
type page struct {
	mem  []byte
	kind string
}

// newPage maps a page, lets fill write the secret into it and makes it read-only. It prefers memfd_secret(2), whose pages leave the
// kernel's own map, so that /proc/PID/mem, ptrace and a kernel core dump do not show them; else an anonymous page
// that is locked in RAM and left out of core files. A page that could not even be locked is still used, and says so.
func newPage(fill func([]byte)) (page, error) {
	size := os.Getpagesize()
	p, err := secretPage(size)
	if err != nil {
		if p, err = lockedPage(size); err != nil {
			return page{}, err
		}
	}
	fill(p.mem)
	if err := unix.Mprotect(p.mem, unix.PROT_READ); err != nil {
		p.close()
		return page{}, err
	}
	return p, nil
}

func secretPage(size int) (page, error) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return page{}, err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return page{}, err
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return page{}, err
	}
	return page{mem: mem, kind: "memfd_secret"}, nil
}

func lockedPage(size int) (page, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return page{}, err
	}
	kind := "mlock"
	if unix.Mlock(mem) != nil {
		kind = "none"
	}
	// Best effort: RLIMIT_CORE 0 (Harden) already keeps a core file from being written.
	_ = unix.Madvise(mem, unix.MADV_DONTDUMP)
	return page{mem: mem, kind: kind}, nil
}

func (p *page) close() error {
	if p.mem == nil {
		return nil
	}
	mem := p.mem
	p.mem = nil
	if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE); err == nil {
		clear(mem)
	}
	return unix.Munmap(mem)
}
