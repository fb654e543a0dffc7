package smtpc

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Session is an open SMTP connection to a receiver. Open makes one; Carry uses it up.
type Session struct {
	cfg    *Config
	peer   Peer
	local  netip.Addr // source IP
	c      wire
	caps   Caps
	secure bool // under TLS

	work    Work
	limits  Limits
	ctx     context.Context
	result  Result
	dead    bool        // close, no QUIT
	stopped atomic.Bool // closed by us because the context ended

	flights   [2]flight // the one under way and the one whose envelope follows it
	accepted  *flight   // its envelope is accepted, its body is due
	departing *flight   // its body and dot are what s.out ends
	begun     int       // envelopes sent
	until     time.Time // when the last of them may be begun, wall time; only kept with a limit
	served    int       // transactions the receiver answered to the end
	last      time.Time // when the last one began, wall time; only kept with an interval
	unclean   bool      // the last transaction was broken off: RSET before the next MAIL (RFC 5321 §4.1.4)
	group     bool      // replies of a group behind a body are awaited

	gate     gate
	durable  func(error)               // onDurable, bound once
	tryWrite func(uintptr) (done bool) // writeOnce, bound once
	peek     func(uintptr) (done bool) // peekOnce, bound once
	peeked   bool                      // something waits in the socket
	peekBuf  [1]byte
	out      []byte // the next write
	sent     int    // octets of out that are out
	cleared  bool   // the answer of Work.Clear
}

// Caps returns what the receiver offered.
func (s *Session) Caps() Caps { return s.caps }

// Secure tells whether the session is under TLS.
func (s *Session) Secure() bool { return s.secure }

// Carry sends what w gives until there is no more, a limit is reached, ctx ends (the open transaction is finished
// first, within Timeouts.Stop) or the connection fails; then it closes the connection. Every job taken from w has
// been settled or returned when it comes back, though outcomes may not be durable yet.
//
// Per message and round trip, with PIPELINING:
//
//	─▶ MAIL RCPT DATA          ◀─ 250 250 354
//	─▶ body . MAIL RCPT DATA   ◀─ 250 250 250 354      as long as there is a next message
//	─▶ body .                  ◀─ 250                  then Work.Next with the linger time, or QUIT
//
// With CHUNKING as well: ─▶ MAIL RCPT BDAT-LAST body, one write per message.
func (s *Session) Carry(ctx context.Context, w Work, l Limits) Result {
	s.ctx, s.work, s.limits = ctx, w, l
	if s.caps.MailMax > 0 && (s.limits.Messages == 0 || s.caps.MailMax < s.limits.Messages) {
		s.limits.Messages = s.caps.MailMax
	}
	if l.Time > 0 {
		s.until = clock.Wall().Add(l.Time)
	}
	defer context.AfterFunc(ctx, s.stop)()
	for !s.dead {
		f := s.accepted
		s.accepted = nil
		if f != nil {
			s.finish(f)
			continue
		}
		if f = s.take(); f == nil {
			break
		}
		switch {
		case f.chunk && s.caps.Pipelining && s.limits.Groups:
			s.sendWhole(f)
		case s.envelope(f):
			s.accepted = f
		}
	}
	s.close()
	return s.result
}

// stop closes the connection some time after the context has ended, whatever the session waits for.
func (s *Session) stop() {
	time.AfterFunc(s.cfg.Timeouts.Stop, func() {
		s.stopped.Store(true)
		s.gate.fail(errStopped)
		_ = s.c.conn.Close()
	})
}

// close ends the connection: politely where nothing is outstanding.
func (s *Session) close() {
	if !s.dead {
		t := s.cfg.Timeouts.Quit
		if _, err := s.c.write([]byte("QUIT\r\n"), t); err == nil {
			_, _, _ = s.c.reply(t)
		}
	}
	_ = s.c.conn.Close()
}

// spare returns the flight that is not other.
func (s *Session) spare(other *flight) *flight {
	if other == &s.flights[0] {
		return &s.flights[1]
	}
	return &s.flights[0]
}

