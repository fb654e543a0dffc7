package smtpc

import (
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Classify fills Status and Scope of o by the class of its reply alone. A node puts the rules of policy/bounce in its
// place.
func Classify(_ string, o mail.Outcome, _ mail.Address) mail.Outcome {
	e := o.Reply.Enhanced
	if o.Reply.Code == 421 || o.Reply.IsZero() && o.Result == mail.Deferred {
		o.Scope = mail.ScopeConnection
	}
	if o.Status != mail.StatusNone {
		return o
	}
	switch {
	case o.Reply.Code == 552 || e.Subject == 2 && e.Detail == 2:
		o.Status = mail.StatusOverCapacity
	case e.Subject == 3 && e.Detail == 4 || e.Subject == 2 && e.Detail == 3:
		o.Status = mail.StatusSize
	case e.Subject == 7:
		o.Status = mail.StatusRefused
	case e.Subject == 1 && o.Stage == mail.StageRcpt || o.Stage == mail.StageRcpt && o.Reply.Code == 550:
		o.Status = mail.StatusUserUnknown
	case o.Result == mail.Deferred:
		o.Status = mail.StatusTimeout
	default:
		o.Status = mail.StatusOther
	}
	return o
}

// outcome returns an outcome of this connection; result and class are left to judge.
func (s *Session) outcome(stage mail.Stage, reply smtp.Reply, detail string) mail.Outcome {
	return mail.Outcome{
		Stage: stage, Reply: reply, Detail: detail,
		Source: s.local, Remote: s.peer.Remote, MX: s.peer.Host, TLS: s.secure, At: s.cfg.Clock.Now(),
	}
}

// judge fixes the result of o, an outcome of mail to an address that is not delivered, and has the policy say what it
// means. Only a receiver's answer to a transaction can be final: trouble with the connection never is (requirement
// E-44). The policy may make a refusal deferred, and nothing else of the result.
func (s *Session) judge(o mail.Outcome, to mail.Address) mail.Outcome {
	doubt := o.InDoubt
	o.Result = mail.Deferred
	if o.Reply.Permanent() && o.Stage >= mail.StageMail {
		o.Result = mail.Failed
	}
	final := o.Result
	o = s.cfg.Classify(s.peer.Receiver, o, to)
	if o.Result != mail.Deferred {
		o.Result = final
	}
	o.InDoubt = doubt
	return o
}

// trouble ends the session for a reason that concerns the connection. The first reason stands.
func (s *Session) trouble(o mail.Outcome) {
	if !s.dead {
		s.dead = true
		o.Result = mail.Deferred
		o.InDoubt = false
		s.result.Outcome = o
	}
}

// settle reports the outcome of f.
func (s *Session) settle(f *flight, o mail.Outcome) {
	s.result.Messages++
	s.gate.expect()
	s.work.Settle(f.job, o, s.durable)
	f.job = nil
}

// giveBack returns f to its owner, if there is such a flight.
func (s *Session) giveBack(f *flight) {
	if f != nil && f.job != nil {
		s.work.Return(f.job)
		f.job = nil
	}
}

// refusal is the outcome of a reply that f got at stage, one that is not positive.
func (s *Session) refusal(f *flight, stage mail.Stage, raw []byte) mail.Outcome {
	return s.judge(s.outcome(stage, s.c.parse(raw), ""), f.job.Delivery.To)
}

// lost ends the session because the connection failed with err while f waited at stage, before its final dot. A loss
// in front of an envelope on a connection that has served others says nothing about f: many receivers close after a
// number of messages.
func (s *Session) lost(f *flight, stage mail.Stage, err error) {
	s.noteTorn()
	s.endWith(f, s.judge(s.outcome(stage, smtp.Reply{}, describe(err)), f.job.Delivery.To))
}

// closing ends the session because the receiver answered f's command with 421.
func (s *Session) closing(f *flight, stage mail.Stage, raw []byte) {
	s.endWith(f, s.refusal(f, stage, raw))
}

func (s *Session) endWith(f *flight, o mail.Outcome) {
	s.trouble(o)
	if s.stopped.Load() || o.Stage == mail.StageMail && s.served > 0 {
		s.giveBack(f)
		return
	}
	s.settle(f, o)
}

// inDoubt ends the session because no believable reply to f's final dot came (rule D7).
func (s *Session) inDoubt(f *flight, err error) {
	s.noteTorn()
	o := s.outcome(mail.StageDot, smtp.Reply{}, describe(err)+" after the final dot")
	o.InDoubt = true
	o = s.judge(o, f.job.Delivery.To)
	s.trouble(o)
	s.settle(f, o)
}

// noteTorn remembers that the connection was lost inside a group of commands behind a body.
func (s *Session) noteTorn() {
	if s.group && !s.stopped.Load() {
		s.result.Torn = true
	}
}
