package source

import (
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
)

// An ask of a destination with little to send and nobody at it is mostly for one mail. Where enough sessions are at work on its road, and the
// receiver answers quickly, one of them comes by in a moment and sends that mail's envelope behind the body it has at hand: half as many
// packets as a session needs that is woken for it. So the ask rides behind them, for two looks at most; then it is served like any other
// (adr/0031).
//
// What rides is no part of the line: limits, turns and who makes room for whom are about that alone. While anything rides, a look is under way.

const (
	behindLook  = 10 * time.Millisecond
	lookLost    = time.Second           // after its moment a look is not expected any more
	fewSessions = 4                     // are put to work before an ask rides behind them, so that a slow one holds up nobody …
	perSession  = 8                     // … and one for so many that ride, where those are more. See destination.Env.deserves
	quickDot    = 50 * time.Millisecond // who answers a final dot later than that is not ridden to: an idle session is sooner
	vainMost    = 8                     // riders that a session takes in a row without getting a mail from them
)

// riders are the asks that ride on a road.
type riders struct {
	old, fresh line // since before the last look, and since then
	listed     bool // in Book.ridden
}

func (x *riders) len() int { return x.old.len() + x.fresh.len() }

// next is the part that a session at work is given from.
func (x *riders) next() *line {
	if x.old.len() > 0 {
		return &x.old
	}
	return &x.fresh
}

// riders is how many asks ride in a lane.
func (l *lane) riders() (n int) {
	for _, r := range l.all {
		n += r.riders.len()
	}
	return n
}

// rides tells whether an ask is to ride.
func (r *road) rides(a *protocol.Ask) bool {
	dot := time.Duration(r.dot.Load())
	return a.Rides && r.line.len() == 0 && dot > 0 && dot < quickDot &&
		r.open-len(r.idle) >= max(fewSessions, (r.riders.len()+perSession)/perSession)
}

// ride has an ask ride.
func (b *Book) ride(now time.Time, r *road, a protocol.Ask) {
	if !r.riders.listed {
		r.riders.listed = true
		b.ridden = append(b.ridden, r)
	}
	r.riders.fresh.push(a)
	if late := now.Sub(b.look); b.look.IsZero() || late < -behindLook || late > lookLost { // the clock was set, back or ahead
		b.lookLater(now)
	}
}

func (b *Book) lookLater(now time.Time) {
	b.look = now.Add(behindLook)
	b.do(Effect{Kind: EffectLook, At: b.look})
}

// carries tells whether something rides behind a session that it may take. One that has to ask for an allowance first is of no use before it
// may wait for that.
func (s *Session) carries(now time.Time, block bool) bool {
	return s.road.riders.len() > 0 && s.vain < vainMost && (block || s.allowed(now))
}

// takeRider gives a session at work one session's worth of what rides behind it; false where it takes nothing.
func (b *Book) takeRider(now time.Time, s *Session, block bool) bool {
	r := s.road
	if !s.carries(now, block) {
		return false
	}
	from := r.riders.next()
	if !from.shed(now, withdraw) {
		return false
	}
	a := from.pop()
	b.assign(s, &a)
	s.vain++
	if a.Want > 0 {
		from.push(a)
	}
	return true
}

func withdraw(a *protocol.Ask) { a.Outbox.Withdraw(a.Shelf, a.Want) }

// looked serves what rode at the last look and nobody has come for since like any other ask. It looks again while anything rides.
func (b *Book) looked(now time.Time) {
	if b.look.IsZero() || now.Before(b.look) && b.look.Sub(now) <= behindLook { // another one is under way
		return
	}
	b.look = time.Time{}
	left := b.ridden[:0]
	for _, r := range b.ridden {
		short := false
		for r.riders.old.shed(now, withdraw) {
			a := r.riders.old.pop()
			short = !b.wakeIdle(r, &a) || short
		}
		r.riders.old, r.riders.fresh = r.riders.fresh, r.riders.old
		if r.riders.listed = r.riders.len() > 0; r.riders.listed {
			left = append(left, r)
		}
		if short {
			b.dispatch(now, r.lane.to)
		}
	}
	clear(b.ridden[len(left):])
	if b.ridden = left; len(left) > 0 {
		b.lookLater(now)
	}
}

// dotted counts how long the receiver took to answer a final dot: about the mean of the last eight.
func (r *road) dotted(took time.Duration) {
	if was := r.dot.Load(); was > 0 {
		took = time.Duration(was + (int64(took)-was)/8)
	}
	r.dot.Store(max(int64(took), 1))
}
