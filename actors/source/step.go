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
		for _, r := range b.order {
			b.tick(now, r)
		}
	case protocol.Looked:
		b.looked(now)
	case protocol.Relimited:
		if r := b.by[msg.Limits.Receiver]; r != nil {
			if l := r.named[msg.Limits.Kind.Name]; l != nil && l.limits.Edition < msg.Limits.Edition {
				b.lane(now, msg.Limits)
				b.dispatch(now, r)
			}
		}
	case protocol.Reshared:
		for _, r := range b.order {
			for _, l := range r.lanes {
				b.keepShare(l)
			}
			b.dispatch(now, r)
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

// lane finds or makes the lane of a kind of mail to a receiver.
func (b *Book) lane(now time.Time, limits *shaping.Limits) *lane {
	r := b.receiver(now, limits)
	if l, ok := r.named[limits.Kind.Name]; ok {
		l.used = now
		if l.limits != limits && limits.Edition >= l.limits.Edition {
			b.relimit(l, limits)
		}
		return l
	}
	l := &lane{to: r, limits: limits, own: shaping.NewLane(limits), roads: map[string]*road{}, used: now, turns: r.round}
	if name := limits.Lane(); l.own != nil {
		l.own.Recall(b.kept[name])
		delete(b.kept, name)
	}
	r.lanes, r.named[limits.Kind.Name] = append(r.lanes, l), l
	return l
}

// drop forgets a lane that nobody waits in, but for the list of all.
func (r *receiver) drop(l *lane) {
	delete(r.named, l.limits.Kind.Name)
	r.line = slices.DeleteFunc(r.line, func(o *lane) bool { return o == l })
}

// relimit puts new limits of its kind of mail in force for a lane. Connections that were opened under the old ones end with
// their present transaction.
func (b *Book) relimit(l *lane, limits *shaping.Limits) {
	if l.limits.Same(limits) {
		if l.limits.Edition != limits.Edition {
			l.limits = limits
		}
		return
	}
	l.limits = limits
	used := l.own.Remember()
	l.own = shaping.NewLane(limits)
	l.own.Recall(used)
	l.own.Resume(l.open)
	b.endAll(func(s *Session) bool { return s.road.lane == l })
}

// receiver finds or makes a receiver. Newer limits take effect at once; connections that were opened under the old ones end with
// their present transaction. Limits of older rules are those of a destination that has not looked yet.
func (b *Book) receiver(now time.Time, limits *shaping.Limits) *receiver {
	r, ok := b.by[limits.Receiver]
	if !ok {
		r = &receiver{name: limits.Receiver, limits: limits, control: b.cfg.Controller(*limits), named: map[string]*lane{}}
		b.by[r.name] = r
		b.order = append(b.order, r)
		b.remind(now, r)
		return r
	}
	if r.limits != limits && limits.Edition >= r.limits.Edition {
		if !r.limits.SameReceiver(limits) {
			r.control.Relimit(now, *limits)
			b.endAll(func(s *Session) bool { return s.road.lane.to == r })
		}
		r.limits = limits
	}
	if r.plan != b.plan {
		r.warm(now, b.plan)
	}
	return r
}

// end has a session end with its present transaction, at once where it waits.
func (b *Book) end(s *Session) {
	b.leaves(s)
	b.do(Effect{Kind: EffectWake, Session: s})
}

// leaves notes that a session is to end, whatever it finds from now on.
func (b *Book) leaves(s *Session) {
	s.quit.Store(true)
	s.road.lane.to.unpromise(s) // nothing is passed on to who has no use for it
	if !s.leaving {
		s.leaving = true
		s.road.lane.leaving++
		s.road.lane.to.leaving++
	}
}

// room is how many connections more a receiver bears once those have ended that are to, less than none where it has too many.
func (r *receiver) room() int { return r.control.Connections() - r.open + r.leaving }

// room is the same by what the lane may have for itself.
func (l *lane) room() int { return l.own.Connections(l.to.control.Connections()) - l.open + l.leaving }

// endAll has those sessions end that are concerned.
func (b *Book) endAll(concerned func(*Session) bool) {
	for _, id := range slices.Sorted(maps.Keys(b.live)) {
		if s := b.live[id]; concerned(s) {
			b.end(s)
		}
	}
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

// ask serves an ask, unless it may wait for a session that is at work.
func (b *Book) ask(now time.Time, a protocol.Ask) {
	l := b.lane(now, a.Limits)
	if why := b.shut(); why != protocol.ReasonNone {
		b.refuse(l, a, why, now.Add(b.cfg.Patience))
		return
	}
	r := l.road(a.Key, &a.Route)
	if r.rides(&a) {
		b.ride(now, r, a)
		return
	}
	b.serve(now, r, a)
}

// serve puts idle sessions to work for an ask, opens connections, and lets what is left wait in line.
func (b *Book) serve(now time.Time, r *road, a protocol.Ask) {
	if !b.wakeIdle(r, &a) {
		b.dispatch(now, r.lane.to)
	}
}

// wakeIdle serves an ask from idle sessions. False where they are too few: what is left waits in line then.
func (b *Book) wakeIdle(r *road, a *protocol.Ask) bool {
	for a.Want > 0 && r.line.len() == 0 {
		s := r.unpark()
		if s == nil {
			break
		}
		b.assign(s, a)
		b.do(Effect{Kind: EffectWake, Session: s})
	}
	r.put(*a)
	return a.Want == 0
}

// shut tells why nothing is granted to anybody; ReasonNone = that is not so.
func (b *Book) shut() protocol.Reason {
	switch {
	case b.stopping:
		return protocol.ReasonStopping
	case b.cfg.Holds != nil && !b.cfg.Holds(b.source):
		return protocol.ReasonElsewhere
	}
	return protocol.ReasonNone
}

// assign gives one session's worth of an ask to s.
func (b *Book) assign(s *Session, a *protocol.Ask) {
	a.Want--
	s.nextBox, s.nextShelf = a.Outbox, a.Shelf
	b.counters.Granted.Add(1)
}

// dispatch opens connections for who waits, as far as the limits go: each lane in its turn.
func (b *Book) dispatch(now time.Time, r *receiver) {
	r.wants, r.tight = 0, false
	all := r.inLine()
	if len(all) > 1 {
		slices.SortStableFunc(all, func(x, y *lane) int { return cmp.Compare(x.turns, y.turns) })
	}
	full := false
	for len(all) > 0 {
		l := all[0]
		if full && l.crowds(now) {
			if l.asked(now) {
				l.bound = bound{reason: protocol.ReasonSlots}
				b.waits(now, l)
			}
			all = all[1:]
			continue
		}
		if !b.open(now, l) || l.waiting == 0 {
			full = full || l.waiting > 0 && l.crowded
			all = all[1:]
			continue
		}
		for i := 1; i < len(all) && all[i].turns < l.turns; i++ {
			all[i-1], all[i] = all[i], l
		}
	}
}

// open opens a connection for the first who waits in a lane; false where it may not.
func (b *Book) open(now time.Time, l *lane) bool {
	r := l.turn(now)
	if r == nil {
		return false
	}
	if why := b.shut(); why != protocol.ReasonNone {
		b.refuseAll(l, why, now.Add(b.cfg.Patience))
		return false
	}
	l.crowded = false
	if at := l.rests(now); !at.IsZero() {
		l.bound = bound{protocol.ReasonInterval, at}
		b.alarm(l.to, at)
		return false
	}
	if most := l.bears(now); l.to.open >= most && l.to.open < l.to.control.Connections() {
		l.bound = bound{reason: protocol.ReasonRate} // one more connection would carry nothing more
		b.leftFree(now, l, most)
		return false
	}
	total, ok := b.share(l)
	if !ok {
		l.bound = bound{reason: protocol.ReasonSlots}
		b.crowded(now, l)
		return false
	}
	slots, messages, until := l.to.control.Grant(now, 1, l.own)
	if slots == 0 {
		l.crowded = l.to.control.Refusal() == shaping.Connections && l.open < l.own.Connections(l.open+1)
		b.unshare(total, false)
		b.wait(now, l, until)
		return false
	}
	l.bound = bound{}
	a := r.take()
	b.lastID++
	s := &Session{ID: b.lastID, road: r, lapped: now, left: messages, until: until,
		every: l.limits.Every(), waker: b.cfg.NewWaker(), total: total}
	b.live[s.ID] = s
	r.open++
	l.open++
	l.to.open++
	l.charge()
	b.assign(s, &a)
	r.put(a)
	b.counters.Opened.Add(1)
	b.do(Effect{Kind: EffectStart, Session: s})
	return true
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
	return r.line.shed(now, func(a *protocol.Ask) {
		withdraw(a)
		r.lane.waiting--
	})
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
		if l := r.lane; !l.inLine {
			l.inLine = true
			l.to.line = append(l.to.line, l)
		}
	}
}

// wait is when the controller grants nothing: what passes soon is waited for, the rest is refused so that the
// destinations try elsewhere.
func (b *Book) wait(now time.Time, l *lane, until time.Time) {
	reason := reasonOf(l.to.control.Refusal())
	l.bound = bound{reason, until}
	switch {
	case reason == protocol.ReasonSlots || until.IsZero():
		b.waits(now, l)
	case passing(l.to.control.Refusal()) && until.Sub(now) < b.cfg.Patience:
		b.alarm(l.to, until)
	default:
		b.refuseAll(l, reason, until)
	}
}

// passing tells whether what keeps mail back passes by itself, and mostly soon.
func passing(r shaping.Reason) bool {
	return r == shaping.Rate || r == shaping.ConnectionRate || r == shaping.TopOfHour
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
		Refused: protocol.Refused{Source: b.source, Lane: l.limits.Kind.Name, Reason: reason, Until: until}})
}

