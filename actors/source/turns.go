package source

import (
	"slices"
	"time"
)

// How the kinds of mail to a receiver share its connections: whose turn it is, who gives way to whom, and who makes room.

// inLine are the lanes that have asks in line. Who rested has only so many turns to make up for.
func (r *receiver) inLine() []*lane {
	r.line = slices.DeleteFunc(r.line, func(l *lane) bool {
		l.inLine = l.waiting > 0
		return !l.inLine
	})
	for _, l := range r.line {
		l.catchUp()
	}
	return r.line
}

// catchUp has a lane that rested, or might have no connection, begin not far behind the round.
func (l *lane) catchUp() { l.turns = max(l.turns, l.to.round-float64(l.to.control.Connections())) }

// crowds tells whether a lane waits for another one's connection where the receiver is known to bear no more of them; where all
// sources of the node share some, those are asked first.
func (l *lane) crowds(now time.Time) bool {
	l.crowded = l.limits.Kind.Total <= 0 && l.open < l.own.Connections(l.open+1) && l.rests(now).IsZero()
	return l.crowded
}

// rests tells when a lane may have one more connection whose messages an operator has go at a distance; zero = it may now. A
// connection that has ended before its next message was due has its place until then, or its successor would not wait.
func (l *lane) rests(now time.Time) time.Time {
	if len(l.rest) == 0 {
		return time.Time{}
	}
	l.rest = slices.DeleteFunc(l.rest, func(at time.Time) bool { return !now.Before(at) })
	if l.open+len(l.rest) < l.own.Connections(l.to.control.Connections()) {
		return time.Time{}
	}
	first := time.Time{}
	for _, at := range l.rest {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// charge counts a turn of a lane that begins on one of its connections. That of a kind of mail which is to have a part of what
// there is costs as much more.
func (l *lane) charge() {
	l.catchUp()
	l.to.round = max(l.to.round, l.turns)
	l.turns += l.own.Share()
}

// pay counts what a turn that is over lasted longer than one, as where a filter has its messages go at a distance: what lanes
// share is the time they hold a connection.
func (l *lane) pay(now time.Time, s *Session) {
	l.turns += l.own.Share() * max(0, now.Sub(s.lapped).Seconds()/turnLife.Seconds()-1)
	s.lap, s.lapped = 0, now
}

// due tells whether another lane is to have the connection of one of l's sessions: where no more may be opened, more wait than
// those that are to end make room for, and one of them in a lane that has fewer and had fewer turns, each held against what it
// is to have. idle: there is no work for the session now; who gains nothing by its connection does not get it.
func (l *lane) due(now time.Time, idle bool) bool {
	wait, fewer := 0, false
	l.catchUp()
	for _, o := range l.to.line {
		if o == l || o.waiting == 0 || !o.crowded || !o.asked(now) || idle && !o.gains(now) {
			continue
		}
		wait += o.waiting
		fewer = fewer || idle || o.turns < l.turns+l.own.Share() &&
			float64(o.open-o.leaving)*o.own.Share() < float64(l.open-l.leaving)*l.own.Share()
	}
	return fewer && wait > l.to.room()
}

// gains tells whether a lane carries more with one more connection: where the pace is what holds mail back it does not, but for
// the first. Else who rests would give its connection away for nothing, and open another a moment later.
func (l *lane) gains(now time.Time) bool { return l.open == l.leaving || !l.to.control.Binds(now) }

// kindFor is how long a kind of mail without any has a connection left for it after it had one, or asked.
const kindFor = time.Minute

// bears is how many connections of all kinds there may be when l opens one more: where it gains nothing by it, one is left for
// each other kind that has none. It would have to be given back as soon as that has mail.
func (l *lane) bears(now time.Time) int {
	most := l.to.control.Connections()
	if len(l.to.lanes) == 1 || l.gains(now) {
		return most
	}
	for _, o := range l.to.lanes {
		if o != l && o.open == 0 && now.Sub(o.used) < kindFor {
			most--
		}
	}
	return most
}

// asked tells whether somebody still waits in a lane.
func (l *lane) asked(now time.Time) bool {
	return slices.ContainsFunc(l.busy, func(r *road) bool { return r.trim(now) })
}

// waits is for a lane that waits for a connection: one makes room where fewer are to end than wait.
func (b *Book) waits(now time.Time, l *lane) {
	if l.crowded {
		l.to.wants += l.waiting
	}
	if l.crowded && l.to.wants > l.to.room() || !l.crowded && l.waiting > l.room() {
		b.makeRoom(now, l)
	}
}

// leftFree is for a lane that might open one more connection, but for those that are left to other kinds: most without them. What
// waits for other hosts has an idle connection of the lane end. Neither that the pace holds nothing back any more nor that another
// kind needs no connection is told by anybody, so that it looks again.
func (b *Book) leftFree(now time.Time, l *lane, most int) {
	if l.waiting > most-l.to.open+l.to.leaving {
		l.makeRoom(b)
	}
	b.alarm(l.to, now.Add(turnLife))
}

// makeRoom ends an idle session when asks of l wait for a slot: one of another road of the lane, or, where the receiver bears
// no more, of another lane. Sessions at work see for themselves at the end of their turn.
func (b *Book) makeRoom(now time.Time, l *lane) {
	if l.makeRoom(b) || !l.crowded || l.to.tight || !l.gains(now) {
		return
	}
	for _, o := range l.to.lanes {
		if o != l && (o.makeRoom(b) || o.makeWay(b, now)) {
			return
		}
	}
	l.to.tight = true
}

// makeWay ends a session that may begin nothing for longer than a turn.
func (l *lane) makeWay(b *Book, now time.Time) bool {
	for _, s := range l.held {
		if s.holds.Sub(now) > turnLife {
			s.road.forget(s)
			b.end(s)
			return true
		}
	}
	return false
}

// makeRoom ends an idle session of a road that nobody waits on.
func (l *lane) makeRoom(b *Book) bool {
	for _, r := range l.all {
		if r.line.len() == 0 && len(r.idle) > 0 {
			b.end(r.unpark())
			return true
		}
	}
	return false
}
