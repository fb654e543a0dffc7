package destination

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Figures of a probation.
const (
	openMost      = 16             // deliveries in flight above which nothing is held any more: sources have limits of their own
	probationLife = 24 * time.Hour // without mail that could be the probe: what the receiver said is history
)

// probation is how a hold ends whose rule wants a probe, which is Google's way for 4.7.28 (support.google.com/a/answer/3726730): stop,
// wait, send over one connection, and over one more with each success. A delivery in flight stands for a connection,
// since one carries one at a time.
//
//	held ──the time is over──▶ probing ──success──▶ opening ──openMost──▶ gone
//	  ▲                           │ refused            │ refused
//	  └───────────────────────────┴────────────────────┘ for the rule's time again
//
// A refusal makes a new hold, and so a new probation. An answer that says nothing of the hold only frees its place.
type probation struct {
	more   int                   // successes; so many deliveries and one may be in flight
	flight map[mail.Seq]struct{} // those that are
}

// room tells whether one more may be in flight.
func (p *probation) room() bool { return len(p.flight) <= p.more }

// begin notes that a delivery is in flight.
func (p *probation) begin(d mail.Seq) {
	if p.flight == nil {
		p.flight = map[mail.Seq]struct{}{}
	}
	p.flight[d] = struct{}{}
}

// end notes what came of a delivery; false where it was not one of those in flight.
func (p *probation) end(d mail.Seq, delivered bool) bool {
	if _, ours := p.flight[d]; !ours {
		return false
	}
	delete(p.flight, d)
	if delivered {
		p.more++
	}
	return true
}

// over tells whether the hold is gone.
func (p *probation) over() bool { return p.more >= openMost }

// phase names the state after the hold's time.
func (p *probation) phase() string {
	if p.more == 0 {
		return PhaseProbing
	}
	return PhaseOpening
}

// What a suspension that ends with a probe is doing.
const (
	PhaseHeld    = "held"
	PhaseProbing = "probing" // one delivery at a time
	PhaseOpening = "opening" // one more with each success
)

// trial is a probation with those who wait for it; Suspensions.mu guards it.
type trial struct {
	probation
	waiting map[*Outbox]struct{} // they passed mail over
}

// holds tells whether the suspension lets nothing through at now. Only the node that was refused probes; the others wait
// as long again, in case it is gone or has no such mail.
func (s *Suspension) holds(now time.Time, self string) bool {
	until := s.Until
	if s.Probe && s.Node != "" && s.Node != self {
		until = until.Add(s.Until.Sub(s.Since))
	}
	return s.Until.IsZero() || until.After(now)
}

// alive tells whether the suspension is in force at now, in whatever phase.
func (s *Suspension) alive(now time.Time) bool {
	return s.Until.IsZero() || s.Until.After(now) || s.Probe && s.trial != nil && s.Until.Add(probationLife).After(now)
}

// onTrial calls f for each probation at now that concerns d; false ends it. x.mu is held.
func (x *Suspensions) onTrial(now time.Time, d *mail.Delivery, domain mail.Domain, receiver string, source netip.Addr, f func(*Suspension) bool) bool {
	l := x.list.Load()
	if l == nil {
		return true
	}
	for i := range *l {
		s := &(*l)[i]
		if s.Probe && s.alive(now) && !s.holds(now, x.Self) && s.names(domain, receiver, source) && s.concerns(d) && !f(s) {
			return false
		}
	}
	return true
}

// admit tells whether d may be in flight as far as probations go, and notes that it is; b hears when it may look again.
// It costs an atomic load while there is nothing to probe.
func (x *Suspensions) admit(now time.Time, b *Outbox, d *mail.Delivery, source netip.Addr, receiver string) bool {
	if x.trials.Load() == 0 {
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	free := x.onTrial(now, d, b.domain, receiver, source, func(s *Suspension) bool {
		if s.trial.room() {
			return true
		}
		if s.trial.waiting == nil {
			s.trial.waiting = map[*Outbox]struct{}{}
		}
		s.trial.waiting[b] = struct{}{}
		return false
	})
	return free && x.onTrial(now, d, b.domain, receiver, source, func(s *Suspension) bool {
		s.trial.begin(d.Seq)
		return true
	})
}

// answered notes that a delivery is not in flight any more. True where a hold is gone with that.
func (x *Suspensions) answered(d mail.Seq, delivered bool) (gone bool) {
	if x.trials.Load() == 0 {
		return false
	}
	var wake []*Outbox
	x.mu.Lock()
	if l := x.list.Load(); l != nil {
		for i := range *l {
			t := (*l)[i].trial
			if t == nil || !t.end(d, delivered) {
				continue
			}
			for b := range t.waiting {
				wake = append(wake, b)
			}
			t.waiting = nil
			gone = gone || t.over()
		}
	}
	x.mu.Unlock()
	if gone {
		x.edit(func(l []Suspension) []Suspension {
			return slices.DeleteFunc(l, func(s Suspension) bool { return s.trial != nil && s.trial.over() })
		})
	}
	for _, b := range wake {
		b.lookAgain()
	}
	return gone
}

// probing finds the probation that d waits for, whatever its source.
func (x *Suspensions) probing(now time.Time, d *mail.Delivery, receiver string) (found *Suspension) {
	if x.trials.Load() == 0 {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.onTrial(now, d, d.Domain, receiver, noSource, func(s *Suspension) bool {
		if s.trial.room() {
			return true
		}
		one := *s
		one.Phase, found = s.trial.phase(), &one
		return false
	})
	return found
}
