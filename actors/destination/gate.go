package destination

import (
	"context"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// Figures of stopped mail.
const (
	// passCost is how long a destination waits, per delivery that it passed over, before it looks through everything
	// again: ten times what that takes, so that a large stopped group costs a tenth of a processor at most.
	passCost = 50 * time.Microsecond

	stillLook  = time.Millisecond       // between two looks for dots that are on their way
	stillGrace = 100 * time.Millisecond // what a receiver gets to read a dot that is out, and to answer it
)

// Clear tells whether p's final dot may be sent: the store can keep what comes of it, the node may send, its gate is
// open, and nobody has suspended it since. It is noted before the gate is asked: whoever closes a gate afterwards
// finds the dot that is on its way, and a dot that is not found finds the gate closed.
func (b *Outbox) Clear(now time.Time, p *protocol.Parcel, source netip.Addr, receiver string) bool {
	p.Dot.Store(protocol.DotCleared)
	d := &p.Job.Delivery
	if _, quiet := b.env.quiet(now, d); quiet { // they have begun since it was taken
		p.Dot.Store(protocol.NoDot)
		return false
	}
	if !b.env.IsHalted() && b.env.leased() && !b.closed(now, d, source, receiver) && !b.env.suppressed(d) {
		return true
	}
	p.Dot.Store(protocol.NoDot)
	return false
}

// Sent notes that p's final dot is out.
func (b *Outbox) Sent(now time.Time, p *protocol.Parcel) {
	p.Dot.Store(protocol.DotSent)
	b.env.groups.sent(now, &p.Job.Delivery)
}

// rest is the shortest time between two looks through everything, from the head of the queue on.
func (b *Outbox) rest() time.Duration {
	return max(b.env.Look, passCost*time.Duration(max(b.disk.passed, b.disk.before)))
}

// putBack returns p to the window; nil where it stays on disk only, because its group was stopped meanwhile.
func (b *Outbox) putBack(p *protocol.Parcel) *shelf {
	if b.env.stopped(&p.Job.Delivery) {
		b.drop(p)
		b.held = true
		return nil
	}
	s := b.shelves[b.shelf(&p.Job.Delivery)]
	s.waiting.push(refTo(p))
	return s
}

// shut takes what is stopped out of the window, so that no session is asked for on its behalf. True where the actor
// must hear of it.
func (b *Outbox) shut() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := false
	for _, s := range b.shelves {
		s.waiting.filter(func(p *protocol.Parcel) bool {
			if !b.env.stopped(&p.Job.Delivery) {
				return true
			}
			b.drop(p)
			found = true
			return false
		})
	}
	b.held = b.held || found
	tell := found && !b.told
	b.told = b.told || tell
	return tell
}

// dots appends the parcels of k whose final dot may be on its way.
func (b *Outbox) dots(k gate.Key, out []*protocol.Parcel) []*protocol.Parcel {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.flight {
		if p.Dot.Load() != protocol.NoDot && concerns(k, &p.Job.Delivery) {
			out = append(out, p)
		}
	}
	return out
}

// concerns tells whether the gate k is d's.
func concerns(k gate.Key, d *mail.Delivery) bool {
	return d.Group == k.Group && (k.Tenant == "" || d.Tenant == k.Tenant)
}

// Gated puts in force that a gate in Env.Gates was closed or opened: from now on its mail is passed over at once, or
// goes on at once.
func (r *Registry) Gated(closed bool) {
	r.each(func(e *entry) {
		if closed && e.outbox.shut() || !closed && e.outbox.Reopen(true) {
			e.outbox.tell(protocol.Arrived{})
		}
	})
}

// Stillness is what of a stopped group is past its gate.
type Stillness struct {
	Coming   int       // final dots that were cleared before the gate closed, and may not be written yet
	Flight   int       // of these and such as are written: not answered yet
	LastSent time.Time // when a dot was last written since the node started; zero = never
}

// Still waits until no final dot of k can be written any more: those that were cleared before its gate closed are out
// or will never be. The gate must be closed. Dots that are out get a moment to be answered, so that they have been
// seen where they went. It ends early with ctx.
func (r *Registry) Still(ctx context.Context, k gate.Key) Stillness {
	var open []*protocol.Parcel
	r.each(func(e *entry) { open = e.outbox.dots(k, open) })
	grace := time.NewTimer(stillGrace)
	defer grace.Stop()
	tick := time.NewTicker(stillLook)
	defer tick.Stop()
	patient := true
	for {
		s := Stillness{LastSent: r.env.groups.lastSent(k)}
		for _, p := range open {
			switch p.Dot.Load() {
			case protocol.DotCleared:
				s.Coming++
				s.Flight++
			case protocol.DotSent:
				s.Flight++
			}
		}
		if s.Flight == 0 || s.Coming == 0 && !patient {
			return s
		}
		select {
		case <-ctx.Done():
			return s
		case <-grace.C:
			patient = false
		case <-tick.C:
		}
	}
}

// LastSent is when a final dot of k was last written since the node started; zero = never.
func (r *Registry) LastSent(k gate.Key) time.Time { return r.env.groups.lastSent(k) }
