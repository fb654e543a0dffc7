package cluster

import (
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
)

// Terms are the durations of a lease. The owner counts from before it asked and stops early; the leader counts from after
// it granted and waits longer: what lies between them is the margin for clocks that drift.
type Terms struct {
	TTL    time.Duration // how long a renewal holds
	Renew  time.Duration // how often the owner renews
	Margin time.Duration // how much earlier than TTL the owner stops, and how much later the leader acts
}

// DefaultTerms are the lease terms of the product: see docs/adr/0011 for why the lease is shorter than ten seconds.
func DefaultTerms() Terms {
	return Terms{TTL: 8 * time.Second, Renew: 2 * time.Second, Margin: time.Second}
}

// drift is how far apart two machines' clocks are allowed to run: one part in a thousand.
const drift = 1000

// holds returns until when, on its own clock, an owner may rely on a renewal that it began to ask for at asked.
func (t Terms) holds(asked time.Duration) time.Duration {
	return asked + t.TTL - t.Margin - t.TTL/drift
}

// over returns when, on its own clock, a leader that applied a renewal at applied may pass the lineage on.
func (t Terms) over(applied time.Duration) time.Duration {
	return applied + t.TTL + t.Margin + t.TTL/drift
}

// timers is the leader's machine for L2 and L3 of the protocol: one timer per lineage, from the leader's own apply time.
// It does no I/O and reads no clock; Step says what to do.
//
//	          led                 over
//	idle ──────────▶ counting ──────────▶ asking ──┐ again every Renew
//	  ▲               ▲   renewed,         │  ▲    │
//	  │     lost      │   new epoch        │  └────┘
//	  └───────────────┴────────────────────┘
type timers struct {
	terms Terms
	led   bool
	lines map[mail.Lineage]*timer
}

// timer watches one lineage.
type timer struct {
	epoch   uint64
	renewed uint64        // the book's index of the renewal it counts from
	over    time.Duration // when the lease has surely ended
}

// What happens to the timers. Each but evLost brings the lineages as the leader has applied them.
type (
	// evLed: this member became leader, and has applied everything that was committed before. Every timer restarts, since
	// nobody knows when the former leader granted what.
	evLed struct{ book []ledger.Lineage }
	// evBook: something may have been renewed, or some time has passed.
	evBook struct{ book []ledger.Lineage }
	// evLost: this member is no longer leader.
	evLost struct{}
)

// takeover is the one thing the timers want: that the lineage is passed to one of its standbys, unless it was renewed.
type takeover struct {
	ledger.LineageEpoch
	renewed  uint64
	owner    string
	standbys []ledger.Standby
}

func newTimers(t Terms) *timers { return &timers{terms: t, lines: map[mail.Lineage]*timer{}} }

// Step takes one event, at a time of clock.Boot. What it returns is to be tried once: while it fails and nobody renews, a
// later step returns it again.
func (t *timers) Step(now time.Duration, ev any) []takeover {
	switch ev := ev.(type) {
	case evLed:
		t.led = true
		clear(t.lines)
		t.read(now, ev.book)
	case evBook:
		if t.led {
			t.read(now, ev.book)
			return t.due(now, ev.book)
		}
	case evLost:
		t.led = false
		clear(t.lines)
	}
	return nil
}

func (t *timers) due(now time.Duration, book []ledger.Lineage) []takeover {
	var due []takeover
	for _, l := range book {
		w := t.lines[l.Lineage]
		if w == nil || now < w.over {
			continue
		}
		w.over = now + t.terms.Renew // time for the attempt
		due = append(due, takeover{LineageEpoch: l.LineageEpoch, renewed: w.renewed, owner: l.Owner, standbys: l.Standbys})
	}
	return due
}

// read starts a timer for what is new or renewed in the book, and drops those of what is closed.
func (t *timers) read(now time.Duration, book []ledger.Lineage) {
	for _, l := range book {
		w := t.lines[l.Lineage]
		switch {
		case l.Phase == ledger.Closed:
			delete(t.lines, l.Lineage)
		case w == nil || w.epoch != l.Epoch || w.renewed != l.Renewed:
			t.lines[l.Lineage] = &timer{epoch: l.Epoch, renewed: l.Renewed, over: t.terms.over(now)}
		}
	}
}
