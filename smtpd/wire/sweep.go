package wire

import (
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Sweep ends the connection if it is overdue. It is safe for concurrent use; the server calls it for every
// connection each Env.Interval, which replaces deadlines on every read (and their cost).
func (c *Conn) Sweep() {
	l, now := &c.env.limits, c.env.now.Load()
	silent := time.Duration(now - c.since.Load())
	taken := time.Duration(now - c.begun.Load())
	phase := c.phase.Load()
	switch phase {
	case phaseOpen:
		limit := l.Handshake
		if c.proxy {
			limit = l.Header + l.Handshake
		}
		if taken > limit {
			c.Cut(replyIdle)
		}
	case phaseIdle, phaseWait:
		// A client that says a recipient now and then would hold its place for days (threat T7).
		if begun := c.txAt.Load(); silent > l.Idle || begun != 0 && time.Duration(now-begun) > l.Envelope {
			c.Cut(replyIdle)
		}
	case phaseLine:
		if taken > l.Command {
			c.Cut(replySlow)
		}
	case phaseData:
		switch {
		case silent > l.DataIdle:
			c.Cut(replyIdle)
		case taken > l.DataMax, taken > l.RateGrace && float64(c.got.Load()) < taken.Seconds()*float64(l.MinRate):
			c.Cut(replySlow)
		}
	case phaseWrite:
		if silent > l.Write {
			c.Cut(replySlow)
			_ = c.tcp.SetDeadline(clock.Wall()) // it waits in a write: no last words
		}
	}
}

// Cut makes the connection say reply and end as soon as it waits for its client. Safe for concurrent use.
func (c *Conn) Cut(reply string) {
	c.cut.CompareAndSwap(nil, &reply)
	_ = c.tcp.SetReadDeadline(time.Unix(1, 0))
	c.callUp()
}

// CutIdle ends the connection if it waits for its client outside any transaction. Safe for concurrent use.
func (c *Conn) CutIdle() {
	switch c.phase.Load() {
	case phaseOpen, phaseIdle, phaseLine:
		if c.txAt.Load() == 0 {
			c.Cut(replyShutdown)
		}
	}
}

// inTxGrace is how long a client may be silent inside a transaction before that counts as silence.
const inTxGrace = 30 * time.Second

// Silent tells how long the client has been expected to say something and has not finished it, 0 while it is the
// server's turn or a body comes in, and in the first half minute inside a transaction. Safe for concurrent use.
func (c *Conn) Silent() time.Duration {
	switch c.phase.Load() {
	case phaseOpen, phaseLine:
		return time.Duration(c.env.now.Load() - c.begun.Load())
	case phaseIdle:
		return time.Duration(c.env.now.Load() - c.since.Load())
	case phaseWait:
		return max(0, time.Duration(c.env.now.Load()-c.since.Load())-inTxGrace)
	}
	return 0
}

// Evict ends a silent connection to make room for another. Safe for concurrent use.
func (c *Conn) Evict() { c.Cut(replyEvicted) }
