package source

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Step takes one message of the dialogue and says what to do. The effects are the caller's.
func (b *Book) Step(now time.Time, msg any) []Effect {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch msg := msg.(type) {
	case protocol.Ask:
		b.ask(now, msg)
	case protocol.Reported:
		b.reported(now, msg)
	case protocol.Ticked:
		for _, l := range b.order {
			b.tick(now, l)
		}
	case protocol.Reshared:
		for _, l := range b.order {
			b.keepShare(l)
			b.dispatch(now, l)
		}
	case protocol.Restarted:
		b.recover(now)
	}
	return b.flush()
}

// flush hands the collected effects over.
func (b *Book) flush() []Effect {
	if len(b.effects) == 0 {
		return nil
	}
	out := b.effects
	b.effects = nil
	return out
}

func (b *Book) do(e Effect) { b.effects = append(b.effects, e) }

// lane finds or makes the lane of a receiver. New limits of the same receiver take effect with a fresh controller that
// is told of the slots in use; connections that were opened under the old ones end with their present transaction.
func (b *Book) lane(now time.Time, limits *shaping.Limits) *lane {
	l, ok := b.lanes[laneName(limits)]
	if !ok {
		l = &lane{receiver: limits.Receiver, limits: limits, control: b.cfg.Controller(*limits), roads: map[string]*road{}, used: now}
		b.lanes[laneName(limits)] = l
		b.order = append(b.order, l)
		b.remind(now, l)
		return l
	}
	l.used = now
	if l.limits != limits && *l.limits != *limits {
		l.limits, l.control, l.plan = limits, b.cfg.Controller(*limits), nil
		for range l.open {
			l.control.Grant(now, 1)
		}
		b.endAll(l)
	}
	if l.plan != b.plan {
		l.warm(now, b.plan)
	}
	return l
}

// end has a session end with its present transaction, at once where it waits.
func (b *Book) end(s *Session) {
	s.quit.Store(true)
	b.do(Effect{Kind: EffectWake, Session: s})
}

// endAll has the sessions of a lane end.
func (b *Book) endAll(l *lane) {
	for _, id := range slices.Sorted(maps.Keys(b.live)) {
		if s := b.live[id]; s.road.lane == l {
			b.end(s)
		}
	}
}

// laneName tells the lanes of a source apart: one for each receiver and kind of mail.
func laneName(l *shaping.Limits) string {
	if l.Lane == "" {
		return l.Receiver
	}
	return l.Receiver + " " + l.Lane
}

func (l *lane) road(key string, route *mail.Route) *road {
	if r, ok := l.roads[key]; ok {
		r.route = *route
		return r
	}
	r := &road{lane: l, key: key, route: *route}
	l.roads[key] = r
	l.all = append(l.all, r)
	return r
}

// ask serves an ask from idle sessions and free slots, and lets the rest wait in line.
func (b *Book) ask(now time.Time, a protocol.Ask) {
	l := b.lane(now, a.Limits)
	if b.stopping {
		b.refuse(l, a, protocol.ReasonStopping, now.Add(b.cfg.Patience))
		return
	}
	r := l.road(a.Key, &a.Route)
	for a.Want > 0 && r.line.len() == 0 {
		s := r.unpark()
		if s == nil {
			break
		}
		b.assign(s, &a)
		b.do(Effect{Kind: EffectWake, Session: s})
	}
	if a.Want > 0 {
		r.put(a)
		b.dispatch(now, l)
	}
}

// assign gives one session's worth of an ask to s.
func (b *Book) assign(s *Session, a *protocol.Ask) {
	a.Want--
	s.nextBox, s.nextShelf = a.Outbox, a.Shelf
	b.counters.Granted.Add(1)
}

// dispatch opens connections for who waits, as far as the receiver's limits go.
func (b *Book) dispatch(now time.Time, l *lane) {
	for l.waiting > 0 {
		r := l.turn(now)
		if r == nil {
			return
		}
		if b.stopping {
			b.refuseAll(l, protocol.ReasonStopping, now.Add(b.cfg.Patience))
			return
		}
		total, ok := b.share(l)
		if !ok {
			b.crowded(now, l)
			return
		}
		slots, messages, until := l.control.Grant(now, 1)
		if slots == 0 {
			b.unshare(total, false)
			b.held(now, l, until)
			return
		}
		a := r.take()
		b.lastID++
		s := &Session{ID: b.lastID, road: r, left: messages, until: until, waker: b.cfg.NewWaker(), total: total}
		b.live[s.ID] = s
		l.open++
		b.assign(s, &a)
		r.put(a)
		b.counters.Opened.Add(1)
		b.do(Effect{Kind: EffectStart, Session: s})
	}
}

