package shaping

import (
	"math"
	"time"
)

// Lane is what is left of the operator's limits for one kind of mail from one source to one receiver. They lie below the
// receiver's, which are the Machine's: that one is asked with the lane of the mail, and grants what both allow. It is as
// pure a value as the Machine is. A nil Lane is all other mail's: it has no limits of its own.
type Lane struct {
	kind Kind

	used    int // slots out
	pending int // messages out: as the Machine's

	messages bucket // a part of the pace in force
	sessions bucket
	day      allowance
	hour     allowance
}

// NewLane returns the lane of the kind of mail that l is about; nil where that has no limits of its own.
func NewLane(l *Limits) *Lane {
	if l.Kind == (Kind{}) {
		return nil
	}
	x := &Lane{kind: l.Kind, day: allowance{span: 86400}, hour: allowance{span: 3600}}
	if x.kind.Part <= 1 {
		return x
	}
	part := func(most int) int {
		if most <= 0 {
			return 0
		}
		return max(1, most/x.kind.Part)
	}
	x.day.most, x.hour.most = part(l.DailyCap), part(l.HourlyCap)
	x.sessions = beginnings(l.ConnectionRate/float64(x.kind.Part), l.Most())
	return x
}

// fixed tells whether the mail goes at the operator's pace whatever was learned.
func (x *Lane) fixed() bool { return x != nil && x.kind.Fixed }

// Pace is how many messages a second the lane has of the receiver's pace; 0 = no bound.
func (x *Lane) Pace(all float64) float64 {
	switch {
	case x.fixed():
		return 0
	case x != nil && x.kind.Part > 1:
		return all / float64(x.kind.Part)
	}
	return all
}

// Connections is how many the lane may have of all that may be out.
func (x *Lane) Connections(all int) int {
	if x != nil && x.kind.Connections > 0 {
		return min(all, x.kind.Connections)
	}
	return all
}

// Share is how much of the turns at a receiver one turn of the lane costs, held against other mail's.
func (x *Lane) Share() float64 {
	if x == nil {
		return 1
	}
	return float64(max(1, x.kind.Part))
}

// advance brings the lane up to now, while the receiver's mail goes at pace.
func (x *Lane) advance(now time.Time, pace float64) {
	if x == nil {
		return
	}
	at := momentOf(now)
	if x.kind.Part > 1 {
		fresh := x.messages.size == 0
		if x.messages.fit(at, x.Pace(pace)); fresh {
			x.messages.level = x.messages.size
		}
	}
	x.messages.refill(at)
	x.sessions.refill(at)
	x.day.advance(now, x.pending)
	x.hour.advance(now, x.pending)
}

// begins is how many new connections it may begin now; 0: why not, and when to ask again.
func (x *Lane) begins(now time.Time) (int, Reason, time.Time) {
	if x == nil {
		return math.MaxInt32, NotRefused, time.Time{}
	}
	slots := x.sessions.whole()
	switch {
	case slots == 0:
		return 0, ConnectionRate, x.sessions.next(now, 1)
	case x.kind.Connections == 0:
		return slots, NotRefused, time.Time{}
	case x.used >= x.kind.Connections:
		return 0, Connections, time.Time{}
	}
	return min(slots, x.kind.Connections-x.used), NotRefused, time.Time{}
}

// left is how many of want messages may go now; 0: why not, and when to ask again.
func (x *Lane) left(now time.Time, want int) (int, Reason, time.Time) {
	if x == nil {
		return want, NotRefused, time.Time{}
	}
	n := min(want, x.messages.whole())
	if least := min(want, max(1, int(x.messages.rate/10))); n < least { // as the Machine does
		return 0, Rate, x.messages.next(now, least)
	}
	if n = x.day.left(n); n == 0 {
		return 0, DailyCap, x.day.ends(now)
	}
	if n = x.hour.left(n); n == 0 {
		return 0, HourlyCap, x.hour.ends(now)
	}
	return n, NotRefused, time.Time{}
}

// Rests tells when the lane's own pace leaves a message; zero where it does now.
func (x *Lane) Rests(now time.Time) time.Time {
	if x == nil || x.messages.whole() > 0 {
		return time.Time{}
	}
	return x.messages.next(now, 1)
}

// take notes what was granted.
func (x *Lane) take(slots, messages int) {
	if x == nil {
		return
	}
	x.used += slots
	x.pending += messages
	x.sessions.take(slots)
	x.messages.take(messages)
	x.day.debit(messages)
	x.hour.debit(messages)
}

// release takes back slots, and messages that were not begun.
func (x *Lane) release(slots, unused int) {
	if x == nil {
		return
	}
	x.used -= min(max(slots, 0), x.used)
	back := min(max(unused, 0), x.pending)
	x.pending -= back
	x.messages.put(back)
	x.day.credit(back, x.used == 0)
	x.hour.credit(back, x.used == 0)
	if x.used == 0 {
		x.pending = 0
	}
}

// Resume has the lane count so many slots as out, whatever it counted before.
func (x *Lane) Resume(slots int) {
	if x != nil {
		x.used = slots
	}
}

// Remember returns what of the caps was used; see Memory.
func (x *Lane) Remember() (y Memory) {
	if x == nil {
		return y
	}
	if x.day.spent > 0 {
		y.Day, y.Spent = int32(x.day.at), small(x.day.spent)
	}
	if x.hour.spent > 0 {
		y.Hour, y.InHour = int32(x.hour.at), small(x.hour.spent)
	}
	return y
}

// Recall takes up what Remember returned, on a lane that is new.
func (x *Lane) Recall(y Memory) {
	if x == nil {
		return
	}
	x.day.at, x.day.spent = int64(max(y.Day, 0)), int(max(y.Spent, 0))
	x.hour.at, x.hour.spent = int64(max(y.Hour, 0)), int(max(y.InHour, 0))
}
