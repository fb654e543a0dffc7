package source

import (
	"cmp"
	"slices"
	"time"

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
	Until       time.Time // of a block; zero = none
	Pace        float64   // messages a second that may go now, by what its own connections allow as well; 0 = no bound
	Most        int       // connections that may be open now
	All         int       // connections of all kinds of mail …
	AllMost     int       // … and how many may be
	Frees       time.Time // when the first of them must ask again, or end; zero = there is none
	Cause       shaping.Cause
	WarmStep    int // of its warm-up plan …
	WarmMost    int // … and what that allows in its span; 0 = it is warm
}

// Snapshot lists the receivers this source deals with, by name, each kind of mail apart.
func (b *Book) Snapshot(now time.Time) []Standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	frees := map[*receiver]time.Time{}
	for _, s := range b.live {
		if r := s.road.lane.to; frees[r].IsZero() || s.until.Before(frees[r]) {
			frees[r] = s.until
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
			out = append(out, Standing{Receiver: r.name, Lane: l.limits.Kind.Name, Queue: l.limits.Queue, Connections: l.open,
				Waiting: l.waiting, State: state, Until: until, Pace: l.pace(), Most: l.own.Connections(most),
				All: r.open, AllMost: most, Frees: frees[r], Cause: r.control.Cause(), WarmStep: step, WarmMost: warm})
		}
	}
	slices.SortStableFunc(out, func(a, c Standing) int { return cmp.Compare(a.Receiver, c.Receiver) })
	return out
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