// turn is the road whose asks are served next: each in turn.
func (l *lane) turn(now time.Time) *road {
	for len(l.busy) > 0 {
		r := l.busy[0]
		l.busy = append(l.busy[:0], l.busy[1:]...)
		r.inTurn = false
		if r.trim(now) {
			r.queue()
			return r
		}
	}
	return nil
}

// queue puts r at the end of the round.
func (r *road) queue() {
	if !r.inTurn {
		r.inTurn = true
		r.lane.busy = append(r.lane.busy, r)
	}
}

// trim drops asks that nobody waits for any more from the head of the line; true where one is left.
func (r *road) trim(now time.Time) bool {
	for r.line.len() > 0 {
		a := r.line.first()
		if now.Before(a.Deadline) {
			return true
		}
		a.Outbox.Withdraw(a.Shelf, a.Want)
		r.line.pop()
		r.lane.waiting--
	}
	return false
}

// take removes the first ask from the line, put puts what is left of it at the end.
func (r *road) take() protocol.Ask {
	r.lane.waiting--
	return r.line.pop()
}

func (r *road) put(a protocol.Ask) {
	if a.Want > 0 {
		r.line.push(a)
		r.lane.waiting++
		r.queue()
	}
}

// held is when the controller grants nothing: what passes soon is waited for, the rest is refused so that the
// destinations try elsewhere.
func (b *Book) held(now time.Time, l *lane, until time.Time) {
	reason := reasonOf(l.control.Refusal())
	switch {
	case reason == protocol.ReasonSlots || until.IsZero():
		b.makeRoom(l)
	case reason == protocol.ReasonRate && until.Sub(now) < b.cfg.Patience:
		b.alarm(l, until)
	default:
		b.refuseAll(l, reason, until)
	}
}

// makeRoom ends an idle session of another road when asks wait for a slot. Sessions at work see for themselves at the
// end of their turn.
func (b *Book) makeRoom(l *lane) {
	for _, r := range l.all {
		if r.line.len() == 0 && len(r.idle) > 0 {
			s := r.unpark()
			b.end(s)
			return
		}
	}
}

func (b *Book) refuseAll(l *lane, reason protocol.Reason, until time.Time) {
	for _, r := range l.all {
		for r.line.len() > 0 {
			b.refuse(l, r.take(), reason, until)
		}
	}
}

func (b *Book) refuse(l *lane, a protocol.Ask, reason protocol.Reason, until time.Time) {
	b.counters.Refused[reason].Add(int64(a.Want))
	b.do(Effect{Kind: EffectRefuse, Outbox: a.Outbox, Shelf: a.Shelf, Want: a.Want,
		Refused: protocol.Refused{Source: b.source, Lane: l.limits.Lane, Reason: reason, Until: until}})
}

func reasonOf(r shaping.Reason) protocol.Reason {
	switch r {
	case shaping.Connections, shaping.ProbeOut:
		return protocol.ReasonSlots
	case shaping.Rate, shaping.ConnectionRate, shaping.TopOfHour:
		return protocol.ReasonRate
	case shaping.DailyCap, shaping.HourlyCap:
		return protocol.ReasonCap
	case shaping.Warmup:
		return protocol.ReasonWarmup
	case shaping.BlockedPause:
		return protocol.ReasonBlocked
	}
	return protocol.ReasonNone
}

// reported frees the slot of a session that has ended and gives it to who waits.
func (b *Book) reported(now time.Time, m protocol.Reported) {
	s, ok := b.live[m.Session]
	if !ok {
		return
	}
	delete(b.live, m.Session)
	b.unshare(s.total, s.surplus)
	l := s.road.lane
	l.used = now
	l.open--
	s.road.forget(s)
	l.control.Release(now, 1, s.left)
	s.left = 0
	if o := &m.Report.Outcome; o.Result != 0 && !(s.answered && s.stage == o.Stage && s.code == o.Reply.Code) {
		b.observe(now, l, m.Report.Outcome, m.Report.Connected)
	}
	b.dispatch(now, l)
}

// observe tells the controller what the receiver did, and acts when that changes how the two stand.
func (b *Book) observe(now time.Time, l *lane, o mail.Outcome, connected bool) {
	before, _ := l.control.State()
	if at := l.served.Load(); at != 0 {
		l.control.Served(time.Unix(0, at))
	}
	l.control.Observe(now, o, connected)
	state, until := l.control.State()
	if o.Result != mail.Delivered {
		l.watch.Store(watchFor)
	} else if state == shaping.Open {
		l.watch.Add(-1)
	}
	if state == before {
		return
	}
	switch state {
	case shaping.Blocked:
		b.counters.Blocks.Add(1)
		b.refuseAll(l, protocol.ReasonBlocked, until)
		for _, r := range l.all { // an idle connection to somebody who does not want us is no use
			for s := r.unpark(); s != nil; s = r.unpark() {
				b.end(s)
			}
		}
		b.alarm(l, until)
	case shaping.Open, shaping.Slowed:
		b.dispatch(now, l)
	}
}

