package destination

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// groupsMost bounds how many groups are told apart; what belongs to others is not counted.
const groupsMost = 10_000

// groups remembers when each delivery group last sent.
type groups struct {
	mu   sync.Mutex
	last map[gate.Key]time.Time // when a final dot was last sent
}

// sent notes the dot of d.
func (g *groups) sent(now time.Time, d *mail.Delivery) {
	if d.Group == "" {
		return
	}
	k := gate.Key{Tenant: d.Tenant, Group: d.Group}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.last[k]; !known {
		if g.last == nil || len(g.last) >= groupsMost {
			g.last = map[gate.Key]time.Time{} // more than anybody asks about: those in use come back
		}
		k = gate.Key{Tenant: strings.Clone(d.Tenant), Group: strings.Clone(d.Group)} // not the memory of a whole record
	}
	g.last[k] = now
}

// lastSent is when a dot of k was last sent since the node started; zero = never.
func (g *groups) lastSent(k gate.Key) (last time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if k.Tenant != "" {
		return g.last[k]
	}
	for have, t := range g.last {
		if have.Group == k.Group && t.After(last) {
			last = t
		}
	}
	return last
}

// GroupStanding is how much of a tenant's mail, or of a delivery group of it, this node has in its hands.
type GroupStanding struct {
	Flight   int       // in delivery, or waiting for their outcome to be durable
	Again    int       // of these, such as were put off before
	LastSent time.Time // when a final dot was last sent since this node started; zero = never
}

// Groups tells of every tenant, under the empty group, and of every group that has any. The engine's own mail is nobody's.
func (r *Registry) Groups() map[gate.Key]GroupStanding {
	out := map[gate.Key]GroupStanding{}
	g := &r.env.groups
	g.mu.Lock()
	for k, t := range g.last {
		out[k] = GroupStanding{LastSent: t}
	}
	g.mu.Unlock()
	fly := func(k gate.Key, again int) {
		s := out[k]
		s.Flight, s.Again = s.Flight+1, s.Again+again
		out[k] = s
	}
	r.flight(func(d *mail.Delivery) {
		if d.Own {
			return
		}
		again := 0
		if d.Attempts > 0 {
			again = 1
		}
		fly(gate.Key{Tenant: d.Tenant}, again)
		if d.Group != "" {
			fly(gate.Key{Tenant: d.Tenant, Group: d.Group}, again)
		}
	})
	return out
}

// Flight tells how many deliveries are in delivery, or wait for their outcome to be durable, and how many of these were put
// off before. meant says which count, with a lock held; nil = all.
func (r *Registry) Flight(meant func(*mail.Delivery) bool) (flight, again int) {
	r.flight(func(d *mail.Delivery) {
		if meant != nil && !meant(d) {
			return
		}
		if flight++; d.Attempts > 0 {
			again++
		}
	})
	return flight, again
}

// carries tells whether d is among what was taken and has no durable outcome yet.
func (b *Outbox) carries(d *mail.Delivery) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.flight, func(p *protocol.Parcel) bool {
		return p.Job.Delivery.Seq == d.Seq && p.Job.Delivery.Message == d.Message
	})
}

func (r *Registry) flight(f func(*mail.Delivery)) {
	r.each(func(e *entry) {
		b := e.outbox
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.flight {
			f(&p.Job.Delivery)
		}
	})
}
