//go:build unix

package smtpc

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ekiden-mta/ekiden/internal/socket"
)

// canTryWrite tells that this system lets a goroutine write to a socket without ever waiting for it.
const canTryWrite = true

// writeOnce writes what the socket takes of s.out without waiting, and adds it to s.sent. A failure is left to the
// session's own write, which meets it again.
func (s *Session) writeOnce(fd uintptr) bool {
	if n, err := socket.Send(fd, s.out[s.sent:]); err == nil {
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

// receiveOnce reads what waits in the socket into c.in.
func (c *wire) receiveOnce(fd uintptr) bool {
	n, err := socket.Receive(fd, c.in[c.w:])
	if err == unix.EAGAIN {
		return false
	}
	if c.n, c.failed = n, err; n == 0 && err == nil {
		c.failed = io.EOF
	}
	return true
}

// below returns what writes to the socket of raw itself.
func below(raw syscall.RawConn) io.Writer { return socket.NewWriter(raw) }
