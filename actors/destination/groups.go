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

// groups counts by delivery group what was deferred and has no final outcome, since the node started. A mail that is
// delivered at once never comes here.
type groups struct {
	mu       sync.Mutex
	retrying map[string]int
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

// add counts n more of a group; a count never falls below zero, as it would for what was deferred before the start.
func (g *groups) add(group string, n int) {
	if group == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.retrying == nil {
		g.retrying = map[string]int{}
	}
	have, known := g.retrying[group]
	switch {
	case have+n <= 0:
		delete(g.retrying, group)
	case known || len(g.retrying) < groupsMost:
		g.retrying[group] = have + n
	}
}

// GroupStanding is how much of a delivery group this node has in its hands.
type GroupStanding struct {
	Flight   int       // in delivery, or waiting for their outcome to be durable
	Retrying int       // deferred at least once since this node started
	LastSent time.Time // when a final dot was last sent since this node started; zero = never
}

// Groups tells of every group that has any.
func (r *Registry) Groups() map[string]GroupStanding {
	out := map[string]GroupStanding{}
	g := &r.env.groups
	g.mu.Lock()
	for name, n := range g.retrying {
		out[name] = GroupStanding{Retrying: n}
	}
	for k, t := range g.last {
		if s := out[k.Group]; t.After(s.LastSent) {
			s.LastSent = t
			out[k.Group] = s
		}
	}
	g.mu.Unlock()
	r.each(func(e *entry) {
		b := e.outbox
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.flight {
			if d := &p.Job.Delivery; d.Group != "" {
				s := out[d.Group]
				s.Flight++
				if d.Attempts > 0 && s.Retrying > 0 { // it is in delivery now
					s.Retrying--
				}
				out[d.Group] = s
			}
		}
	})
	return out
}
