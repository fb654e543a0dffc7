package smtpc

import (
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// sendWhole sends f's envelope and body in one write, by BDAT (RFC 3030 with RFC 2920): one round trip per message
// without a message behind it. A refused recipient costs the body's bytes; the receiver drops them and answers the
// BDAT with a refusal of its own.
func (s *Session) sendWhole(f *flight) {
	if s.served > 0 && s.stale() { // a receiver that has closed would leave f in doubt for nothing
		s.idleEnd()
		s.giveBack(f)
		return
	}
	if !s.work.Ready(f.job) {
		s.dead = true
		s.callOff(f, nil, "")
		return
	}
	s.out = s.appendEnvelope(s.out[:0], f)
	s.out = appendBody(s.out, f)
	s.began()
	s.group = true
	if s.launch(f, nil, len(s.out)) {
		s.readWhole(f)
	}
	s.group = false
}

// readWhole reads the replies to what sendWhole wrote. A connection lost before the last of them leaves f in doubt,
// unless it was refused before.
func (s *Session) readWhole(f *flight) {
	if f.reset {
		switch code, raw, err := s.c.reply(s.cfg.Timeouts.Dot); { // f is out, unlike behind readReset
		case err == nil && code == 421:
			s.closing(f, mail.StageMail, raw)
			return
		case err == nil && code/100 != 2:
			err = errOutOfTurn
			fallthrough
		case err != nil:
			s.inDoubt(f, err)
			return
		}
	}
	var refused mail.Outcome
	for _, stage := range [...]mail.Stage{mail.StageMail, mail.StageRcpt} {
		code, raw, err := s.c.reply(s.wait(mail.StageDot))
		if err == nil && code/100 == 3 {
			err = errOutOfTurn
		}
		switch {
		case err != nil && refused.Result == 0:
			s.inDoubt(f, err)
			return
		case err != nil:
			s.noteTorn()
			s.trouble(s.refused(stage, smtp.Reply{}, describe(err)))
			s.settleServed(f, refused)
			return
		case code == 421 && refused.Result == 0:
			s.closing(f, stage, raw)
			return
		case code >= 400 && refused.Result == 0:
			refused = s.refusal(f, stage, raw)
		}
	}
	if refused.Result == 0 {
		s.readDot(f)
		return
	}
	s.unclean = true
	s.settleServed(f, refused)
	code, raw, err := s.c.reply(s.cfg.Timeouts.Dot)
	switch {
	case err != nil:
		s.trouble(s.refused(mail.StageDot, smtp.Reply{}, describe(err)))
	case code == 421:
		s.trouble(s.refused(mail.StageDot, s.c.parse(raw), ""))
	}
}
