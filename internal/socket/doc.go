// Package socket moves octets in and out of TCP sockets that Go's poller watches, at the least cost of doing so. Receive and Send
// are called inside the functions given to a syscall.RawConn, which wait where a call says EAGAIN. Poll tells one goroutine which
// of many sockets have something to read.
//
// It must never keep a thread waiting, and it knows nothing of what the octets mean.
package socket
