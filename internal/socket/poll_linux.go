package socket

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Poll tells one goroutine which of many sockets have something to read (epoll(7), edge-triggered): a socket is named for octets,
// an end or an error that arrived, and again only for what arrives afterwards. It waits as a connection's Read does, by Go's own
// poller, so that no thread is spent on it.
//
// Add, Remove and Wake are safe for concurrent use, also after Close; Wait and Close belong to one goroutine.
type Poll struct {
	file   *os.File // the epoll instance
	raw    syscall.RawConn
	wake   *os.File                  // an eventfd among what is watched
	look   func(uintptr) (done bool) // collect, bound once
	busy   func() bool               // of the Wait under way
	events [64]unix.EpollEvent
	n      int // of events, collected last
	ready  [64]Ready
}

// wakeToken is the eventfd's.
const wakeToken = -1

// NewPoll returns a Poll that watches nothing.
func NewPoll() (*Poll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("socket: epoll: %w", err)
	}
	p := &Poll{}
	p.look = p.collect
	if err := unix.SetNonblock(fd, true); err != nil { // or Go would not watch it
		_ = unix.Close(fd)
		return nil, fmt.Errorf("socket: epoll: %w", err)
	}
	p.file = os.NewFile(uintptr(fd), "epoll")
	if err = p.file.SetReadDeadline(time.Time{}); err == nil { // it fails where Go could not watch it
		p.raw, err = p.file.SyscallConn()
	}
	if err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("socket: epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("socket: eventfd: %w", err)
	}
	p.wake = os.NewFile(uintptr(wake), "eventfd")
	if err := p.Add(uintptr(wake), wakeToken); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Add watches the socket fd until it is closed. token, which is not negative, names it in what Wait returns. What waits in the
// socket already may be named or not.
func (p *Poll) Add(fd uintptr, token int32) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: token}
	var err error
	if e := p.raw.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, int(fd), &e) }); e != nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("socket: watch: %w", err)
	}
	return nil
}

// Remove ends what Add began.
func (p *Poll) Remove(fd uintptr) {
	_ = p.raw.Control(func(epoll uintptr) { _ = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_DEL, int(fd), nil) })
}

// Wake makes Wait return.
func (p *Poll) Wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = p.wake.Write(one[:])
}

// Wait returns the sockets that became ready, and waits where there is none. Before it waits it asks busy; with true it returns
// nothing instead. What it returns holds until the next call.
func (p *Poll) Wait(busy func() bool) []Ready {
	p.busy, p.n = busy, 0
	if err := p.raw.Read(p.look); err != nil {
		panic(fmt.Sprintf("socket: wait after Close: %v", err))
	}
	ready := p.ready[:0]
	for i := range p.events[:p.n] {
		if e := &p.events[i]; e.Fd != wakeToken {
			ready = append(ready, Ready{Token: e.Fd, Last: e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0})
		}
	}
	return ready
}

func (p *Poll) collect(fd uintptr) (done bool) {
	if n, err := unix.EpollWait(int(fd), p.events[:], 0); err == nil {
		p.n = n
	}
	return p.n > 0 || p.busy()
}

// Close ends the Poll. Sockets stay open.
func (p *Poll) Close() {
	_ = p.file.Close()
	_ = p.wake.Close()
}
