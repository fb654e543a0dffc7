package bounce

import (
	"github.com/ekiden-mta/ekiden/mail"
)

// Replay is what r makes of the answer, or the silence, that an event tells of, and what was made of it then; false where
// the event tells of none, such as of a lifetime that ended.
func (r *Rules) Replay(e *mail.Event) (would, did mail.Outcome, ok bool) {
	did = mail.Outcome{Result: mail.Failed, Stage: e.Stage, Status: e.Status, Scope: e.Scope, Reply: e.Reply, Detail: e.Detail}
	if e.Kind == mail.EventDeferred {
		did.Result = mail.Deferred
	}
	if e.Rule != "" {
		did.Advice = &mail.Advice{Rule: e.Rule, Action: e.Action, For: e.For, NoSuppress: e.NoSuppress}
	}
	if e.Kind == mail.EventBounced {
		return r.Reported(e.Receiver, e.Reply, e.To), did, !e.Reply.IsZero()
	}
	if e.Kind != mail.EventDeferred && e.Kind != mail.EventFailed || e.Stage == mail.StageNone {
		return would, did, false
	}
	o := mail.Outcome{Result: mail.Failed, Stage: e.Stage, Reply: e.Reply, Detail: e.Detail}
	switch { // what it was before rules had a say
	case e.Reply.IsZero():
		o.Result = did.Result
	case e.Reply.Transient() || e.Stage <= mail.StageTLS:
		o.Result = mail.Deferred
	}
	if e.Reply.IsZero() && o.Silence() == mail.NotSilent {
		return would, did, false // our own trouble, or the DNS's
	}
	return r.Classify(e.Receiver, o, e.To), did, true
}

// SameDoing tells whether two outcomes have the same consequences: class, result, whom they concern, what is done and for
// how long. Which rule said so is no consequence.
func SameDoing(a, b *mail.Outcome) bool {
	if a.Result != b.Result || a.Status != b.Status || a.Scope != b.Scope {
		return false
	}
	x, y := doing(a), doing(b)
	return x.Action == y.Action && x.For == y.For
}

// doing is what an outcome's rule says to do; nothing where there was none.
func doing(o *mail.Outcome) mail.Advice {
	if o.Advice == nil {
		return mail.Advice{}
	}
	return *o.Advice
}
