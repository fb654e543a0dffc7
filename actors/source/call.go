package source

import (
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
)

// Call is an ask for one session by an outbox whose destination has just asked for the same, without a message and without its actor. ok is
// false, and nothing done, where there is more to see to than whose turn it is: nobody has asked for that road yet, nothing may be granted, or
// the limits are not those in force. Effects are to be run after the call.
func (b *Book) Call(now time.Time, c *protocol.Call) (effects []Effect, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := b.by[c.Limits.Receiver]
	if to == nil || to.plan != b.plan || b.shut() != protocol.ReasonNone {
		return nil, false
	}
	l := to.named[c.Limits.Kind.Name]
	if l == nil || l.limits != c.Limits && (l.limits.Edition != c.Limits.Edition || !l.limits.Same(c.Limits)) {
		return nil, false
	}
	r := l.roads[c.Key]
	if r == nil {
		return nil, false
	}
	l.used = now
	b.serve(now, r, protocol.Ask{Outbox: c.Outbox, Shelf: c.Shelf, Want: 1, Route: r.route, Key: r.key, Limits: l.limits,
		Deadline: c.Deadline, Tenant: c.Tenant, Ahead: c.Ahead})
	return b.flush(), true
}
