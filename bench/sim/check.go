package sim

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/actors/destination"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// crashDestination is an actor that failed: its machine starts anew, its outbox from the store.
func (w *world) crashDestination() {
	if len(w.order2) == 0 {
		return
	}
	x := w.order2[w.rng.IntN(len(w.order2))]
	w.restarts++
	x.machine = destination.NewMachine(x.box.Domain(), w.env)
	x.armed = time.Time{}
	x.box.Recover(0, 0, time.Time{})
	x.send(protocol.Restarted{})
}

// crashSource is an actor that failed: the book stays.
func (w *world) crashSource() {
	b := w.books[w.addrs[w.rng.IntN(len(w.addrs))]]
	w.restarts++
	w.act(b, b.Step(w.now, protocol.Restarted{}))
}

// loseCourier ends a session in the middle of what it does.
func (w *world) loseCourier() {
	var all []*sess
	for x := range w.live {
		if !x.waiting {
			all = append(all, x)
		}
	}
	if len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b *sess) int { return cmp.Compare(w.live[a], w.live[b]) })
	all[w.rng.IntN(len(all))].end()
}

// crashNode is a process that dies: what was not committed is forgotten, and the store is all there is.
func (w *world) crashNode() {
	w.restarts++
	w.sum()
	w.queue.Drop()
	w.commit = false
	for x := range w.live {
		x.over = true
		x.to.close(x)
	}
	w.boot()
}

// suspend is an operator.
func (w *world) suspend() {
	s := destination.Suspension{Domain: w.domains[w.rng.IntN(len(w.domains))], Until: w.now.Add(w.upTo(10 * time.Minute))}
	switch w.rng.IntN(3) {
	case 0:
		s.Domain, s.Tenant = "", "a"
	case 1:
		s.Domain, s.Source = "", w.addrs[0]
	}
	w.env.Suspensions.Add(s)
	w.changed()
	if w.rng.IntN(2) == 0 { // lifted by hand, else it runs out
		w.later(w.upTo(5*time.Minute), func() { w.env.Suspensions.Remove(s); w.changed() })
	}
}

// checkEnd holds the run against what must be true at its end.
func (w *world) checkEnd() {
	for _, err := range w.queue.Faults() {
		w.fail(err)
	}
	if left, done := w.queue.Left(""), w.queue.Finals(); left+done != w.accepted {
		w.fail(fmt.Errorf("conservation: %d accepted, %d queued and %d settled", w.accepted, left, done))
	}
	if w.fault == nil && w.queue.Finals() != w.cfg.Messages {
		w.fail(fmt.Errorf("stuck: nothing will happen any more, and %d deliveries wait", w.queue.Left("")))
	}
	if w.fault == nil {
		return
	}
	for _, x := range w.order2 {
		if n := w.queue.Left(x.box.Domain()); n > 0 {
			w.fault = fmt.Errorf("%w\n  %s: %d queued, %+v", w.fault, x.box.Domain(), n, x.box.Standing())
		}
	}
	for _, a := range w.addrs {
		w.fault = fmt.Errorf("%w\n  %s: %+v", w.fault, a, w.books[a].Snapshot(w.now))
	}
}

func (w *world) sum() {
	w.blocks += w.counters.Blocks.Load()
	w.doubt += w.env.Counters.InDoubt.Load()
}

func (w *world) result() Result {
	w.sum()
	r := Result{Seed: w.seed, Steps: w.steps, Took: w.now.Sub(w.start), Accepted: w.accepted, Sessions: w.sessions,
		Restarts: w.restarts, Blocks: int(w.blocks), Doubt: int(w.doubt), Err: w.fault}
	for s := mail.Seq(1_000_001); s <= w.seq; s++ {
		switch e, _ := w.queue.Final(s); e.Kind {
		case mail.EventDelivered:
			r.Delivered++
		case mail.EventFailed:
			r.Failed++
		}
	}
	return r
}
