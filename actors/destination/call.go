package destination

import (
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// What an outbox asks of a source by itself: what its destination has asked for a moment ago, once more (adr/0031).

// repeat is what the actor last asked for on a shelf, as far as it is needed to ask for one session more of the same.
type repeat struct {
	source netip.Addr
	key    string
	limits *shaping.Limits
	until  time.Time // that ask's deadline; zero = nothing was asked for since the actor last looked
}

// calls tells whether the outbox asks by itself for d, which was just put on s: nothing else waits there, nobody works there or was asked to,
// the actor knows of nothing that it would have to look at, and what it last asked for is still what it would ask for.
func (b *Outbox) calls(now time.Time, s *shelf, d *mail.Delivery) bool {
	if b.env.Call == nil || !now.Before(s.last.until) || len(s.waiting) > 1 || s.sessions+s.asked > 0 || b.told || b.quiet ||
		b.disk.more || b.disk.loading || s.source.IsValid() {
		return false
	}
	if b.env.IsHalted() || !b.env.leased() || b.env.Suspensions.match(now, b.domain, s.last.limits.Receiver, s.last.source, d) != nil {
		return false
	}
	held, _ := b.env.capped(now, d)
	return held == nil
}

// call notes that one session is asked for on shelf i, for d, as the actor would, and gives the call to be made.
func (b *Outbox) call(now time.Time, i int, d *mail.Delivery) protocol.Call {
	s := b.shelves[i]
	s.asked++
	s.had++
	if b.look.IsZero() {
		b.look = now.Add(restLook)
	}
	b.status = Status{State: StateAsking, Receiver: b.status.Receiver}
	return protocol.Call{Source: s.last.source, Outbox: b, Shelf: i, Key: s.last.key, Limits: s.last.limits, Deadline: now.Add(b.env.AskFor),
		Tenant: d.Tenant, Ahead: ahead(d)}
}

// uncalled takes back what call noted for shelf i: the source leaves it to the actor, who must be told unless it has looked meanwhile.
func (b *Outbox) uncalled(i int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shelves[i]
	s.asked = max(0, s.asked-1)
	return b.wants(s)
}
