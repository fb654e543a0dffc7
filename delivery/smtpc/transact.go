package smtpc

import (
	"bytes"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// envelope sends what goes in front of f's body and reads the replies; true = the receiver waits for the body.
// Otherwise f has its outcome, or is back with its owner.
func (s *Session) envelope(f *flight) bool {
	s.began()
	if !s.caps.Pipelining {
		return s.envelopeByStep(f)
	}
	s.out = s.appendEnvelope(s.out[:0], f)
	if _, err := s.c.write(s.out, s.cfg.Timeouts.Command); err != nil {
		s.lost(f, mail.StageMail, err)
		return false
	}
	return s.readEnvelope(f)
}

// envelopeByStep is envelope for a receiver without PIPELINING: a command, its reply, the next command.
func (s *Session) envelopeByStep(f *flight) bool {
	if s.unclean {
		s.unclean = false
		if _, err := s.c.write([]byte("RSET\r\n"), s.cfg.Timeouts.Command); err != nil {
			s.lost(f, mail.StageMail, err)
			return false
		}
		if !s.readReset(f) {
			return false
		}
	}
	if !s.step(f, mail.StageMail, s.appendMail(s.out[:0], f), 2) {
		return false
	}
	s.unclean = true // until a body ends the transaction
	if !s.step(f, mail.StageRcpt, appendRcpt(s.out[:0], f), 2) {
		return false
	}
	if !f.chunk && !s.step(f, mail.StageData, append(s.out[:0], "DATA\r\n"...), 3) {
		return false
	}
	s.unclean = false
	return true
}

// step sends one command and reads its reply, which must be of the given class. Where it is not, f gets its outcome.
func (s *Session) step(f *flight, stage mail.Stage, line []byte, class int) bool {
	s.out = line
	if s.c.buffered() {
		s.lost(f, stage, errOutOfTurn)
		return false
	}
	if _, err := s.c.write(line, s.cfg.Timeouts.Command); err != nil {
		s.lost(f, stage, err)
		return false
	}
	code, raw, err := s.c.reply(s.wait(stage))
	switch {
	case err != nil:
		s.lost(f, stage, err)
	case code/100 == class && (class != 3 || code == 354):
		return true
	case code == 421:
		s.closing(f, stage, raw)
	case code >= 400:
		s.served++
		s.settle(f, s.refusal(f, stage, raw))
	default: // 354 to MAIL, 250 to DATA
		s.lost(f, stage, errOutOfTurn)
	}
	return false
}

// wait is how long a reply at stage may take.
func (s *Session) wait(stage mail.Stage) time.Duration {
	switch stage {
	case mail.StageData:
		return s.cfg.Timeouts.Data
	case mail.StageDot:
		return s.cfg.Timeouts.Dot
	}
	return s.cfg.Timeouts.Command
}

// readEnvelope reads the replies to the group appendEnvelope wrote for f; true = the receiver waits for the body.
//
// A receiver answers each command of a group, whatever it thought of the ones before (RFC 2920 §3.1). The first
// refusal is f's outcome; the replies behind it only keep the two ends in step.
func (s *Session) readEnvelope(f *flight) bool {
	defer func() { s.group = false }()
	if f.reset && !s.readReset(f) {
		return false
	}
	var refused mail.Outcome
	mailOK, ok := s.readGroup(f, mail.StageMail, 2, &refused)
	if !ok {
		return false
	}
	rcptOK, ok := s.readGroup(f, mail.StageRcpt, 2, &refused)
	if !ok {
		return false
	}
	s.unclean = mailOK // broken off, unless what follows goes well
	if !f.chunk {
		dataOK, ok := s.readGroup(f, mail.StageData, 3, &refused)
		if !ok {
			return false
		}
		if dataOK && refused.Result != 0 {
			s.settleServed(f, refused)
			s.emptyMessage(rcptOK)
			return false
		}
	}
	if refused.Result != 0 {
		s.settleServed(f, refused)
		return false
	}
	s.unclean = false
	return true
}

// readReset reads the reply to the RSET in front of f's group.
func (s *Session) readReset(f *flight) bool {
	code, raw, err := s.c.reply(s.cfg.Timeouts.Command)
	switch {
	case err != nil:
		s.lost(f, mail.StageMail, err)
	case code/100 == 2:
		return true
	default:
		s.closing(f, mail.StageMail, raw)
	}
	return false
}

// readGroup reads one reply of f's group. good = it is of the class hoped for; ok = the session goes on. The first
// refusal goes into refused and stays there.
func (s *Session) readGroup(f *flight, stage mail.Stage, class int, refused *mail.Outcome) (good, ok bool) {
	code, raw, err := s.c.reply(s.wait(stage))
	if err == nil && code/100 != class && code < 400 || code/100 == 3 && code != 354 {
		err = errOutOfTurn // 354 to MAIL, 250 to DATA: none of its replies can be believed
	}
	switch {
	case err == nil && code/100 == class:
		return true, true
	case refused.Result != 0 && (err != nil || code == 421): // the session is over, but f was refused before
		if err != nil {
			s.noteTorn()
			s.trouble(s.refused(stage, smtp.Reply{}, describe(err)))
		} else {
			s.trouble(s.refused(stage, s.c.parse(raw), ""))
		}
		s.settleServed(f, *refused)
		return false, false
	case err != nil:
		s.lost(f, stage, err)
		return false, false
	case code == 421:
		s.closing(f, stage, raw)
		return false, false
	case refused.Result == 0:
		*refused = s.refusal(f, stage, raw)
	}
	return false, true
}

func (s *Session) settleServed(f *flight, o mail.Outcome) {
	s.served++
	s.settle(f, o)
}

// emptyMessage ends a DATA that was answered with 354 although the envelope was refused: with the dot alone, and
// its reply counts for nothing (RFC 2920 §3.1). Where the recipient had been accepted, the dot would deliver an
// empty message, so the connection ends instead.
func (s *Session) emptyMessage(recipient bool) {
	if recipient {
		s.trouble(s.refused(mail.StageData, smtp.Reply{}, errOutOfTurn.Error()))
		return
	}
	_, err := s.c.write([]byte(".\r\n"), s.cfg.Timeouts.Command)
	if err == nil {
		var code int
		var raw []byte
		if code, raw, err = s.c.reply(s.cfg.Timeouts.Dot); err == nil && code == 421 {
			s.trouble(s.refused(mail.StageDot, s.c.parse(raw), ""))
			return
		}
	}
	if err != nil {
		s.trouble(s.refused(mail.StageDot, smtp.Reply{}, describe(err)))
		return
	}
	s.unclean = false
}

// finish sends the body of f, whose envelope is accepted, and reads the reply to its dot. Behind the dot goes the
// next envelope, if there is a next message and this receiver takes groups.
func (s *Session) finish(f *flight) {
	if !s.inStep(f) {
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
	s.c.readBy = time.Time{} // the opener has moved the deadline
	if failure := s.gate.failure(); failure != nil {
		return s.callOff(f, next, failure.Error())
	}
	if state == gateStuck && (err != nil || s.sent > 0) {
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