// watchFor is how many successes a controller is told of after trouble; before trouble it needs none.
const watchFor = 16

// Lift ends a receiver's block before its time, for all kinds of mail; it tells whether there was one.
func (b *Book) Lift(now time.Time, receiver string) (bool, []Effect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := false
	for _, l := range b.order {
		if state, _ := l.control.State(); l.receiver == receiver && state == shaping.Blocked {
			found = true
			l.control.Lift(now)
			b.dispatch(now, l)
		}
	}
	return found, b.flush()
}

// tick is for a lane whose alarm went off.
func (b *Book) tick(now time.Time, l *lane) {
	if l.alarm.IsZero() || now.Before(l.alarm) {
		return
	}
	l.alarm = time.Time{}
	b.dispatch(now, l)
}

// alarm has Tick called at a moment; an earlier one that is set already does as well.
func (b *Book) alarm(l *lane, at time.Time) {
	if at.IsZero() || (!l.alarm.IsZero() && !at.Before(l.alarm)) {
		return
	}
	l.alarm = at
	b.do(Effect{Kind: EffectAlarm, At: at})
}

// recover is for a new incarnation of a failed actor: the slots are counted again from the sessions that live, ends
// whose report was lost are made up for, and whoever waits is served.
func (b *Book) recover(now time.Time) {
	for _, id := range slices.Sorted(maps.Keys(b.live)) {
		s := b.live[id]
		if r := s.ended.Load(); r != nil {
			b.reported(now, protocol.Reported{Session: id, Report: *r})
		} else if !s.started.Load() {
			b.do(Effect{Kind: EffectStart, Session: s})
		}
	}
	open := map[*lane]int{}
	for _, l := range b.order {
		open[l] = l.loans
	}
	for _, s := range b.live {
		open[s.road.lane]++
	}
	for _, l := range b.order {
		if u, ok := l.control.(interface{ Used() int }); ok && u.Used() > open[l] {
			l.control.Release(now, u.Used()-open[l], 0)
		}
		l.open, l.waiting, l.busy = open[l], 0, nil
		for _, r := range l.all {
			l.waiting += r.line.len()
			if r.inTurn = false; r.line.len() > 0 {
				r.queue()
			}
		}
		if at := l.alarm; !at.IsZero() {
			l.alarm = time.Time{}
			b.alarm(l, at)
		}
		b.dispatch(now, l)
	}
}

// Stop refuses every ask from now on and ends idle sessions; the others end with their present transaction.
func (b *Book) Stop(now time.Time) []Effect {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopping = true
	for _, l := range b.order {
		b.refuseAll(l, protocol.ReasonStopping, now.Add(b.cfg.Patience))
	}
	for _, id := range slices.Sorted(maps.Keys(b.live)) {
		b.end(b.live[id])
	}
	return b.flush()
}

// Live is how many sessions hold a slot.
func (b *Book) Live() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.live)
}

// Standing is how a source stands to one receiver.
type Standing struct {
	Receiver    string
	Lane        string // see shaping.Limits
	Queue       string // likewise
	Connections int
	Waiting     int // asks in line
	State       shaping.State
	Until       time.Time // of a block; zero = none
	Pace        float64   // messages a second that may go now; 0 = no bound
	Most        int       // connections that may be open now
	Cause       shaping.Cause
	WarmStep    int // of its warm-up plan …
	WarmMost    int // … and what that allows in its span; 0 = it is warm
}

// Snapshot lists the receivers this source deals with, by name.
func (b *Book) Snapshot(now time.Time) []Standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Standing, 0, len(b.lanes))
	for _, l := range b.order {
		state, until := l.control.State()
		if state == shaping.Blocked && !now.Before(until) {
			state, until = shaping.Probing, time.Time{}
		}
		step, most, _ := l.control.Warmup()
		out = append(out, Standing{Receiver: l.receiver, Lane: l.limits.Lane, Queue: l.limits.Queue, Connections: l.open, Waiting: l.waiting, State: state, Until: until,
			Pace: l.control.Pace(), Most: l.control.Connections(), Cause: l.control.Cause(), WarmStep: step, WarmMost: most})
	}
	slices.SortFunc(out, func(a, c Standing) int { return cmp.Compare(a.Receiver, c.Receiver) })
	return out
}
