package source

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Session is one connection's right to exist, and its way from outbox to outbox.
//
//	             assigned              dry, somebody waits on this road
//	started ───────────────▶ working ─────────────────────────────────▶ working for the next
//	                         │     ▲
//	       dry, nobody waits ▼     │ arrival on its outbox, or assigned another
//	                        lingering ──▶ parked (off the outbox) ──▶ ended
//
// It ends when its allowance is not renewed, when others need the slot for another road, when it has been idle for too
// long, or when the courier says so. The fields are the session's own goroutine's, but for those marked otherwise.
type Session struct {
	ID   uint64
	road *road

	box    protocol.Outbox
	shelf  int
	turn   int       // messages taken in this destination's turn …
	since  time.Time // … which began then
	lap    int       // messages taken in the present turn of its lane, on however many outboxes …
	lapped time.Time // … which began then
	left   int       // messages the grant still holds
	until  time.Time
	every  time.Duration // from one message to the next
	next   time.Time     // … which may begin then
	queued bool          // in the outbox's line of lingerers
	vain   int           // riders taken since the last parcel
	dot    time.Time     // when the last final dot was cleared; zero = it is answered

	quit    atomic.Bool                     // must end
	started atomic.Bool                     // has a goroutine
	ended   atomic.Pointer[protocol.Report] // how it ended

	// Guarded by the book.
	nextBox   protocol.Outbox
	nextShelf int
	parked    bool      // in road.idle
	promised  time.Time // the moment that it waits for in receiver.turns; zero = it does not
	holds     time.Time // until when it rests in lane.resting; zero = it does not
	leaving   bool      // is to end: its slot will be free, see lane.room
	bound     bound     // what keeps it from its next message

	// The last answer that was no success, so that a report of the same does not count twice.
	answered bool
	stage    mail.Stage
	code     int

	waker protocol.Waker // wakes its goroutine
	total string         // what it has of Totals; "" = nothing

	surplus bool // ends because the node has more of total than its share
}

// Verdict says what a session finds when it looks for work.
type Verdict uint8

// The verdicts.
const (
	Busy Verdict = iota // a parcel
	Dry                 // nothing now; it may wait
	Hold                // work waits, but the pace does not allow it before a moment
	End                 // it must end
)

// Trip is what the session needs to connect.
func (s *Session) Trip(b *Book) protocol.Trip {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := s.road.lane
	var domain mail.Domain
	if box := cmp.Or(s.nextBox, s.box); box != nil {
		domain = box.Domain()
	}
	return protocol.Trip{Domain: domain, Source: b.source, Route: s.road.route, Receiver: l.to.name, PerConnection: l.to.control.PerConnection(),
		SessionTime: l.limits.SessionTime, Interval: l.limits.Every(), TLS: l.limits.TLS}
}

// Receiver names whom the session talks to.
func (s *Session) Receiver() string { return s.road.lane.to.name }

// Wake wakes the session's goroutine.
func (s *Session) Wake() { s.waker.Wake() }

// Waker is what Config.NewWaker made for the session.
func (s *Session) Waker() protocol.Waker { return s.waker }

// Next looks for work for s: on its present outbox while its turn and its allowance last, then on that of whoever is
// next in line. With block, a session that finds nothing is registered as idle: the caller must wait for a wake and
// then call Woken. Without, nil only means "not now". Effects are to be run after the call, whatever the verdict.
func (b *Book) Next(now time.Time, s *Session, block bool) (p *protocol.Parcel, v Verdict, at time.Time, effects []Effect) {
	for range maxRounds {
		if s.quit.Load() {
			v = End
			break
		}
		dry := s.box == nil
		var held time.Time
		switch here := !dry && s.nextBox == nil; {
		case here && now.Before(s.next):
			held = s.next
		case here && block && !s.allowed(now): // an allowance is for who has mail
			s.queued = s.box.Linger(s.shelf, s)
			dry = s.queued
		case here && s.allowed(now) && !s.over(now, b.cfg.Quantum) && !s.lapOver(now, b.cfg.Quantum):
			if p, held = s.box.Take(now, s.shelf, b.source, s.Receiver()); p != nil {
				s.vain = 0
				s.left--
				s.turn++
				s.lap++
				if s.every > 0 {
					s.next = now.Add(s.every)
				}
				return p, Busy, at, effects
			}
			switch dry = held.IsZero(); {
			case !dry: // whoever waits in line has his turn meanwhile
				s.turn = b.cfg.Quantum
			case block:
				s.queued = s.box.Linger(s.shelf, s)
				dry = s.queued // else something came in between
			}
		}
		var again bool
		var es []Effect
		box, shelf := s.box, s.shelf
		v, at, again, es = b.change(now, s, held, dry, block)
		if effects == nil {
			effects = es
		} else {
			effects = append(effects, es...)
		}
		if again && !held.IsZero() && s.box == box && s.shelf == shelf {
			v, at = Hold, held
			break
		}
		if !again {
			break
		}
	}
	if v == Busy { // the rounds are over: something keeps work in sight and out of reach
		v = End
	}
	if v == End && block {
		b.leave(now, s, nil, nil)
	}
	return nil, v, at, effects
}

