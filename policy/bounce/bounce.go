// Package bounce says what a receiver's answer means: which error status it is (R96) and whom it concerns.
//
// The knowledge is data (rules.yaml); the first digit alone decides nothing, because one text may mean two things at
// two stages, and many a 5xx is not the recipient's fault. The room is pure and must never decide what follows:
// retrying, suppressing and telling the customer are others' work.
package bounce

import (
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Classify returns o with Status, Scope and Advice filled in from its stage, reply (or silence) and text form, as
// receiver (a policy group of the shaping rules, "" where unknown) means them. Result stays as given, but for refusals
// that the rules say to try again: these become deferred. A Status that is set already stays, such as that of a name
// that does not exist. to is the recipient as the customer wrote it. A delivered outcome comes back at once, untouched.
func (r *Rules) Classify(receiver string, o mail.Outcome, to mail.Address) mail.Outcome {
	if o.Result == mail.Delivered || o.Result == 0 {
		return o
	}
	if o.Reply.IsZero() {
		return r.silent(receiver, o)
	}
	f := facts{stage: o.Stage, reply: o.Reply, text: strings.ToLower(o.Reply.Text)}
	f.address = holds(f.text, to)
	status, scope := fallback(&o)
	if m := r.match(receiver, &f); m != nil {
		status, scope, o.Advice = m.status, m.scope, m.advice
		if m.retry {
			o.Result = mail.Deferred
		}
	}
	if (status == mail.StatusUserUnknown || status == mail.StatusOverCapacity) && !f.address && namesAnother(f.text) {
		status = mail.StatusForward // it failed behind the mailbox, which may well exist
	}
	if o.Result == mail.Deferred && status == mail.StatusOther {
		status = mail.StatusTimeout
	}
	if o.Status == mail.StatusNone {
		o.Status = status
	}
	o.Scope = scope
	return o
}

// match returns the first rule for the answer: of the receiver, else of everybody; nil where none knows it.
func (r *Rules) match(receiver string, f *facts) *rule {
	for _, name := range [...]string{receiver, ""} {
		for _, one := range r.byReceiver[name] {
			if one.matches(f) {
				return one
			}
		}
		if receiver == "" {
			break
		}
	}
	return nil
}

// silent classifies what ended without a reply: by how far it came, and whom the rules say it concerns.
func (r *Rules) silent(receiver string, o mail.Outcome) mail.Outcome {
	status := mail.StatusTimeout // a connection that does not come about, until time runs out (R96)
	switch {
	case o.Stage == mail.StageDNS && o.Result == mail.Failed:
		status = mail.StatusHostUnknown
	case o.Result == mail.Failed:
		status = mail.StatusOther
	}
	if o.Status == mail.StatusNone {
		o.Status = status
	}
	switch o.Stage {
	case mail.StageNone:
		o.Scope = mail.ScopeRecipient
	case mail.StageDNS:
		o.Scope = mail.ScopeReceiver
	default:
		o.Scope = mail.ScopeConnection
	}
	if f := (facts{stage: o.Stage, silence: o.Silence()}); f.silence != mail.NotSilent {
		if m := r.match(receiver, &f); m != nil {
			o.Scope, o.Advice = m.scope, m.advice
		}
	}
	return o
}

// fallback is the meaning of a reply that no rule knows.
func fallback(o *mail.Outcome) (mail.Status, mail.Scope) {
	status := mail.StatusOther
	if o.Reply.Transient() {
		status = mail.StatusTimeout
	}
	switch {
	case o.Reply.Code == 421:
		return status, mail.ScopeConnection
	case o.Stage <= mail.StageTLS: // the peer does not want to talk: tried again until lifetime (E-44)
		return mail.StatusTimeout, mail.ScopeConnection
	case o.Stage == mail.StageMail:
		return status, mail.ScopeTenant
	case o.Stage == mail.StageRcpt || o.Reply.Transient():
		return status, mail.ScopeRecipient
	}
	return status, mail.ScopeMessage
}

// holds tells whether a folded text holds the recipient, in the customer's form or that of the wire.
func holds(text string, to mail.Address) bool {
	if to == "" {
		return false
	}
	if strings.Contains(text, to.Fold()) {
		return true
	}
	wire, err := to.Wire()
	return err == nil && strings.Contains(text, strings.ToLower(wire))
}

// namesAnother tells whether a text that does not hold the recipient names some other mailbox in angle brackets.
func namesAnother(text string) bool {
	for {
		i := strings.IndexByte(text, '<')
		if i < 0 {
			return false
		}
		text = text[i+1:]
		end := strings.IndexByte(text, '>')
		if end < 0 {
			return false
		}
		if at := strings.LastIndexByte(text[:end], '@'); at > 0 && at < end-1 && !strings.ContainsAny(text[:end], " /") {
			return true
		}
	}
}

// Reported is what a report about a delivery means that the receiver had taken: a failure, whatever the code in it. A
// report tells no stage; where the stage alone would tell, as with docomo, the enhanced code of the report does.
func (r *Rules) Reported(receiver string, reply smtp.Reply, to mail.Address) mail.Outcome {
	if reply.IsZero() {
		reply.Code = 550
	}
	o := r.Classify(receiver, mail.Outcome{Result: mail.Failed, Stage: mail.StageRcpt, Reply: reply}, to)
	o.Result = mail.Failed
	return o
}
