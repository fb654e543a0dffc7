// Package socket moves octets in and out of TCP sockets that Go's poller watches, at the least cost of doing so. It is called
// inside the functions given to a syscall.RawConn, which wait where a call says EAGAIN.
//
// It must never wait itself, and it knows nothing of what the octets mean.
package socket