// maxRounds bounds one call of Next: each round takes a parcel, another outbox or a fresh allowance, or ends.
const maxRounds = 64

// change is what a session does when it cannot simply go on: it takes up the outbox assigned to it, renews its
// allowance, makes place for the next in line, or becomes idle. again = look once more.
func (b *Book) change(now time.Time, s *Session, held time.Time, dry, block bool) (Verdict, time.Time, bool, []Effect) {
	b.mu.Lock()
	s.road.forget(s)
	s.bound = bound{}
	if s.nextBox == nil {
		v, at, again := b.advance(now, s, held, dry, block)
		if v == Hold && now.Before(s.next) {
			s.bound = bound{protocol.ReasonInterval, at}
		} else if v == Hold {
			s.bound = bound{reasonOf(s.road.lane.to.control.Refusal()), at}
		}
		if s.nextBox == nil {
			effects := b.flush()
			b.mu.Unlock()
			if again && s.queued { // dry no more
				s.box.Unlinger(s.shelf, s)
				s.queued = false
			}
			return v, at, again, effects
		}
	}
	box, shelf := s.nextBox, s.nextShelf
	s.nextBox = nil
	effects := b.flush()
	b.mu.Unlock()
	if s.box == box && s.shelf == shelf { // it works that outbox already
		if s.queued {
			s.box.Unlinger(s.shelf, s)
			s.queued = false
		}
		box.Withdraw(shelf, 1)
	} else {
		b.leave(now, s, nil, nil)
		box.Join(shelf)
		s.box, s.shelf = box, shelf
	}
	s.turn, s.since = 0, now
	return Busy, time.Time{}, true, effects
}

// allowed tells whether s has an allowance left.
func (s *Session) allowed(now time.Time) bool { return s.left > 0 && now.Before(s.until) }

// over tells whether the turn of the destination that s works for is.
func (s *Session) over(now time.Time, quantum int) bool {
	return s.turn >= quantum || now.Sub(s.since) >= turnLife
}

// lapOver tells whether the turn of its lane is. There is a message in each, however long the connection took to come about.
func (s *Session) lapOver(now time.Time, quantum int) bool {
	return s.lap >= quantum || s.lap > 0 && now.Sub(s.lapped) >= turnLife
}

// advance decides for a session nothing was assigned to. It may assign: see nextBox. Where it says that the session ends, that
// holds: a courier that only looked looks again, and must not find a fresh turn then.
func (b *Book) advance(now time.Time, s *Session, held time.Time, dry, block bool) (v Verdict, at time.Time, again bool) {
	l := s.road.lane
	pauses := now.Before(s.next) // between two messages: what it could be allowed now others may use
	switch {
	case pauses:
	case dry && l.to.room() < 0: // there are to be fewer
		b.leaves(s)
		return End, at, false
	case dry && l.to.control.Pace() > 0: // others may have it meanwhile
		s.giveUp(now)
		b.passOn(now, l.to)
	case !dry:
		if v, at, ok := b.renew(now, s, l, block); !ok {
			if own := l.own.Rests(now); v == Hold && own.Sub(now) > turnLife {
				return b.rest(now, s, at, own, block)
			}
			return v, at, false
		}
	}
	lap, idle := s.lapOver(now, b.cfg.Quantum), dry && !s.carries(now, block) && !(l.waiting > 0 && l.asked(now)) || held.Sub(now) > turnLife
	if lap {
		l.pay(now, s)
	}
	if (lap || idle) && l.due(now, idle) {
		b.leaves(s)
		return End, at, false // another kind of mail has its turn
	}
	if lap {
		l.charge()
	}
	if pauses {
		return b.rest(now, s, s.next, s.next, block)
	}
	if !dry && !s.over(now, b.cfg.Quantum) {
		return Busy, at, true
	}
	s.turn, s.since = 0, now
	switch {
	case l.waiting > 0 && s.road.trim(now):
		a := s.road.take()
		b.assign(s, &a)
		s.road.put(a)
	case b.takeRider(now, s, block):
	case l.waiting > 0 && b.otherRoad(now, l, s.road):
		b.leaves(s)
		return End, at, false // who waits needs the slot for other hosts
	case !dry:
		return Busy, at, true
	case block:
		s.road.park(s)
		return Dry, at, false
	default:
		return Dry, at, false
	}
	return Busy, at, true
}

