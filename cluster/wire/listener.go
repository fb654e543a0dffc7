package wire

import (
	"net"
	"sync"
)

// listener is one protocol of a Wire as a net.Listener.
type listener struct {
	wire  *Wire
	proto string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Listener serves a protocol as a net.Listener, for libraries that want one. What it accepts is a *Conn; PeerOf says
// whose. Accept ends when the listener or the Wire is closed; closing it ends the protocol, as Unhandle does.
func (w *Wire) Listener(proto string) net.Listener {
	l := &listener{wire: w, proto: proto, conns: make(chan net.Conn), done: make(chan struct{})}
	w.Handle(proto, func(_ Peer, c net.Conn) {
		select {
		case l.conns <- c:
		case <-l.done:
			_ = c.Close()
		case <-w.ctx.Done():
			_ = c.Close()
		}
	})
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
	case <-l.wire.ctx.Done():
	}
	return nil, ErrClosed
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.wire.Unhandle(l.proto)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.wire.ln.Addr() }
