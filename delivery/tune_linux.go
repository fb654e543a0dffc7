package delivery

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tune sets what a socket needs before it connects. TCP_USER_TIMEOUT keeps a kernel that was cut off from delivering a
// buffered dot long afterwards; IP_BIND_ADDRESS_NO_PORT lets one source IP reach many receivers from the same port.
// Neither is worth failing for.
func tune(raw syscall.RawConn, bound bool, userTimeout time.Duration) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		if bound {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		}
	})
}