// rest has a session wait that may begin nothing before a moment, because of what its own lane may. Where that is longer than a turn, it
// is there for who needs its connection meanwhile.
func (b *Book) rest(now time.Time, s *Session, at, own time.Time, block bool) (Verdict, time.Time, bool) {
	if own.Sub(now) > turnLife {
		l := s.road.lane
		if l.due(now, true) {
			b.leaves(s)
			return End, at, false
		}
		if block {
			s.holds = own
			l.held = append(l.held, s)
		}
	}
	return Hold, at, false
}

// giveUp returns what is left of the allowance.
func (s *Session) giveUp(now time.Time) {
	if s.left > 0 {
		s.road.lane.to.control.Release(now, 0, s.left, s.road.lane.own)
		s.left = 0
	}
}

// renew sees to the allowance; false where there is none to be had now.
func (b *Book) renew(now time.Time, s *Session, l *lane, block bool) (Verdict, time.Time, bool) {
	if s.allowed(now) {
		return Busy, time.Time{}, true
	}
	s.giveUp(now)
	want, pace := b.cfg.Quantum, shaping.Lower(l.to.control.Pace(), l.pace())
	if !block && l.to.control.Binds(now) { // whoever waits is told a moment, and who does not wait would not come then
		return Hold, now, false
	}
	if pace > 0 { // who sends at a pace holds little, so that the others have their share
		want = max(1, min(want, int(pace/float64(4*max(l.to.open, 1)))))
	}
	n, until := l.to.control.Renew(now, want, l.own)
	if n == 0 {
		r := l.to.control.Refusal()
		if passing(r) && until.Sub(now) < b.cfg.Patience {
			if block && r == shaping.Rate && !l.limits.Kind.Fixed && l.own.Rests(now).IsZero() {
				s.promised = until
				l.to.turns = append(l.to.turns, s)
			}
			return Hold, until, false
		}
		return End, until, false
	}
	s.left, s.until = n, until
	return Busy, time.Time{}, true
}

// passOn has whoever was promised the last moment come now, where the pace leaves a message that no session has use for: the mail
// was gone when its own moment came, or its connection did not come about. At a slow pace that message would be lost, since no
// more than one is kept.
func (b *Book) passOn(now time.Time, r *receiver) {
	if len(r.turns) == 0 || !r.control.Spare(now) {
		return
	}
	last := slices.MaxFunc(r.turns, func(x, y *Session) int { return x.promised.Compare(y.promised) })
	last.road.forget(last)
	b.do(Effect{Kind: EffectWake, Session: last})
}

// otherRoad tells whether asks wait on a road that has no free session, no slot is left for them, and more wait than those make
// room for that are to end.
func (b *Book) otherRoad(now time.Time, l *lane, own *road) bool {
	for _, r := range l.busy {
		if r != own && r.trim(now) {
			most := l.bears(now)
			free := min(most-l.to.open+l.to.leaving, l.room())
			full := l.to.open >= most || l.open >= l.own.Connections(most)
			if l.limits.Kind.Total > 0 && b.cfg.Totals.full(l.limits.Lane()) {
				free, full = min(free, l.leaving), true
			}
			return full && l.waiting-own.line.len() > free
		}
	}
	return false
}

// leave takes s off its outbox, together with parcels it gives back; news is told to the destination.
func (b *Book) leave(now time.Time, s *Session, back []*protocol.Parcel, news any) {
	if s.box == nil {
		return
	}
	if s.queued {
		s.box.Unlinger(s.shelf, s)
		s.queued = false
	}
	s.box.Leave(now, s.shelf, back, news)
	s.box = nil
}

