package placement

import (
	"errors"
	"time"
)

// ProofLasts is how long who leads may lend after it was certain that it leads: the leader makes certain every second.
const ProofLasts = 2500 * time.Millisecond

// maxPots bounds the limits of a bank.
const maxPots = 10_000

// Errors of Bank.Ask.
var (
	ErrNotOwner = errors.New("this member does not lead, or not for certain: it lends nothing")
	ErrPots     = errors.New("too many limits are shared out at once")
)

// Ask is what a member says of one limit: it has some of its units in use and could use others.
type Ask struct {
	Limit      string
	Total      int // units of the whole cluster
	Has, Wants int
}

// Bank is all limits of the cluster at their owner, the member that leads: its book is complete, and nobody led after it
// before the last proof. Not safe for concurrent use.
type Bank struct {
	since time.Duration
	pots  map[string]*Pot
}

// Ask answers a member's asks with the units it may use until now+Lease. since is when this member began to lead, proven
// when it was certain last that it leads, now the present, all by the owner's own clock. A leader before it lent nothing
// after since+ProofLasts: until what it may have lent by then is over, nothing is lent.
func (b *Bank) Ask(now, since, proven time.Duration, member string, asks []Ask) ([]int, error) {
	if proven < since || now-proven > ProofLasts {
		return nil, ErrNotOwner
	}
	if b.since != since || b.pots == nil {
		b.since, b.pots = since, map[string]*Pot{}
	}
	units := make([]int, len(asks))
	for i, a := range asks {
		p := b.pots[a.Limit]
		if p == nil {
			if len(b.pots) >= maxPots && !b.sweep(now) {
				return nil, ErrPots
			}
			p = NewPot(a.Total, since+ProofLasts)
			b.pots[a.Limit] = p
		}
		p.Total = max(0, a.Total)
		units[i] = p.Ask(now, member, a.Has, a.Wants)
	}
	return units, nil
}

// sweep forgets limits of which nothing is lent, and tells whether there were any.
func (b *Bank) sweep(now time.Duration) bool {
	before := len(b.pots)
	for limit, p := range b.pots {
		if p.Lent(now) == 0 {
			delete(b.pots, limit)
		}
	}
	return len(b.pots) < before
}
