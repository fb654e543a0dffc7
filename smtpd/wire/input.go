package wire

import (
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/ekiden-mta/ekiden/internal/socket"
)

// fill waits for more octets and appends them to buf, after writing what is owed.
func (c *Conn) fill() bool {
	if !c.flush() {
		return false
	}
	switch {
	case c.phase.Load() == phaseData, c.phase.Load() == phaseOpen:
		c.since.Store(c.env.now.Load())
	case len(c.buf) > 0 || c.authLine:
		if c.phase.Load() != phaseLine {
			c.begun.Store(c.env.now.Load())
		}
		c.enter(phaseLine)
	case !c.awaitCommand():
		return false
	}
	if c.cut.Load() != nil {
		c.endCut()
		return false
	}
	if c.raw == nil {
		return c.fillSmall()
	}
	c.small = append(c.small[:0], c.buf...)
	c.drop()
	c.readN, c.readE = 0, nil
	if err := c.raw.Read(c.read); err != nil {
		c.readE = err
	}
	if c.readN <= 0 {
		c.lost(c.readE)
		return false
	}
	return true
}

// awaitCommand notes that it is for the client to begin a command; false where the server goes down, which it is told outside any
// transaction.
func (c *Conn) awaitCommand() bool {
	switch {
	case c.mail:
		c.enter(phaseWait)
	case c.env.draining.Load():
		c.end(replyShutdown)
		return false
	default:
		c.enter(phaseIdle)
	}
	return true
}

// readSocket is called when the socket may have octets; it borrows a buffer only for the ones that are there.
func (c *Conn) readSocket(fd uintptr) bool {
	big := c.env.big.Get().(*[bigSize]byte)
	kept := copy(big[:], c.small)
	n, err := socket.Receive(fd, big[kept:])
	if n > 0 {
		c.big, c.buf, c.readN = big, big[:kept+n], n
		return true
	}
	c.env.big.Put(big)
	if err == syscall.EAGAIN {
		return false
	}
	c.readN, c.readE = 0, err
	if err == nil {
		c.readE = io.EOF
	}
	return true
}

// fillSmall reads through the buffer of our own.
func (c *Conn) fillSmall() bool {
	kept := copy(c.small[:cap(c.small)], c.buf)
	if kept > cap(c.small)/2 {
		c.small = append(make([]byte, 0, 2*cap(c.small)), c.small[:kept]...)
	}
	n, err := c.below.Read(c.small[kept:cap(c.small)])
	c.buf = c.small[:kept+n]
	if n <= 0 {
		c.lost(err)
		return false
	}
	return true
}

// drop gives the read buffer back.
func (c *Conn) drop() {
	if c.big != nil {
		c.env.big.Put(c.big)
		c.big = nil
	}
	c.buf = nil
}

// lost ends the connection after a failed read.
func (c *Conn) lost(err error) {
	c.drop()
	if c.cut.Load() != nil {
		c.endCut()
		return
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.end(replyIdle)
		return
	}
	c.closing = true
	c.out = c.out[:0]
}
