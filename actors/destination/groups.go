package destination

import "sync"

// groupsMost bounds how many groups are told apart; what belongs to others is not counted.
const groupsMost = 10_000

// groups counts by delivery group what was deferred and has no final outcome, since the node started. A mail that is
// delivered at once never comes here.
type groups struct {
	mu       sync.Mutex
	retrying map[string]int
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
	Flight   int // in delivery, or waiting for their outcome to be durable
	Retrying int // deferred at least once since this node started
}

// Groups tells of every group that has any.
func (r *Registry) Groups() map[string]GroupStanding {
	out := map[string]GroupStanding{}
	g := &r.env.groups
	g.mu.Lock()
	for name, n := range g.retrying {
		out[name] = GroupStanding{Retrying: n}
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
