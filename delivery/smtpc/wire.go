package smtpc

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

const inSize = 4 << 10 // octets of the read buffer; it grows for a long reply, up to what smtp.ScanReply bears

// errOutOfTurn is a reply that nothing asked for. Whatever follows it answers the wrong question.
var errOutOfTurn = errors.New("reply out of turn")

// wire reads replies from a connection and writes to it, with deadlines that are moved only when they have to be: a
// time-out is never shorter than asked for and at most a tenth longer, unless a longer one was set just before.
type wire struct {
	conn    net.Conn
	raw     syscall.RawConn // nil where writes cannot be made below the connection's own (TLS)
	socket  syscall.RawConn // to look whether something waits in it, also below TLS; nil where that cannot be seen
	in      []byte
	r, w    int // in[r:w] is read and not consumed
	readBy  time.Time
	writeBy time.Time
	err     error // why no further read can succeed: the kernel tells it once only

	to      io.Writer                 // conn, or what writes below it
	receive func(uintptr) (done bool) // receiveOnce, bound once
	n       int                       // octets that the read under way has got
	failed  error                     // why it gets none

	last      []byte // the reply parsed last, as it came, and parsed: most receivers repeat themselves
	lastReply smtp.Reply
}

func newWire(conn net.Conn) wire {
	w := wire{conn: conn, to: conn, in: make([]byte, inSize)}
	if sc, ok := conn.(syscall.Conn); ok && canTryWrite {
		w.raw, _ = sc.SyscallConn()
		w.socket = w.raw
		if w.raw != nil {
			w.to = below(w.raw)
		}
	}
	return w
}

// above returns a wire of secure, which is TLS on c.
func (c *wire) above(secure net.Conn) wire {
	w := newWire(secure)
	w.socket = c.socket
	return w
}

// lookWait is how long a record that has begun to arrive is waited for.
const lookWait = 50 * time.Millisecond

// look reads what waits in the socket and tells whether it is the receiver's word, or the end of the connection. Under TLS
// it may be neither: a ticket, say.
func (c *wire) look() bool {
	c.readBy = time.Time{} // the next read sets its own
	_ = c.conn.SetReadDeadline(clock.Wall().Add(lookWait))
	err := c.fill()
	return err == nil || !errors.Is(err, os.ErrDeadlineExceeded)
}

// buffered tells whether octets wait that no reply has consumed.
func (c *wire) buffered() bool { return c.r < c.w }

// reply returns the code of the next reply and the reply as it came, which is valid until the next read. The whole
// reply has to be there within d.
func (c *wire) reply(d time.Duration) (code int, raw []byte, err error) {
	waiting := false
	for {
		code, n, err := smtp.ScanReply(c.in[c.r:c.w])
		if err != nil {
			return 0, nil, err
		}
		if n > 0 {
			raw = c.in[c.r : c.r+n]
			c.r += n
			return code, raw, nil
		}
		if !waiting {
			c.readWithin(d)
			waiting = true
		}
		// ScanReply starts over each time, so do not ask it before a line has ended.
		for had, size := c.w-c.r, 0; ; {
			if err := c.fill(); err != nil {
				return 0, nil, err
			}
			size = c.w - c.r
			if bytes.IndexByte(c.in[c.r+had:c.w], '\n') >= 0 || size-had > 4096 {
				break
			}
		}
	}
}

// parse returns raw, a reply that reply returned, with its words.
func (c *wire) parse(raw []byte) smtp.Reply {
	if bytes.Equal(raw, c.last) {
		return c.lastReply
	}
	r, _, _ := smtp.ParseReply(raw) // it has been scanned
	if len(r.Text) > maxWords {
		r.Text = r.Text[:maxWords]
	}
	c.last = append(c.last[:0], raw...)
	c.lastReply = r
	return r
}

// maxWords is how much of a receiver's reply goes into an outcome, in octets.
const maxWords = 1000

// fill makes one read into the buffer.
func (c *wire) fill() error {
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
	case c.w == len(c.in) && c.r > 0:
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	case c.w == len(c.in):
		c.in = append(c.in, make([]byte, len(c.in))...) // bounded: ScanReply gives up beyond smtp.MaxReply
	}
	if c.err != nil {
		return c.err
	}
	n, err := c.read()
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.err = err
	}
	return err
}

// read makes one read behind what the buffer holds.
func (c *wire) read() (int, error) {
	if c.raw == nil {
		return c.conn.Read(c.in[c.w:])
	}
	if c.receive == nil {
		c.receive = c.receiveOnce
	}
	c.n, c.failed = 0, nil
	if err := c.raw.Read(c.receive); err != nil {
		return 0, err
	}
	return c.n, c.failed
}

// readWithin makes reads fail d from now on, or a little later.
func (c *wire) readWithin(d time.Duration) {
	now := clock.Wall()
	if left := c.readBy.Sub(now); left < d || left > 3*d {
		c.readBy = now.Add(d + d/10)
		_ = c.conn.SetReadDeadline(c.readBy) // fails only on a closed connection, and then the read says so
	}
}

func (c *wire) writeWithin(d time.Duration) {
	now := clock.Wall()
	if left := c.writeBy.Sub(now); left < d || left > 3*d {
		c.writeBy = now.Add(d + d/10)
		_ = c.conn.SetWriteDeadline(c.writeBy)
	}
}

// write writes b within d and returns how much of it went out.
func (c *wire) write(b []byte, d time.Duration) (int, error) {
	c.writeWithin(d)
	return c.to.Write(b)
}

// describe puts a failed read or write into words for an outcome.
func describe(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return mail.Stalled.String()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return mail.Closed.String()
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return mail.Reset.String()
	case errors.Is(err, net.ErrClosed):
		return "connection closed by us"
	case errors.Is(err, smtp.ErrReplySyntax), errors.Is(err, smtp.ErrReplyTooLong), errors.Is(err, errOutOfTurn):
		return err.Error()
	}
	text := err.Error()
	return text[:min(len(text), 200)]
}
