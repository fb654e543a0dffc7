package source

import (
	"cmp"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Standing is how a source stands to one receiver, and what it has there of one kind of mail.
type Standing struct {
	Receiver    string
	Lane        string // kind of mail: see shaping.Kind
	Queue       string // see shaping.Limits
	Connections int
	Waiting     int // asks in line
	State       shaping.State
	Until       time.Time       // of a block; zero = none
	Pace        float64         // messages a second that may go now, by what its own connections allow as well; 0 = no bound
	Most        int             // connections that may be open now
	All         int             // connections of all kinds of mail …
	AllMost     int             // … and how many may be
	Frees       time.Time       // when the first of them must ask again, or end; zero = there is none
	Every       time.Duration   // from one message to the next on each connection; 0 = no bound
	Binds       protocol.Reason // what keeps one more message from being begun; ReasonNone = nothing that is known
	BindsUntil  time.Time       // when that ends; zero = unknown, or any moment
	Cause       shaping.Cause
	WarmStep    int // of its warm-up plan …
	WarmMost    int // … and what that allows in its span; 0 = it is warm
}

// Snapshot lists the receivers this source deals with, by name, each kind of mail apart.
func (b *Book) Snapshot(now time.Time) []Standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	frees, held := map[*receiver]time.Time{}, map[*lane]bound{}
	for _, s := range b.live {
		l := s.road.lane
		if frees[l.to].IsZero() || s.until.Before(frees[l.to]) {
			frees[l.to] = s.until
		}
		if s.bound.until.After(now) && !s.leaving {
			held[l] = held[l].sooner(s.bound)
		}
	}
	out := make([]Standing, 0, len(b.order))
	for _, r := range b.order {
		state, until := r.control.State()
		if state == shaping.Blocked && !now.Before(until) {
			state, until = shaping.Probing, time.Time{}
		}
		step, warm, _ := r.control.Warmup()
		most := r.control.Connections()
		for _, l := range r.lanes {
			binds := l.binds(now, held[l])
			out = append(out, Standing{Receiver: r.name, Lane: l.limits.Kind.Name, Queue: l.limits.Queue, Connections: l.open,
				Waiting: l.waiting + l.riders(), State: state, Until: until, Pace: l.pace(), Most: l.own.Connections(most),
				All: r.open, AllMost: most, Frees: frees[r], Cause: r.control.Cause(), WarmStep: step, WarmMost: warm,
				Every: l.limits.Every(), Binds: binds.reason, BindsUntil: binds.until})
		}
	}
	slices.SortStableFunc(out, func(a, c Standing) int { return cmp.Compare(a.Receiver, c.Receiver) })
	return out
}

// bound is what keeps a lane or a session from what it would do next, and until when; a zero until is any moment.
type bound struct {
	reason protocol.Reason
	until  time.Time
}

// sooner is the one of two that ends first. One whose end nobody knows ends last.
func (x bound) sooner(y bound) bound {
	if x.reason == protocol.ReasonNone || y.reason != protocol.ReasonNone && !y.until.IsZero() && (x.until.IsZero() || y.until.Before(x.until)) {
		return y
	}
	return x
}

// binds is what keeps a lane's mail back. It goes on an open connection or on another one, whichever may be first: held is what
// the open ones wait for. What the receiver bears of all connections together binds however many there are.
func (l *lane) binds(now time.Time, held bound) bound {
	if state, until := l.to.control.State(); state == shaping.Blocked && now.Before(until) {
		return bound{protocol.ReasonBlocked, until}
	}
	next := bound{}
	if l.waiting > 0 && (l.bound.until.IsZero() || l.bound.until.After(now)) {
		next = l.bound
	}
	switch {
	case held.reason == protocol.ReasonInterval:
		return held.sooner(next)
	case held.reason != protocol.ReasonNone:
		return held
	case next.reason != protocol.ReasonNone:
		return next
	case l.open > 0 && l.room() <= 0 || l.to.open > 0 && l.to.room() <= 0:
		return bound{reason: protocol.ReasonSlots}
	}
	return bound{}
}

// pace is how many messages of a lane may go in a second: what the receiver bears, or less where the operator has them go at a
// distance on so many connections. 0 = no bound.
func (l *lane) pace() float64 {
	pace := l.to.control.PaceOf(l.own)
	if every := l.limits.Kind.Interval; every > 0 {
		pace = shaping.Lower(pace, float64(l.own.Connections(l.to.control.Connections()))/every.Seconds())
	}
	return pace
}
