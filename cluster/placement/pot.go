package placement

import (
	"slices"
	"time"
)

// Lease is how long a share lasts without being renewed, Margin how much earlier its holder stops to use it, so that
// clocks that run at slightly different speeds never let two members use the same part at once.
const (
	Lease  = 2 * time.Second
	Margin = 200 * time.Millisecond
)

// turn is how long the same members get what cannot be shared evenly: nobody goes without for good.
const turn = 10 * time.Second

// Pot is a limit of the whole cluster at its owner: so many units (connections, or messages per second), lent to members
// in shares that end by themselves. Time is the owner's own, which never jumps. Not safe for concurrent use.
//
// A member that becomes the owner does not know what the one before it lent, so it lends nothing until everything that
// could have been lent is over: the sum of all shares never exceeds Total, also while the owner changes. What members have
// in use beyond their shares, because a receiver holds its reply, is lent to nobody else either.
type Pot struct {
	Total int // units in all
	from  time.Duration
	lent  map[string]share
}

type share struct {
	units int // reserved: the larger of what it was given last and what it said it had
	wants int
	until time.Duration
}

// NewPot is a pot whose owner took it over at now: whoever had it before lends nothing after that.
func NewPot(total int, now time.Duration) *Pot {
	return &Pot{Total: total, from: now + Lease, lent: map[string]share{}}
}

// Begin is a pot that nobody can have owned before: of a cluster that starts.
func Begin(total int) *Pot { return &Pot{Total: total, lent: map[string]share{}} }

// Ask gives member its share, in units, until now+Lease, in place of the one it has. has is what it keeps in use until it
// hears the answer, at most wants; wants is what it could use. What it has and wants it keeps, unless others want more
// than they have: then it gives back what is above an even share, and gets the rest of its wish as others give back.
// What it is to give back stays reserved until its next Ask shows that it heard: the answer may be lost.
func (p *Pot) Ask(now time.Duration, member string, has, wants int) (units int) {
	p.expire(now)
	wants = min(max(wants, 0), p.Total)
	has = min(max(has, 0), wants)
	if now < p.from {
		p.lent[member] = share{has, wants, now + Lease}
		return 0
	}
	lent, wanting := 0, 0 // to others; and how many want, this one included
	for m, s := range p.lent {
		if m != member {
			lent += s.units
			if s.wants > 0 {
				wanting++
			}
		}
	}
	if wants > 0 {
		wanting++
	}
	units = max(0, min(wants, p.Total-lent)) // less is lent where Total was lowered, as it comes back
	if even := p.fair(now, wanting, member, wants); units > even && p.starves(member) {
		units = even
	}
	if has == 0 && wants == 0 {
		delete(p.lent, member)
		return 0
	}
	p.lent[member] = share{max(units, has), wants, now + Lease}
	return units
}

// fair is what each of n members that want may keep while another goes without; a rest goes to some of them in turn.
func (p *Pot) fair(now time.Duration, n int, member string, wants int) int {
	if n == 0 {
		return wants
	}
	even, rest := p.Total/n, p.Total%n
	if rest > 0 {
		var names []string
		for m, s := range p.lent {
			if s.wants > 0 || m == member {
				names = append(names, m)
			}
		}
		if _, known := p.lent[member]; !known {
			names = append(names, member)
		}
		slices.Sort(names)
		shift := int(now/turn) % len(names)
		if (slices.Index(names, member)+shift)%len(names) < rest {
			even++
		}
	}
	return even
}

// starves tells whether another member wants more than it has.
func (p *Pot) starves(member string) bool {
	for m, s := range p.lent {
		if m != member && s.units < s.wants {
			return true
		}
	}
	return false
}

// expire takes back what was not renewed.
func (p *Pot) expire(now time.Duration) {
	for m, s := range p.lent {
		if s.until <= now {
			delete(p.lent, m)
		}
	}
}

// Lent is how many units are lent at now.
func (p *Pot) Lent(now time.Duration) int {
	p.expire(now)
	sum := 0
	for _, s := range p.lent {
		sum += s.units
	}
	return sum
}

// Purse is a share as its holder sees it, by the holder's own clock. asked is when the ask was sent: the owner's lease
// began no earlier. The zero value holds nothing.
type Purse struct {
	units int
	until time.Duration
}

// Fill puts a share in the purse.
func (s *Purse) Fill(asked time.Duration, units int) { s.units, s.until = units, asked+Lease-Margin }

// Offer is what to tell the owner as has when wants could be used now: what is above it is given up with the call.
func (s *Purse) Offer(now time.Duration, wants int) (has int) {
	s.units = min(s.Units(now), wants)
	return s.units
}

// Units is what may be in use at now; whoever uses more than that must stop.
func (s *Purse) Units(now time.Duration) int {
	if now >= s.until {
		return 0
	}
	return s.units
}
