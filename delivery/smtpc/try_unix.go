//go:build unix

package smtpc

import (
	"golang.org/x/sys/unix"
)

// canTryWrite tells that this system lets a goroutine write to a socket without ever waiting for it.
const canTryWrite = true

// writeOnce writes what the socket takes of s.out without waiting, and adds it to s.sent. A failure is left to the
// session's own write, which meets it again.
func (s *Session) writeOnce(fd uintptr) bool {
	if n, err := unix.Write(int(fd), s.out[s.sent:]); err == nil && n > 0 {
		s.sent += n
	}
	return true
}

// peekOnce looks whether anything waits in the socket and leaves the answer in s.peeked.
func (s *Session) peekOnce(fd uintptr) bool {
	_, _, err := unix.Recvfrom(int(fd), s.peekBuf[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	s.peeked = err != unix.EAGAIN && err != unix.EINTR
	return true
}
