package stats

import "github.com/ekiden-mta/ekiden/mail"

// Counter names one count. The first nine are counters 4-12 of requirement R60 in its order; counters 1-3 are states
// of the queue, not counts, and belong to whoever owns the queue.
type Counter uint8

// The counters. Succeeded, Failed, DNSFailed, Expired, Interrupted and Suppressed are final outcomes: they are disjoint
// and add up to the deliveries that are finished. Temporary, DNSTemporary, ConnectFailed and ConnectError count attempts.
const (
	Succeeded     Counter = iota // 4
	Failed                       // 5: failed for good, except where 10, 11 or 12 says why
	Temporary                    // 6: the destination answered 4xx, or broke off within the transaction
	DNSTemporary                 // 7
	ConnectFailed                // 8: TCP connect not established
	ConnectError                 // 9: established, then trouble up to and including the greeting, EHLO, STARTTLS
	DNSFailed                    // 10
	Expired                      // 11
	Interrupted                  // 12: discarded by the stop function
	Accepted
	Suppressed // final, never attempted; among the twelve it is told as Failed
	TakenOver  // accepted by another node, waiting here since; not among the twelve
	HandedOver // accepted or taken over here, waiting at another node since; not among the twelve

	// Counter 2 is the difference of these two: a state that can be counted from events, and is right after a restart.
	Deferred      // deliveries that were tried and put off for the first time, or taken over as such
	DeferredEnded // of these, such as got their final outcome, or wait at another node since

	Counters // how many there are
)

// Counts is one number per Counter.
type Counts [Counters]uint64

// Finished returns the number of deliveries that got their final outcome.
func (c *Counts) Finished() uint64 {
	return c[Succeeded] + c[Failed] + c[DNSFailed] + c[Expired] + c[Interrupted] + c[Suppressed]
}

// Left returns the number of deliveries that wait here (invariant I12): what came and has neither ended nor gone to
// another node.
func (c *Counts) Left() int64 {
	return int64(c[Accepted]+c[TakenOver]) - int64(c.Finished()+c[HandedOver])
}

// Retrying returns how many of those that wait here were tried and put off before: counter 2, and what of it is in delivery
// just now.
func (c *Counts) Retrying() int64 { return int64(c[Deferred]) - int64(c[DeferredEnded]) }

func (c *Counts) isZero() bool { return *c == Counts{} }

// none stands for "counts nowhere".
const none = Counters

// countersOf tells which counters an event raises by one: what became of the delivery, and what went wrong in the
// attempt. Either may be none.
func countersOf(e *mail.Event) (outcome, trouble Counter) {
	outcome, trouble = none, none
	switch e.Kind {
	case mail.EventAccepted:
		return Accepted, none
	case mail.EventTakenOver:
		return TakenOver, none
	case mail.EventHandedOver:
		return HandedOver, none
	case mail.EventDelivered:
		return Succeeded, none
	case mail.EventSuppressed:
		return Suppressed, none
	case mail.EventDiscarded:
		return Interrupted, none
	case mail.EventDeferred:
	case mail.EventFailed:
		switch {
		case e.Status == mail.StatusInterrupted:
			return Interrupted, none
		case e.Status == mail.StatusTimeout:
			outcome = Expired
		case e.Stage == mail.StageDNS:
			return DNSFailed, none
		default:
			outcome = Failed
		}
	default:
		return none, none
	}
	switch e.Stage {
	case mail.StageDNS:
		if outcome == none {
			trouble = DNSTemporary
		}
	case mail.StageConnect:
		trouble = ConnectFailed
	case mail.StageGreeting, mail.StageEHLO, mail.StageTLS:
		trouble = ConnectError
	case mail.StageNone:
		if outcome == none && e.Reply.Transient() {
			trouble = Temporary
		}
	default:
		if outcome == none {
			trouble = Temporary
		}
	}
	return outcome, trouble
}

// redeliveryOf tells whether an event makes its delivery one that was put off before, or ends one. Either is seen from the
// event alone: Attempt counts the transactions, and where the event tells of one, that one as well.
func redeliveryOf(e *mail.Event) Counter {
	before := e.Attempt
	if e.Stage != mail.StageNone && before > 0 {
		before--
	}
	switch {
	case e.Kind == mail.EventTakenOver && before > 0,
		e.Kind == mail.EventDeferred && before == 0 && e.Attempt > 0:
		return Deferred
	case before > 0 && (e.Kind == mail.EventHandedOver || e.Kind.IsFinal()):
		return DeferredEnded
	}
	return none
}
