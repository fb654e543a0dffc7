package wire

import (
	"net"
	"sync"
	"sync/atomic"
)

// maxGathered bounds what is gathered for one write, octets.
const maxGathered = 256 << 10

// gather is the connection below TLS. crypto/tls writes each record (16 KiB) by itself; while held, gather puts records
// together, so that a large block is one write and wakes its reader once. What is written while it is held counts as
// written: an error comes with the flush, and with every write after it.
type gather struct {
	net.Conn
	mu   sync.Mutex
	held int // writers that flush when they are through
	buf  []byte
	err  error
	busy atomic.Bool // what was gathered is being written
}

// Write implements net.Conn.
func (g *gather) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == 0 && len(g.buf) == 0 && g.err == nil {
		return g.Conn.Write(b)
	}
	g.buf = append(g.buf, b...)
	if g.held == 0 || len(g.buf) >= maxGathered {
		g.send()
	}
	if g.err != nil {
		return 0, g.err
	}
	return len(b), nil
}

// send writes what was gathered. g.mu is held.
func (g *gather) send() {
	if g.err == nil && len(g.buf) > 0 {
		g.busy.Store(true)
		_, g.err = g.Conn.Write(g.buf)
		g.busy.Store(false)
	}
	g.buf = g.buf[:0]
}

func (g *gather) hold() {
	g.mu.Lock()
	g.held++
	g.mu.Unlock()
}

// flush ends a hold.
func (g *gather) flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
	g.send()
	return g.err
}