// exhausted tells whether no further transaction may begin on this connection.
func (s *Session) exhausted() bool {
	return s.limits.Messages > 0 && s.begun >= s.limits.Messages || s.ctx.Err() != nil || !s.until.IsZero() && !clock.Wall().Before(s.until)
}

// linger is how long the connection may wait for its next message.
func (s *Session) linger() time.Duration {
	if s.until.IsZero() {
		return s.limits.Linger
	}
	return max(0, min(s.limits.Linger, -clock.Since(s.until)))
}

// take returns the next message that can be sent, waiting for it as long as the connection may linger; nil when the
// session is over. Messages that cannot be sent are settled on the way.
func (s *Session) take() *flight {
	for !s.dead && !s.exhausted() {
		if s.c.buffered() { // more replies than questions, a 421 at best
			s.idleEnd()
			return nil
		}
		j := s.work.Next(0)
		if j == nil {
			if j = s.work.Next(s.linger()); j == nil {
				return nil
			}
			if s.exhausted() {
				s.work.Return(j)
				return nil
			}
			if s.stale() { // closed, or told to go, while idle
				s.idleEnd()
				s.work.Return(j)
				return nil
			}
		}
		if !s.pause() {
			s.work.Return(j)
			return nil
		}
		if f := s.ready(&s.flights[0], j); f != nil {
			return f
		}
	}
	return nil
}

// follow returns the message whose envelope goes out behind f's dot, or nil.
func (s *Session) follow(f *flight) *flight {
	if !s.caps.Pipelining || !s.limits.Groups || s.limits.Interval > 0 || f.chunk {
		return nil
	}
	for !s.exhausted() {
		j := s.work.Next(0)
		if j == nil {
			return nil
		}
		if next := s.ready(s.spare(f), j); next != nil {
			return next
		}
	}
	return nil
}

// ready prepares f for j, or settles j and returns nil.
func (s *Session) ready(f *flight, j *mail.Job) *flight {
	if o := s.prepare(f, j); o.Result != 0 {
		s.settle(f, o)
		return nil
	}
	return f
}

// pause waits until the interval since the last message has passed, to the millisecond: whoever has mail that goes at a distance does
// not hand it over much earlier. False when the context or the connection's time would end first.
func (s *Session) pause() bool {
	wait := s.limits.Interval
	if wait <= 0 || s.begun == 0 {
		return true
	}
	if wait -= clock.Since(s.last); wait <= 0 {
		return true
	}
	if !s.until.IsZero() && -clock.Since(s.until) < wait {
		return false
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// began counts a transaction whose MAIL is about to be written.
func (s *Session) began() {
	s.begun++
	if s.limits.Interval > 0 {
		s.last = clock.Wall()
	}
}

// idleEnd finds out how the receiver ended an idle connection.
func (s *Session) idleEnd() {
	code, raw, err := s.c.reply(s.cfg.Timeouts.Quit)
	switch {
	case err != nil:
		s.trouble(s.refused(mail.StageMail, smtp.Reply{}, describe(err)+" while idle"))
	case code == 421:
		s.trouble(s.refused(mail.StageMail, s.c.parse(raw), ""))
	default:
		s.trouble(s.refused(mail.StageMail, smtp.Reply{}, errOutOfTurn.Error()))
	}
}

// errStopped opens the gate of a session that has been told to end and did not in time.
var errStopped = errors.New("stopped")

// stale tells whether octets, or the end of the connection, wait in the socket although nothing was asked.
func (s *Session) stale() bool {
	if s.c.buffered() {
		return true
	}
	if s.c.socket == nil {
		return false
	}
	s.c.readWithin(s.cfg.Timeouts.Command) // a deadline that has passed would hide the answer
	err := s.c.socket.Read(s.peek)
	if s.peeked && s.secure && err == nil {
		return s.c.look()
	}
	return s.peeked || err != nil
}

// ours ends the session for a reason that is not the receiver's.
func (s *Session) ours(detail string) {
	o := s.outcome(mail.StageNone, smtp.Reply{}, detail)
	o.Scope = mail.ScopeConnection
	s.trouble(o)
}
