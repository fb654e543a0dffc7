package node

import (
	"sync"
	"sync/atomic"

	"github.com/ekiden-mta/ekiden/internal/metrics"
	"github.com/ekiden-mta/ekiden/mail"
)

// numbers are what this node promised and kept since it started. Conservation is judged by them: what was accepted
// or found in the store is delivered, failed, discarded, suppressed or still queued (invariant I12).
type numbers struct {
	set *metrics.Set

	in    atomic.Int64 // deliveries accepted
	found atomic.Int64 // deliveries found in the store when it was opened
	out   atomic.Int64 // final outcomes

	outcomes  sync.Map // outcomeName -> metrics.Counter, so that the path of a message builds no labels
	receivers sync.Map // receiver -> *tally
}

type outcomeName struct{ outcome, receiver string }

// accepted counts deliveries that got their 250.
func (n *numbers) accepted(deliveries int) {
	n.in.Add(int64(deliveries))
	n.set.Accepted.Add(deliveries)
}

// ended counts deliveries that had their final outcome with the 250.
func (n *numbers) ended(outcome string, deliveries int) {
	if deliveries > 0 {
		n.out.Add(int64(deliveries))
		n.outcome(outcome, "none").Add(deliveries)
	}
}

// settled counts an outcome that is durable.
func (n *numbers) settled(s *mail.Settlement) {
	n.outcome(s.Event.Kind.String(), s.Event.Receiver).Inc()
	n.tally(s.Event.Receiver)[s.Event.Kind].Add(1)
	if s.Next == nil {
		n.out.Add(1)
	}
	if s.Event.InDoubt {
		n.set.InDoubt.Inc()
	}
}

func (n *numbers) outcome(outcome, receiver string) metrics.Counter {
	if receiver == "" {
		receiver = "none"
	}
	key := outcomeName{outcome, receiver}
	if c, ok := n.outcomes.Load(key); ok {
		return c.(metrics.Counter)
	}
	c := n.set.Outcomes.With(outcome, receiver)
	n.outcomes.Store(key, c)
	return c
}

// gap is accepted - (final + queued): 0 at rest, always.
func (n *numbers) gap(queued int) float64 {
	return float64(n.in.Load() + n.found.Load() - n.out.Load() - int64(queued))
}

// of tells how many deliveries a receiver took, put off and refused since the start.
func (n *numbers) of(receiver string) (delivered, deferred, failed int64) {
	tally := n.tally(receiver)
	return tally[mail.EventDelivered].Load(), tally[mail.EventDeferred].Load(), tally[mail.EventFailed].Load()
}

// each tells how many outcomes deliveries to each receiver had since the start.
func (n *numbers) each(f func(receiver string, outcomes int64)) {
	n.receivers.Range(func(receiver, t any) bool {
		if name := receiver.(string); name != "" {
			delivered, deferred, failed := n.of(name)
			f(name, delivered+deferred+failed)
		}
		return true
	})
}

func (n *numbers) tally(receiver string) *tally {
	if t, ok := n.receivers.Load(receiver); ok {
		return t.(*tally)
	}
	t, _ := n.receivers.LoadOrStore(receiver, new(tally))
	return t.(*tally)
}

// tally counts events by kind.
type tally [mail.EventKinds]atomic.Int64
