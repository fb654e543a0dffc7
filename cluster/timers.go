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

// grace is how long a new leader lets lineages be whose leases ran out while nobody led: an owner that lives finds the
// leader within a renewal that hangs and one that does not.
func (t Terms) grace() time.Duration { return 2*t.Renew + t.Margin }

// timers is every member's machine for L2 and L3 of the protocol: one timer per lineage, from the member's own apply time.
// Each member counts, so that whoever comes to lead need not begin anew: an owner counts from before it asked, and
// nobody can have applied a renewal before it was asked for (adr/0021). Only the leader acts. It does no I/O and reads no
// clock; Step says what to do.
//
//	             over, and this member leads
//	counting ─────────────────────────────────▶ asking ──┐ again every Renew
//	   ▲   ▲        renewed, new epoch           │  ▲    │
//	   │   └─────────────────────────────────────┘  └────┘
//	   └─ led: for grace, where it was over
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

// What happens to the timers. Each but evLost brings the lineages as this member has applied them: read before the clock
// was, or a renewal could seem older than its request.
type (
	// evSeen: something may have been renewed.
	evSeen struct{ book []ledger.Lineage }
	// evLed: this member became leader, and has applied everything that was committed before.
	evLed struct{ book []ledger.Lineage }
	// evBook: something may have been renewed, or some time has passed, while this member leads.
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
	case evSeen:
		t.read(now, ev.book)
	case evLed:
		t.led = true
		t.read(now, ev.book)
		for _, w := range t.lines {
			w.over = max(w.over, now+t.terms.grace())
		}
	case evBook:
		t.read(now, ev.book)
		if t.led {
			return t.due(now, ev.book)
		}
	case evLost:
		t.led = false
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