func reasonOf(r shaping.Reason) protocol.Reason {
	switch r {
	case shaping.Connections, shaping.ProbeOut:
		return protocol.ReasonSlots
	case shaping.Rate:
		return protocol.ReasonRate
	case shaping.ConnectionRate:
		return protocol.ReasonConnects
	case shaping.TopOfHour:
		return protocol.ReasonTopOfHour
	case shaping.DailyCap:
		return protocol.ReasonDailyCap
	case shaping.HourlyCap:
		return protocol.ReasonHourlyCap
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
	s.road.forget(s)
	s.road.open--
	l.pay(now, s)
	if s.leaving {
		l.leaving--
		l.to.leaving--
	}
	if l.limits.Kind.Interval > 0 && now.Before(s.next) {
		l.rest = append(l.rest, s.next)
	}
	b.release(now, l, s.left)
	s.left = 0
	if o := &m.Report.Outcome; o.Result != 0 && !(s.answered && s.stage == o.Stage && s.code == o.Reply.Code) {
		b.observe(now, l, m.Report.Outcome, m.Report.Connected)
	}
	b.dispatch(now, l.to)
}

// release gives a slot of a lane back, and the messages that were not begun.
func (b *Book) release(now time.Time, l *lane, unused int) {
	l.open--
	l.to.open--
	l.to.control.Release(now, 1, unused, l.own)
	if unused > 0 {
		b.passOn(now, l.to)
	}
}

// observe tells the controller what the receiver did, and acts when that changes how the two stand: for all kinds of mail.
func (b *Book) observe(now time.Time, l *lane, o mail.Outcome, connected bool) {
	r := l.to
	before, _ := r.control.State()
	if at := r.served.Load(); at != 0 {
		r.control.Served(time.Unix(0, at))
	}
	r.control.Observe(now, o, connected, l.own)
	state, until := r.control.State()
	if o.Result != mail.Delivered {
		r.watch.Store(watchFor)
	} else if state == shaping.Open {
		r.watch.Add(-1)
	}
	if state == before {
		return
	}
	switch state {
	case shaping.Blocked:
		b.counters.Blocks.Add(1)
		for _, x := range r.lanes {
			b.refuseAll(x, protocol.ReasonBlocked, until)
		}
		b.endAll(func(s *Session) bool { return s.road.lane.to == r }) // it has said that it wants nothing now
		b.alarm(r, until)
	case shaping.Open, shaping.Slowed:
		b.dispatch(now, r)
	}
}

// watchFor is how many successes a controller is told of after trouble; before trouble it needs none.
const watchFor = 16

// Lift ends a receiver's block before its time; it tells whether there was one.
func (b *Book) Lift(now time.Time, receiver string) (bool, []Effect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.by[receiver]
	if r == nil {
		return false, nil
	}
	if state, _ := r.control.State(); state != shaping.Blocked {
		return false, nil
	}
	r.control.Lift(now)
	b.dispatch(now, r)
	return true, b.flush()
}

// tick is for a receiver whose alarm went off.
func (b *Book) tick(now time.Time, r *receiver) {
	if r.alarm.IsZero() || now.Before(r.alarm) {
		return
	}
	r.alarm = time.Time{}
	b.dispatch(now, r)
}

// alarm has Tick called at a moment; an earlier one that is set already does as well.
func (b *Book) alarm(r *receiver, at time.Time) {
	if at.IsZero() || (!r.alarm.IsZero() && !at.Before(r.alarm)) {
		return
	}
	r.alarm = at
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
	open, leaving := map[*road]int{}, map[*lane]int{}
	for _, s := range b.live {
		if open[s.road]++; s.leaving {
			leaving[s.road.lane]++
		}
	}
	for _, r := range b.order {
		b.recount(now, r, open, leaving)
	}
	if b.look = (time.Time{}); len(b.ridden) > 0 {
		b.lookLater(now)
	}
}

// recount puts a receiver in order again; open is how many sessions live on each road, leaving how many of a lane's are to end.
func (b *Book) recount(now time.Time, r *receiver, open map[*road]int, leaving map[*lane]int) {
	r.open, r.leaving, r.line = 0, 0, nil
	for _, l := range r.lanes {
		l.open, l.leaving, l.waiting, l.busy = l.loans, leaving[l], 0, nil
		for _, road := range l.all {
			road.open = open[road]
			l.open += road.open
			l.waiting += road.line.len()
			if road.inTurn = false; road.line.len() > 0 {
				road.queue()
			}
		}
		l.own.Resume(l.open)
		r.open += l.open
		r.leaving += l.leaving
		if l.inLine = l.waiting > 0; l.inLine {
			r.line = append(r.line, l)
		}
	}
	r.control.Resume(now, r.open)
	if at := r.alarm; !at.IsZero() {
		r.alarm = time.Time{}
		b.alarm(r, at)
	}
	b.dispatch(now, r)
}

// Stop refuses every ask from now on and ends idle sessions; the others end with their present transaction.
func (b *Book) Stop(now time.Time) []Effect {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopping = true
	for _, r := range b.order {
		for _, l := range r.lanes {
			b.refuseAll(l, protocol.ReasonStopping, now.Add(b.cfg.Patience))
		}
	}
	b.endAll(func(*Session) bool { return true })
	return b.flush()
}

// Live is how many sessions hold a slot.
func (b *Book) Live() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.live)
}
