package sim

import (
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/mail"
)

// sess is a session without a goroutine: a courier of the simplest kind.
type sess struct {
	w       *world
	b       *source.Book
	s       *source.Session
	trip    protocol.Trip
	to      remote
	waiting bool
	gen     int // of the present wait
	hand    *protocol.Parcel
	answer  mail.Outcome // the last
	box     protocol.Outbox
	cleared bool
	report  protocol.Report
	over    bool
	caller  *caller // what the other side knows of its source, where that is a hidden one

	// What it does again and again, made once.
	onNext, onDot func()
	onSettled     func(error)
}

// remote is the other side of sessions.
type remote interface {
	open(*sess)
	close(*sess)
	connects() time.Duration  // how long until the greeting
	takes() time.Duration     // how long a transaction lasts
	greet(*sess) mail.Outcome // Result 0 = fine
	begin(*sess, *protocol.Parcel)
	answer(*sess, *protocol.Parcel) (o mail.Outcome, lost bool) // lost: the connection went before the dot
	scoped(*sess, *mail.Outcome) func()                         // what is to be done once an answer was acted on; nil = nothing
}

// waker wakes a sess.
type waker struct {
	w *world
	x *sess
}

// Wake implements protocol.Waker.
func (k *waker) Wake() {
	if x := k.x; x != nil && x.waiting {
		x.riseAfter(k.w.upTo(time.Millisecond))
	}
}

func (w *world) startSession(b *source.Book, s *source.Session) {
	if !s.Begin() {
		return
	}
	x := &sess{w: w, b: b, s: s, trip: s.Trip(b)}
	x.onNext, x.onDot = x.next, x.dot
	node := w.node
	x.onSettled = func(error) {
		if w.node == node {
			w.later(0, x.onNext) // rule D6: not before the outcome is durable
		}
	}
	s.Waker().(*waker).x = x
	x.to = w.remotes(x.trip.Route)
	w.sessions++
	w.live[x] = w.sessions
	x.to.open(x)
	w.later(x.to.connects(), func() {
		if o := x.to.greet(x); o.Result != 0 {
			x.report.Outcome = o
			x.end()
			return
		}
		x.report.Connected = true
		x.next()
	})
}

// rise comes back from waiting.
func (x *sess) rise() {
	x.waiting = false
	x.gen++
	x.b.Woken(x.s)
	x.next()
}

func (x *sess) next() {
	w := x.w
	if x.over {
		return
	}
	if x.report.Outcome.Result != 0 || x.trip.PerConnection > 0 && x.report.Messages >= x.trip.PerConnection {
		x.end()
		return
	}
	p, v, at, effects := x.b.Next(w.now, x.s, true)
	w.act(x.b, effects)
	switch v {
	case source.Busy:
		x.hand = p
		x.box, _ = x.s.Outbox()
		if err := x.box.Fetch(p); err != nil {
			w.fail(err)
			return
		}
		x.s.Cleared(w.now) // all of a transaction is its dot here
		x.to.begin(x, p)
		w.later(x.to.takes(), x.onDot)
	case source.Hold:
		x.hold(at.Sub(w.now))
	case source.Dry:
		x.rest()
	case source.End:
		x.end()
	}
}

// patience is how long a connection stays open for a message that may begin then.
const patience = 10 * time.Second

// hold waits for a moment, or to be woken before.
func (x *sess) hold(d time.Duration) {
	if d > patience {
		x.end()
		return
	}
	x.waiting = true
	x.gen++
	x.riseAfter(max(0, d))
}

// riseAfter has x come back from its present wait, unless it has by then.
func (x *sess) riseAfter(d time.Duration) {
	w := x.w
	w.todo.push(w.since+d, deed{node: w.node, rise: x, gen: x.gen})
}

// rest lingers, parks, and ends.
func (x *sess) rest() {
	w := x.w
	x.waiting = true
	x.gen++
	gen := x.gen
	w.later(80*time.Millisecond, func() {
		if x.waiting && x.gen == gen {
			x.b.Park(w.now, x.s)
		}
	})
	w.later(5*time.Second, func() {
		if !x.waiting || x.gen != gen {
			return
		}
		x.waiting = false
		if x.b.Woken(x.s) {
			x.next()
			return
		}
		x.end()
	})
}

// dot finishes a transaction.
func (x *sess) dot() {
	w := x.w
	if x.over {
		return
	}
	p := x.hand
	if !x.box.Clear(w.now, p, x.trip.Source, x.trip.Receiver) {
		x.end()
		return
	}
	x.cleared = true
	x.box.Sent(w.now, p)
	answer, lost := x.to.answer(x, p)
	x.answer = answer
	o := &x.answer
	if lost { // the connection went before the dot: the delivery was not begun
		x.cleared = false
		x.report.Outcome = *o
		x.end()
		return
	}
	o.Source, o.At = x.trip.Source, w.now
	x.hand, x.cleared = nil, false
	x.report.Messages++
	seen := x.to.scoped(x, o)
	effects := x.b.Settled(w.now, x.s, o)
	if o.Reply.Code == 421 {
		x.report.Outcome = *o
	}
	x.box.Settle(w.now, p, *o, x.trip.Receiver, x.onSettled)
	w.act(x.b, effects)
	if seen != nil {
		seen()
	}
}

// end gives back what is in hand and frees the slot.
func (x *sess) end() {
	w := x.w
	if x.over {
		return
	}
	x.over = true
	delete(w.live, x)
	x.to.close(x)
	box, shelf := x.s.Outbox()
	if box == nil {
		box, shelf = x.s.Assigned()
	}
	var back []*protocol.Parcel
	if p := x.hand; p != nil {
		if x.cleared {
			x.box.Settle(w.now, p, mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, InDoubt: true}, x.trip.Receiver, nil)
		} else if x.box == box {
			back = append(back, p)
		} else {
			x.box.Return(p)
		}
	}
	var news any
	if box != nil && x.report.Messages == 0 && x.report.Outcome.Result != 0 {
		news = protocol.Troubled{Source: x.trip.Source, Shelf: shelf, Report: x.report}
	}
	x.b.Close(w.now, x.s, back, news)
	x.s.Finish(x.report)
	w.later(w.upTo(2*time.Millisecond), func() {
		w.act(x.b, x.b.Step(w.now, protocol.Reported{Session: x.s.ID, Report: x.report}))
	})
}
