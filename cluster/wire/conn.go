package wire

import (
	"crypto/tls"
	"net"
	"sync"
)

// Conn is a connection with a member that proved who it is. It is what handlers, listeners and Dial hand out.
type Conn struct {
	*tls.Conn
	wire  *Wire
	peer  Peer
	proto string
	once  sync.Once
}

// Peer returns the member at the other end.
func (c *Conn) Peer() Peer { return c.peer }

// Protocol returns the protocol and version agreed on.
func (c *Conn) Protocol() string { return c.proto }

// Close says good-bye and closes. A peer that takes nothing may make it wait for TLS's 5 s.
func (c *Conn) Close() error {
	c.once.Do(func() { c.wire.forget(c) })
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
