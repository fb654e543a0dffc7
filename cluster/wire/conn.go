package wire

import (
	"crypto/tls"
	"net"
	"sync"
)

// Conn is a connection with a member that proved who it is. It is what handlers, listeners and Dial hand out.
type Conn struct {
	*tls.Conn
	below *gather
	wire  *Wire
	peer  Peer
	proto string
	once  sync.Once
}

// Peer returns the member at the other end.
func (c *Conn) Peer() Peer { return c.peer }

// Protocol returns the protocol and version agreed on.
func (c *Conn) Protocol() string { return c.proto }

// maxRecord is what TLS puts into one record at most, octets (RFC 8446 §5.1).
const maxRecord = 16 << 10

// Write implements net.Conn: what takes several records of TLS goes out in one write.
func (c *Conn) Write(b []byte) (n int, err error) {
	if len(b) <= maxRecord {
		return c.Conn.Write(b)
	}
	c.below.hold()
	n, err = c.Conn.Write(b)
	if failed := c.below.flush(); err == nil && failed != nil {
		n, err = 0, failed
	}
	return n, err
}

// Close says good-bye and closes. A peer that takes nothing may make it wait for TLS's 5 s.
func (c *Conn) Close() error {
	c.once.Do(func() { c.wire.forget(c) })
	if c.below.busy.Load() { // TLS does the same while it writes: a good-bye would wait for what is stuck
		return c.below.Close()
	}
	return c.Conn.Close()
}

// abort closes the connection below TLS, so that nothing can be waited for.
func (c *Conn) abort() {
	c.once.Do(func() { c.wire.forget(c) })
	_ = c.NetConn().Close()
}

// PeerOf returns the member at the other end of a connection that this package handed out.
func PeerOf(c net.Conn) (Peer, bool) {
	w, ok := c.(*Conn)
	if !ok {
		return Peer{}, false
	}
	return w.peer, true
}
