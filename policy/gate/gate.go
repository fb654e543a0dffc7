// Package gate decides whether the mail of a delivery group may go: the emergency stop as values that every member
// merges alike, in whatever order it hears of them.
//
// It must never let a stop be lost: of two gates the larger version wins, and of equal ones the closed. It does no I/O
// and reads no clock. Read Gate first, then Table, which answers before every final dot.
package gate

import "time"

// Key names a gate. Tenant "" means the group of every tenant; Group is never empty.
type Key struct{ Tenant, Group string }

// Gate is the last word about a delivery group. Values are compared by Version only: microseconds since 1970 of the
// machine's clock, raised past every version known where it was made, so that a stop given later beats a resume given
// earlier even where its author had not heard of it yet.
type Gate struct {
	Tenant, Group string
	Version       uint64
	Closed        bool
	RefuseIntake  bool      // while closed: new mail of the group is refused, and not only held
	HoldExpiry    bool      // while closed: lifetimes do not end, and are longer afterwards by the time closed
	Since         time.Time // product time of the first stop, or of the resume
	Author        string
	Discard       time.Time // mail accepted before this moment of the machine's clock ends as interrupted; never goes back

	// Of an open gate whose lifetimes were held: mail accepted before Resumed, a moment of the machine's clock, lives
	// Paused longer than its record says.
	Resumed time.Time
	Paused  time.Duration
}

// Key returns what g is known by.
func (g *Gate) Key() Key { return Key{g.Tenant, g.Group} }

// Order is what an operator asks for when stopping a group.
type Order struct {
	RefuseIntake, HoldExpiry bool
	Author                   string
}

// Stop returns g closed at now under version. One that is closed already stays closed since it was.
func (g Gate) Stop(o Order, now time.Time, version uint64) Gate {
	if !g.Closed {
		g.Since = now
	}
	g.Closed, g.Version = true, version
	g.RefuseIntake, g.HoldExpiry, g.Author = o.RefuseIntake, o.HoldExpiry, o.Author
	return g
}

// Resume returns g open at now, which the machine's clock calls wall, under version. Time held before counts on for as
// long as mail of that time may be queued.
func (g Gate) Resume(author string, now, wall time.Time, version uint64) Gate {
	if g.Closed && g.HoldExpiry && now.After(g.Since) {
		if wall.Sub(g.Resumed) > remembered {
			g.Paused = 0
		}
		g.Paused, g.Resumed = g.Paused+now.Sub(g.Since), wall
	}
	g.Closed, g.RefuseIntake, g.HoldExpiry = false, false, false
	g.Version, g.Since, g.Author = version, now, author
	return g
}

// remembered is how long an earlier pause is added to a later one: mail does not live longer than that.
const remembered = 14 * 24 * time.Hour

// Succeed returns next, the word that follows g, with what g knows and next does not say: how long g was held. Ledgers
// and members that carry a gate need not carry that.
func (g Gate) Succeed(next Gate, wall time.Time) Gate {
	if !next.Closed && next.Paused == 0 && next.Version > g.Version {
		held := g.Resume(next.Author, next.Since, wall, next.Version)
		next.Paused, next.Resumed = held.Paused, held.Resumed
	}
	return next
}

// merge returns the one of a and b that holds. It does not matter which is which, nor how often they meet.
func merge(a, b Gate) Gate {
	if b.Discard.After(a.Discard) {
		a.Discard = b.Discard
	} else {
		b.Discard = a.Discard
	}
	switch {
	case a.Version > b.Version || a.Version == b.Version && a.Closed && !b.Closed:
		return a
	case a.Version < b.Version || a.Closed != b.Closed:
		return b
	}
	// Two authors at the same microsecond: as much of both as can be had.
	a.RefuseIntake, a.HoldExpiry = a.RefuseIntake || b.RefuseIntake, a.HoldExpiry || b.HoldExpiry
	if b.Since.Before(a.Since) {
		a.Since = b.Since
	}
	a.Author = min(a.Author, b.Author)
	a.Paused = max(a.Paused, b.Paused)
	if b.Resumed.After(a.Resumed) {
		a.Resumed = b.Resumed
	}
	return a
}
