package smtpc

import (
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
