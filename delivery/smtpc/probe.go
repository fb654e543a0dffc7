package smtpc

import (
	"context"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Probing asks whether addresses exist without ever sending DATA (requirement R50): MAIL, RCPT, RSET, command by
// command, because a receiver that is asked much must be able to say stop at each.

// Probe asks for addresses, as long as next gives any, and reports the outcome of each: delivered means that RCPT was
// accepted. It ends with the session, when next gives none, or after most addresses (0 = any number). trouble is why it
// ended early; its Result is 0 where it did not.
func (s *Session) Probe(ctx context.Context, from mail.Address, most int, interval time.Duration, next func() (mail.Address, bool),
	report func(mail.Address, mail.Outcome)) (asked int, trouble mail.Outcome) {
	s.ctx = ctx
	defer context.AfterFunc(ctx, s.stop)()
	defer s.close()
	for most == 0 || asked < most {
		begun := s.cfg.Clock.Now()
		to, ok := next()
		if !ok || ctx.Err() != nil {
			return asked, mail.Outcome{}
		}
		asked++
		o := s.probe(from, to)
		report(to, o)
		if s.dead {
			return asked, s.result.Outcome
		}
		if left := interval - s.cfg.Clock.Now().Sub(begun); left > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(left):
			}
		}
	}
	return asked, mail.Outcome{}
}

// probe is one transaction without data.
func (s *Session) probe(from, to mail.Address) mail.Outcome {
	sender, err := from.Wire()
	if from.IsNull() {
		sender, err = "", nil
	}
	rcpt, err2 := to.Wire()
	if err != nil || err2 != nil {
		o := s.outcome(mail.StageNone, smtp.Reply{}, "the address cannot be written in SMTP")
		o.Result, o.Status = mail.Failed, mail.StatusFormat
		return o
	}
	params := ""
	if !from.IsASCII() || !to.IsASCII() { // RFC 6531 §3.1
		if !s.caps.UTF8 {
			o := s.outcome(mail.StageNone, smtp.Reply{}, "5.6.7 address needs SMTPUTF8, which the receiver does not offer")
			o.Result, o.Status = mail.Deferred, mail.StatusOther
			return o
		}
		params = " SMTPUTF8"
	}
	for _, c := range [...]struct {
		stage mail.Stage
		line  string
	}{{mail.StageMail, "MAIL FROM:<" + sender + ">" + params + "\r\n"}, {mail.StageRcpt, "RCPT TO:<" + rcpt + ">\r\n"}} {
		r, err := s.command(c.line)
		if err != nil {
			o := s.judge(s.outcome(c.stage, smtp.Reply{}, describe(err)), to)
			s.trouble(o)
			return o
		}
		if r.Code/100 != 2 {
			o := s.judge(s.outcome(c.stage, r, ""), to)
			if r.Code == 421 {
				s.trouble(o)
				return o
			}
			s.reset()
			return o
		}
		if c.stage == mail.StageRcpt {
			o := s.outcome(c.stage, r, "")
			o.Result = mail.Delivered
			s.reset()
			return o
		}
	}
	return mail.Outcome{}
}

// reset ends a transaction; a receiver that does not even take that is left.
func (s *Session) reset() {
	r, err := s.command("RSET\r\n")
	switch {
	case err != nil:
		s.trouble(s.refused(mail.StageMail, smtp.Reply{}, describe(err)))
	case r.Code/100 != 2:
		s.trouble(s.refused(mail.StageMail, r, ""))
	}
}
