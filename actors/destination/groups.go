package destination

import (
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// groupsMost bounds how many groups are told apart; what belongs to others is not counted.
const groupsMost = 10_000

// groups counts by tenant and delivery group what was deferred and has no final outcome, since the node started; under
// the empty group all of a tenant. A mail that is delivered at once never comes here.
type groups struct {
	mu       sync.Mutex
	retrying map[gate.Key]int
	last     map[gate.Key]time.Time // when a final dot was last sent
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

// add counts n more where d belongs; a count never falls below zero, as it would for what was deferred before the start.
func (g *groups) add(d *mail.Delivery, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.retrying == nil {
		g.retrying = map[gate.Key]int{}
	}
	g.count(gate.Key{Tenant: d.Tenant}, n)
	if d.Group != "" {
		g.count(gate.Key{Tenant: d.Tenant, Group: d.Group}, n)
	}
}

func (g *groups) count(k gate.Key, n int) {
	have, known := g.retrying[k]
	switch {
	case have+n <= 0:
		delete(g.retrying, k)
	case known:
		g.retrying[k] = have + n
	case len(g.retrying) < groupsMost:
		g.retrying[gate.Key{Tenant: strings.Clone(k.Tenant), Group: strings.Clone(k.Group)}] = have + n
	}
}

// GroupStanding is how much of a tenant's mail, or of a delivery group of it, this node has in its hands.
type GroupStanding struct {
	Flight   int       // in delivery, or waiting for their outcome to be durable
	Retrying int       // deferred at least once since this node started
	LastSent time.Time // when a final dot was last sent since this node started; zero = never
}

// Groups tells of every tenant, under the empty group, and of every group that has any.
func (r *Registry) Groups() map[gate.Key]GroupStanding {
	out := map[gate.Key]GroupStanding{}
	g := &r.env.groups
	g.mu.Lock()
	for k, n := range g.retrying {
		out[k] = GroupStanding{Retrying: n}
	}
	for k, t := range g.last {
		s := out[k]
		s.LastSent = t
		out[k] = s
	}
	g.mu.Unlock()
	r.each(func(e *entry) {
		b := e.outbox
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.flight {
			d := &p.Job.Delivery
			fly(out, gate.Key{Tenant: d.Tenant}, d)
			if d.Group != "" {
				fly(out, gate.Key{Tenant: d.Tenant, Group: d.Group}, d)
			}
		}
	})
	return out
}

// fly counts a delivery in flight.
func fly(out map[gate.Key]GroupStanding, k gate.Key, d *mail.Delivery) {
	s := out[k]
	s.Flight++
	if d.Attempts > 0 && s.Retrying > 0 { // it is in delivery now
		s.Retrying--
	}
	out[k] = s
}
