//go:build linux && (amd64 || arm64) && !race

package socket

import (
	"syscall"
	"unsafe"
)

// Receive reads what waits at the socket fd into p, which must not be empty. 0 without an error is the end of the stream; EAGAIN,
// that nothing waits.
//
// recvfrom(2) reaches the socket without the layers that a read(2) of any kind of file passes, and as it cannot wait here, Go's
// scheduler need not be told of it (docs/adr/0025).
func Receive(fd uintptr, p []byte) (n int, err error) {
	return transfer(syscall.SYS_RECVFROM, fd, p, syscall.MSG_DONTWAIT)
}

// Send writes what the socket fd takes of p, which must not be empty, and returns how much that was. EAGAIN: it takes nothing now.
func Send(fd uintptr, p []byte) (n int, err error) {
	return transfer(syscall.SYS_SENDTO, fd, p, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

func transfer(call, fd uintptr, p []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, syscall.EAGAIN // a constant: no allocation
		}
		return 0, errno
	}
}
