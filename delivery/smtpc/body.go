package smtpc

import (
	"bytes"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// finish sends the body of f, whose envelope is accepted, and reads the reply to its dot. Behind the dot goes the
// next envelope, if there is a next message and this receiver takes groups.
func (s *Session) finish(f *flight) {
	if !s.inStep(f) {
		return
	}
	if !s.work.Ready(f.job) {
		s.dead = true
		s.callOff(f, nil, "")
		return
	}
	s.out = s.out[:0]
	if len(f.job.Body) > oneWrite {
		if !s.upload(f) {
			return
		}
		s.out = append(s.out, ".\r\n"...)
	} else {
		s.out = appendBody(s.out, f)
	}
	end := len(s.out)
	next := s.follow(f)
	if next != nil {
		s.out = s.appendEnvelope(s.out, next)
	}
	s.group = next != nil
	if !s.launch(f, next, end) {
		return
	}
	if next != nil {
		s.began()
	}
	s.readDot(f)
	switch {
	case next == nil:
	case s.dead:
		s.giveBack(next)
	case s.readEnvelope(next):
		s.accepted = next
	}
}

// inStep refuses to go on with f's body when a reply waits that nothing asked for: a 250 in front of the dot must
// not be taken for the answer to it.
func (s *Session) inStep(f *flight) bool {
	if !s.c.buffered() {
		return true
	}
	s.early(f)
	return false
}

// early ends the session over what the receiver said, or that it hung up, in front of f's dot. A refusal is f's
// outcome all the same: some receivers tell of a message too large while it is on its way.
func (s *Session) early(f *flight) {
	code, raw, err := s.c.reply(s.cfg.Timeouts.Quit)
	switch {
	case err == nil && code == 421:
		s.closing(f, mail.StageData, raw)
	case err == nil && code >= 400:
		o := s.refusal(f, mail.StageData, raw)
		s.trouble(o)
		s.settleServed(f, o)
	case err == nil:
		s.lost(f, mail.StageData, errOutOfTurn)
	default:
		s.lost(f, mail.StageData, err)
	}
}

// upload writes a large body in pieces that end with a line, without its dot.
func (s *Session) upload(f *flight) bool {
	for rest := f.job.Body; len(rest) > 0; {
		piece := rest
		if len(piece) > oneWrite {
			piece = piece[:bytes.LastIndexByte(piece[:oneWrite], '\n')+1] // lines are short, CheckData saw to it
		}
		rest = rest[len(piece):]
		if f.dots > 0 || len(rest) == 0 {
			s.out = smtp.AppendData(s.out[:0], piece, f.dots)
			piece = s.out
		}
		if _, err := s.c.write(piece, s.cfg.Timeouts.Block); err != nil {
			s.writeFailed(f, err)
			return false
		}
	}
	s.out = s.out[:0]
	if s.stale() {
		s.early(f)
		return false
	}
	return true
}

// writeFailed ends the session because f's body could not be written. The receiver may have said why.
func (s *Session) writeFailed(f *flight, err error) {
	if code, raw, readErr := s.c.reply(s.cfg.Timeouts.Quit); readErr == nil && code >= 400 {
		o := s.refusal(f, mail.StageData, raw)
		s.trouble(o)
		s.settleServed(f, o)
		return
	}
	s.lost(f, mail.StageData, err)
}

// launch makes the write s.out, whose octets up to end complete f's message, once every earlier outcome is durable
// (rule D6) and f is cleared (rule D3). next is what else the write begins. False = the session is over, and both
// have their outcomes or are back with their owner.
func (s *Session) launch(f, next *flight, end int) bool {
	s.departing, s.sent, s.cleared = f, 0, false
	if s.c.raw != nil && s.arm() {
		if !s.waitInRead(f, next) {
			return false
		}
	} else if err := s.gate.wait(); err != nil {
		return s.callOff(f, next, err.Error())
	} else {
		s.cleared = s.work.Clear(f.job)
	}
	if !s.cleared {
		s.dead = true
		return s.callOff(f, next, "")
	}
	if s.sent < len(s.out) {
		n, err := s.c.write(s.out[s.sent:], s.cfg.Timeouts.Block)
		if s.sent += n; err != nil {
			s.giveBack(next)
			if s.sent >= end {
				s.inDoubt(f, err)
			} else {
				s.writeFailed(f, err)
			}
			return false
		}
		s.work.Sent(f.job)
	}
	return true
}

// arm arms the gate. The deadlines come first: from then on the connection belongs to whoever opens the gate.
func (s *Session) arm() bool {
	if s.gate.isOpen() {
		return false
	}
	s.c.readWithin(s.cfg.Timeouts.Dot)
	s.c.writeWithin(s.cfg.Timeouts.Block)
	return s.gate.arm()
}

// waitInRead waits in the socket read until the gate's opener has made the write, or handed it back. False = the
// session is over: the receiver spoke or left before the write, or the store failed.
func (s *Session) waitInRead(f, next *flight) bool {
	err := s.c.fill()
	state := s.gate.disarm()
	if state == gateWritten {
		// The reply, or the end of the connection, which the next read meets again.
		return true
	}
	s.c.readBy = time.Time{}              // the opener has moved the deadline
	if state == gateStuck && s.sent > 0 { // be it the dot: whatever failed meanwhile, this is not to be sent as if it never was
		return true
	}
	if failure := s.gate.failure(); failure != nil {
		return s.callOff(f, next, failure.Error())
	}
	if state == gateStuck && err != nil {
		return true
	}
	// Nothing of f's body is out, and it was our store that kept the receiver waiting.
	if err == nil {
		s.idleEnd()
	} else {
		s.trouble(s.refused(mail.StageData, smtp.Reply{}, describe(err)+" while the last outcome was being stored"))
	}
	return s.callOff(f, next, "")
}

// callOff gives f and next back without a dot. With a detail, that is the session's trouble, and it is ours.
func (s *Session) callOff(f, next *flight, detail string) bool {
	if detail != "" {
		s.ours(detail)
	}
	s.giveBack(f)
	s.giveBack(next)
	return false
}

// readDot reads the reply to f's dot and settles f.
func (s *Session) readDot(f *flight) {
	code, raw, err := s.c.reply(s.cfg.Timeouts.Dot)
	if err == nil && code/100 == 3 {
		err = errOutOfTurn
	}
	if err != nil {
		s.inDoubt(f, err)
		return
	}
	s.settleDot(f, code, raw)
}

// settleDot settles f with the reply to its dot.
func (s *Session) settleDot(f *flight, code int, raw []byte) {
	if code/100 == 2 {
		o := s.outcome(mail.StageDot, s.c.parse(raw), "")
		o.Result = mail.Delivered
		s.settleServed(f, o)
		return
	}
	o := s.refusal(f, mail.StageDot, raw)
	if code == 421 {
		s.trouble(o)
	}
	s.unclean = f.chunk // RFC 3030 §2: after a failed BDAT the state is indeterminate until RSET
	s.settleServed(f, o)
}