// Woken is called by a session that comes back from waiting: it is not idle any more. It tells whether another outbox
// was assigned to it.
func (b *Book) Woken(s *Session) bool {
	if s.queued {
		s.box.Unlinger(s.shelf, s)
		s.queued = false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.road.forget(s)
	return s.nextBox != nil
}

// Park takes an idle session off its outbox, so that the destination may rest; it stays ready for whoever asks.
func (b *Book) Park(now time.Time, s *Session) { b.leave(now, s, nil, nil) }

// Close ends a session for everybody but the slot, which Reported frees: it gives its parcels back, leaves its outbox
// with the news, if there is any, and answers what was assigned to it meanwhile.
func (b *Book) Close(now time.Time, s *Session, back []*protocol.Parcel, news any) {
	b.Woken(s)
	if box, shelf := s.nextBox, s.nextShelf; box != nil {
		s.nextBox = nil
		box.Join(shelf)
		if s.box != nil {
			box.Leave(now, shelf, nil, nil)
		} else {
			s.box, s.shelf = box, shelf
		}
	}
	b.leave(now, s, back, news)
}

// Outbox is where the session is at work, nil = nowhere, and the shelf.
func (s *Session) Outbox() (protocol.Outbox, int) { return s.box, s.shelf }

// Cleared notes that a final dot of the session's goes out.
func (s *Session) Cleared(now time.Time) { s.dot = now }

// Settled tells the controller what the receiver answered. Deliveries are told only after trouble, because a
// controller without trouble learns nothing from them.
func (b *Book) Settled(now time.Time, s *Session, o *mail.Outcome) []Effect {
	l := s.road.lane
	if !s.dot.IsZero() {
		if o.Stage == mail.StageDot && !o.InDoubt {
			s.road.dotted(now.Sub(s.dot))
		}
		s.dot = time.Time{}
	}
	delivered := o.Result == mail.Delivered
	if delivered {
		l.to.served.Store(now.UnixNano())
		l.to.taken.Add(1)
	}
	if delivered && l.to.watch.Load() <= 0 {
		return nil
	}
	if s.answered = !delivered; s.answered {
		s.stage, s.code = o.Stage, o.Reply.Code
	}
	if a := o.Advice; a != nil && a.Jump != nil && !delivered {
		o = b.cfg.Jumps.answered(now, b.source, l.to.name, int(l.to.taken.Swap(0)), o)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.observe(now, l, *o, true)
	return b.flush()
}

func (r *road) park(s *Session) {
	s.parked = true
	r.idle = append(r.idle, s)
}

// unpark takes the session that became idle last: its connection is the warmest.
func (r *road) unpark() *Session {
	n := len(r.idle)
	if n == 0 {
		return nil
	}
	s := r.idle[n-1]
	r.idle[n-1] = nil
	r.idle = r.idle[:n-1]
	s.parked = false
	return s
}

// unpromise takes s out of those that wait for their moment.
func (r *receiver) unpromise(s *Session) {
	if !s.promised.IsZero() {
		s.promised = time.Time{}
		r.turns = slices.DeleteFunc(r.turns, func(o *Session) bool { return o == s })
	}
}

// forget takes s out of the idle ones, of those that rest, and of those that wait for their moment.
func (r *road) forget(s *Session) {
	r.lane.to.unpromise(s)
	if !s.holds.IsZero() {
		s.holds = time.Time{}
		r.lane.held = slices.DeleteFunc(r.lane.held, func(o *Session) bool { return o == s })
	}
	if !s.parked {
		return
	}
	s.parked = false
	if i := slices.Index(r.idle, s); i >= 0 {
		last := len(r.idle) - 1
		r.idle[i] = r.idle[last]
		r.idle[last] = nil
		r.idle = r.idle[:last]
	}
}

// Assigned is the outbox that waits for the session to take it up, nil = none, and the shelf. For sessions that end.
func (s *Session) Assigned() (protocol.Outbox, int) { return s.nextBox, s.nextShelf }

// Begin tells whether the caller is the one to run the session: true once.
func (s *Session) Begin() bool { return s.started.CompareAndSwap(false, true) }

// Finish keeps how the session ended where a failing actor cannot lose it; before Reported is sent.
func (s *Session) Finish(r protocol.Report) { s.ended.Store(&r) }
