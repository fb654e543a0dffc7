package wire

import (
	"bytes"
	"io"
	"sync/atomic"
	"syscall"

	"github.com/ekiden-mta/ekiden/internal/socket"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// seat is a connection's place at a reactor. While it is taken, the reactor's goroutine has the connection, and the connection's
// own waits for back.
type seat struct {
	at      atomic.Pointer[reactor] // nil = it never sat
	token   int32
	back    chan struct{}
	taken   bool
	waiting bool // a message is on its way into the store: nothing is read before its answer
	more    bool // octets came meanwhile
	last    bool // an end or an error has arrived: it may lie behind what is read next
	receive func(uintptr) (done bool)
	send    func(uintptr) (done bool)
	n       int   // of the last receive or send
	err     error // the same; for the connection's goroutine why it was given back, nil = for what is in buf
}

// taking says how far the message that follows DATA has come.
type taking uint8

const (
	takingNone  taking = iota
	takingBody         // its end has not been seen
	takingWhole        // it is to be handed over
)

// sit waits at a reactor until the connection has to do something that a reactor does not do. Its octets are in buf then. It does
// not wait where there is no reactor. What is owed is written before anything is read: an end behind it must not hide it.
func (c *Conn) sit() {
	if !c.flush() {
		return
	}
	c.drop() // so that what buf holds from now on is the reactor's to keep
	s := &c.seat
	r := s.at.Load()
	if r == nil {
		if r = c.join(); r == nil {
			return
		}
	}
	r.mu.Lock()
	if r.stopping {
		r.mu.Unlock()
		return
	}
	r.seats++
	r.mu.Unlock()
	s.err = nil
	r.tell(c, callSit)
	<-s.back
	if s.err != nil {
		c.lost(s.err)
	}
}

// join gives the connection a place, nil where it cannot have one.
func (c *Conn) join() *reactor {
	if c.raw == nil {
		return nil
	}
	r := c.env.reactor()
	if r == nil {
		return nil
	}
	s := &c.seat
	s.back = make(chan struct{}, 1)
	s.receive, s.send = c.receiveOnce, c.sendOnce
	r.mu.Lock()
	if n := len(r.free); n > 0 {
		s.token, r.free = r.free[n-1], r.free[:n-1]
		r.conns[s.token] = c
	} else {
		s.token = int32(len(r.conns))
		r.conns = append(r.conns, c)
	}
	r.mu.Unlock()
	s.at.Store(r)
	var err error
	if e := c.raw.Control(func(fd uintptr) { err = r.poll.Add(fd, s.token) }); e != nil || err != nil {
		c.leave()
		return nil
	}
	return r
}

// leave gives the connection's place up. The socket may stay open, under TLS.
func (c *Conn) leave() {
	r := c.seat.at.Swap(nil)
	if r == nil {
		return
	}
	_ = c.raw.Control(func(fd uintptr) { r.poll.Remove(fd) })
	r.mu.Lock()
	r.conns[c.seat.token] = nil
	r.free = append(r.free, c.seat.token)
	r.mu.Unlock()
}

// callUp has the connection's goroutine see to it that it is cut or closed, where it sits at a reactor. Safe for concurrent use.
func (c *Conn) callUp() {
	if r := c.seat.at.Load(); r != nil {
		r.tell(c, callUp)
	}
}

// Answered tells the connection that the message which its policy began to hand over has an answer. Called once for each Begin
// that was true, from any goroutine, also before Begin returns.
func (c *Conn) Answered() {
	if r := c.seat.at.Load(); r != nil {
		r.tell(c, callAnswered)
	}
}

// turn reads what the socket holds and does it. False = the connection's own goroutine must go on; so with what follows.
func (c *Conn) turn(r *reactor) (stays bool) {
	defer c.guardTurn(&stays)
	s := &c.seat
	if err := c.raw.Read(s.receive); err != nil {
		s.err = err
		return false
	}
	switch {
	case s.err == syscall.EAGAIN:
		s.err = nil
		return c.settle()
	case s.err == nil && s.n == 0:
		s.err = io.EOF
	}
	if s.err != nil {
		return false
	}
	if s.n == len(r.buf) || s.last {
		r.fed = append(r.fed, c)
	}
	c.buf = r.buf[:s.n]
	return c.proceed()
}

// answered answers the message that was handed over, and goes on.
func (c *Conn) answered() (stays bool) {
	defer c.guardTurn(&stays)
	c.conclude(c.policy.End(c))
	return c.proceed()
}

// guardTurn is guard for what a reactor does.
func (c *Conn) guardTurn(stays *bool) {
	if v := recover(); v != nil {
		c.panicked(v)
		*stays = false
	}
}

// proceed does what the octets in buf ask for.
func (c *Conn) proceed() (stays bool) {
	for !c.closing && len(c.buf) > 0 {
		if c.taking == takingBody {
			if !c.proceedBody() {
				return false
			}
			if c.seat.waiting {
				c.keepRest()
				return true
			}
			continue
		}
		if !plain(c.buf) {
			return false
		}
		_, line, ok := c.line()
		if !ok {
			return false
		}
		c.command(nil, line)
		if len(c.out) > maxOut {
			return false
		}
	}
	return !c.closing && c.settle()
}

// proceedBody takes octets of a body, and hands the message over at its end. What cannot be taken, and what is large enough to
// keep others waiting, is for the connection's own goroutine.
func (c *Conn) proceedBody() (stays bool) {
	done := c.feedBody()
	if c.body.fault != FaultNone || len(c.body.buf) > bodySizes[len(bodySizes)-1] {
		return false
	}
	if done {
		c.seat.waiting = c.policy.Begin(c)
		return c.seat.waiting
	}
	return true
}

// plain tells whether p begins with a whole command that a reactor may do: one that is answered at once, or by a message.
func plain(p []byte) bool {
	if len(p) < 6 {
		return false
	}
	switch verbNamed(p[:4]) {
	case VerbMail, VerbRcpt, VerbData, VerbRset:
	default:
		if !smtp.EqualFold(p[:4], "NOOP") {
			return false
		}
	}
	return bytes.IndexByte(p[4:min(len(p), maxPlain)], '\n') >= 0
}

// maxPlain is how far plain looks for the end of a command, in octets.
const maxPlain = 512

// settle ends a turn: what is owed is written as far as the client takes it now, and the next move is the client's. False where
// the connection has to wait for that, or to end.
func (c *Conn) settle() (stays bool) {
	c.drop()
	if !c.sendOut() {
		return false
	}
	if c.taking == takingBody {
		c.since.Store(c.env.now.Load())
	} else if !c.awaitCommand() {
		return false
	}
	return c.cut.Load() == nil
}

// sendOut writes the replies gathered so far; false where the client does not take them all at once.
func (c *Conn) sendOut() bool {
	if len(c.out) == 0 {
		return true
	}
	s := &c.seat
	if err := c.raw.Write(s.send); err != nil {
		s.err = err
	}
	if s.err == syscall.EAGAIN {
		s.n, s.err = 0, nil
	}
	if s.err != nil {
		return false
	}
	c.out = c.out[:copy(c.out, c.out[s.n:])]
	if len(c.out) > 0 {
		return false
	}
	if cap(c.out) > keptOut {
		c.out = nil
	}
	return true
}

func (c *Conn) receiveOnce(fd uintptr) (done bool) {
	c.seat.n, c.seat.err = socket.Receive(fd, c.seat.at.Load().buf[:])
	return true
}

func (c *Conn) sendOnce(fd uintptr) (done bool) {
	c.seat.n, c.seat.err = socket.Send(fd, c.out)
	return true
}

// keepRest puts octets that are not taken yet where they stay.
func (c *Conn) keepRest() {
	if len(c.buf) == 0 {
		c.drop()
		return
	}
	if c.big != nil {
		return
	}
	c.big = c.env.big.Get().(*[bigSize]byte)
	c.buf = c.big[:copy(c.big[:], c.buf)]
}
