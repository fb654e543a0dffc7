//go:build unix && (race || !linux || (!amd64 && !arm64))

// The race detector knows package syscall's reads and writes, and takes what passes through a socket for the order of events that it
// is; of bare calls it knows nothing.

package socket

import "syscall"

// Receive reads what waits at the socket fd into p, which must not be empty. 0 without an error is the end of the stream; EAGAIN,
// that nothing waits.
func Receive(fd uintptr, p []byte) (n int, err error) { return again(syscall.Read, fd, p) }

// Send writes what the socket fd takes of p, which must not be empty, and returns how much that was. EAGAIN: it takes nothing now.
func Send(fd uintptr, p []byte) (n int, err error) { return again(syscall.Write, fd, p) }

func again(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR:
			continue
		}
		return 0, err
	}
}
