package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/actors/actorstest"
	"github.com/ekiden-mta/ekiden/actors/destination"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/mail"
)

// world is one run.
type world struct {
	seed  int64
	cfg   Config
	rng   *rand.Rand
	now   time.Time
	start time.Time
	since time.Duration // from start to now
	todo  agenda
	steps int
	fault error

	queue     *actorstest.Queue
	domains   []mail.Domain
	receivers []*receiver
	addrs     []netip.Addr
	seq       mail.Seq
	accepted  int
	sessions  int
	restarts  int
	blocks    int64
	doubt     int64
	resolved  func(mail.Domain) protocol.Resolved
	remotes   func(mail.Route) remote

	// One incarnation of the node.
	node     int
	env      *destination.Env
	srcCfg   source.Config
	counters *source.Counters
	dests    map[mail.Domain]*dest
	order2   []*dest
	books    map[netip.Addr]*source.Book
	live     map[*sess]int
	commit   bool
}

func newWorld(seed int64, cfg Config) *world {
	w := &world{seed: seed, cfg: cfg, rng: newRand(seed), queue: newQueue(), seq: 1_000_000}
	w.start = time.Date(2026, 3, 1, 22, 50, 0, 0, time.UTC) // an hour and a day change on the way
	w.now = w.start
	for i := range cfg.Sources {
		w.addrs = append(w.addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
	}
	for i := range cfg.Receivers {
		w.receivers = append(w.receivers, newReceiver(w, i))
	}
	for i := range cfg.Domains {
		w.domains = append(w.domains, mail.Domain(fmt.Sprintf("d%d.example", i)))
	}
	w.resolved, w.remotes = w.resolve, w.receiverOf
	w.boot()
	return w
}

// boot starts an incarnation of the node on what the store holds.
func (w *world) boot() {
	w.node++
	w.env = &destination.Env{Queue: deferred{w}, Suspensions: &destination.Suspensions{}, Rand: w.rng.Float64,
		Sources: func(string) []netip.Addr { return w.addrs }, Budget: &destination.Budget{Limit: 60},
		Counters: &destination.Counters{}, Window: 16, Batch: 8}
	w.env.Defaults()
	w.counters = &source.Counters{}
	w.srcCfg = source.Config{Quantum: 5, NewWaker: func() protocol.Waker { return &waker{w: w} }}
	w.srcCfg.Defaults()
	w.dests, w.order2, w.books, w.live = map[mail.Domain]*dest{}, nil, map[netip.Addr]*source.Book{}, map[*sess]int{}
	for _, a := range w.addrs {
		w.books[a] = source.NewBook(a, &w.srcCfg, w.counters)
	}
	for _, d := range w.domains {
		if n := w.queue.Left(d); n > 0 {
			x := w.dest(d)
			x.box.Recover(n, 0, w.now)
			x.send(protocol.Restarted{})
		}
	}
}

// deferred is the store with commits that take a while.
type deferred struct{ w *world }

// Scan implements protocol.Queue.
func (q deferred) Scan(d mail.Destination, c protocol.Cursor, until time.Time, n int) ([]mail.Delivery, protocol.Cursor, bool, time.Time, error) {
	return q.w.queue.Scan(d, c, until, n)
}

// ScanAt implements protocol.Queue.
func (q deferred) ScanAt(d mail.Destination, c protocol.Cursor, due time.Time, n int) ([]mail.Delivery, protocol.Cursor, bool, error) {
	return q.w.queue.ScanAt(d, c, due, n)
}

// Rewind implements protocol.Queue.
func (q deferred) Rewind(c protocol.Cursor, d *mail.Delivery) protocol.Cursor {
	return q.w.queue.Rewind(c, d)
}

// Body implements protocol.Queue.
func (q deferred) Body(id mail.MessageID) ([]byte, error) { return q.w.queue.Body(id) }

// Mark implements protocol.Queue.
func (q deferred) Mark(d *mail.Delivery, done func(error)) { q.w.queue.Mark(d, done) }

// Settle implements protocol.Queue.
func (q deferred) Settle(s mail.Settlement, done func(error)) {
	w := q.w
	w.queue.Settle(s, done)
	if !w.commit {
		w.commit = true
		w.after(w.upTo(10*time.Millisecond), func() { w.commit = false; w.queue.Commit() })
	}
}

// step lets the next thing happen; false when nothing will.
func (w *world) step() bool {
	if len(w.todo.heap) == 0 {
		return false
	}
	at, do := w.todo.pop()
	if at > w.since {
		w.since, w.now = at, w.start.Add(at)
	}
	if w.since > w.cfg.Script+w.cfg.Limit {
		w.fail(fmt.Errorf("not settled %s after the script", w.cfg.Limit))
		return false
	}
	w.steps++
	switch {
	case do.node != 0 && do.node != w.node:
	case do.rise == nil:
		do.do()
	case do.rise.waiting && do.rise.gen == do.gen:
		do.rise.rise()
	}
	return true
}

func (w *world) after(d time.Duration, f func()) { w.todo.push(w.since+d, deed{do: f}) }

// later is after, for something that dies with the node.
func (w *world) later(d time.Duration, f func()) { w.todo.push(w.since+d, deed{node: w.node, do: f}) }

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

func (w *world) fail(err error) {
	if w.fault == nil {
		w.fault = fmt.Errorf("at %s: %w", w.now.Sub(w.start), err)
	}
}

// dest is a destination actor without the actor.
type dest struct {
	w       *world
	box     *destination.Outbox
	machine *destination.Machine
	view    destination.View
	armed   time.Time
	look    time.Time // planned
	looking bool      // … and will be seen to
}

func (w *world) dest(d mail.Domain) *dest {
	if x, ok := w.dests[d]; ok {
		return x
	}
	x := &dest{w: w, machine: destination.NewMachine(d, w.env)}
	x.box = destination.NewOutbox(mail.Destination{Domain: d}, w.env, x.send)
	w.dests[d] = x
	w.order2 = append(w.order2, x)
	return x
}

// send delivers a message after a while. Messages to one actor may overtake one another, which the engine's never do
// as badly.
func (x *dest) send(msg any) {
	x.w.later(x.w.upTo(2*time.Millisecond), func() { x.step(msg) })
}

func (x *dest) step(msg any) {
	w := x.w
	if _, ok := msg.(protocol.Ticked); ok {
		x.armed = time.Time{}
	}
	x.box.Look(w.now, &x.view)
	effects, plan := x.machine.Step(w.now, msg, &x.view)
	for i := range effects {
		x.run(&effects[i])
	}
	if x.look = plan.Look; !x.look.IsZero() && !x.looking {
		x.looks()
	}
	if at := plan.Alarm; !at.IsZero() && (x.armed.IsZero() || at.Before(x.armed)) {
		x.armed = at
		w.later(max(0, at.Sub(w.now)), func() {
			if x.armed.Equal(at) {
				x.step(protocol.Ticked{})
			}
		})
	}
	if x.box.Note(plan) {
		x.send(protocol.Arrived{})
	}
}

// looks sees to a look at what was planned last.
func (x *dest) looks() {
	x.looking = true
	x.w.later(x.look.Sub(x.w.now)+x.w.upTo(time.Second), func() {
		x.looking = false
		if x.box.LookDue(x.w.now) {
			x.step(protocol.Ticked{})
		} else if x.w.now.Before(x.look) {
			x.looks()
		}
	})
}

func (x *dest) run(e *destination.Effect) {
	w := x.w
	switch e.Kind {
	case destination.EffectResolve:
		w.later(w.upTo(50*time.Millisecond), func() { x.step(w.resolved(x.box.Domain())) })
	case destination.EffectLoad:
		x.load()
	case destination.EffectAsk:
		x.ask(e)
	case destination.EffectForget:
		x.box.Forget()
	case destination.EffectDismiss:
		x.box.Dismiss(w.now, e.Outcome, e.Receiver, e.N, e.Shelf)
	case destination.EffectSweep:
		x.box.Sweep(w.now, x.machine.Receiver(), e.N)
	case destination.EffectReopen:
		x.box.Reopen(false)
	case destination.EffectSort:
		x.box.Sort(e.Route.Hosts)
		x.send(protocol.Arrived{})
	}
}

func (x *dest) load() {
	w := x.w
	l, ok := x.box.BeginLoad(w.now)
	if !ok {
		return
	}
	ds, next, more, due, _ := w.env.Queue.Scan(x.box.Destination(), l.Cursor, l.Until, l.N) // a snapshot, merged later
	w.later(w.upTo(30*time.Millisecond), func() {
		x.box.Merge(w.now, ds, next, more, due)
		x.send(protocol.Loaded{})
	})
}

func (x *dest) ask(e *destination.Effect) {
	w := x.w
	x.box.Asking(e.Shelf, e.Want)
	book := w.books[e.Source]
	var a any = protocol.Ask{Outbox: x.box, Shelf: e.Shelf, Want: e.Want, Ahead: e.Ahead, Rides: e.Rides, Route: e.Route, Key: e.Key, Limits: e.Limits,
		Deadline: e.Deadline, Tenant: e.Tenant}
	w.later(w.upTo(2*time.Millisecond), func() { w.act(book, book.Step(w.now, a)) })
}

// act carries out a book's effects.
func (w *world) act(b *source.Book, effects []source.Effect) {
	for _, e := range effects {
		switch e.Kind {
		case source.EffectStart:
			w.startSession(b, e.Session)
		case source.EffectWake:
			e.Session.Wake()
		case source.EffectRefuse:
			e.Outbox.Withdraw(e.Shelf, e.Want)
			e.Outbox.Tell(e.Refused)
		case source.EffectAlarm:
			w.later(max(0, e.At.Sub(w.now)), func() { w.act(b, b.Step(w.now, protocol.Ticked{})) })
		case source.EffectLook:
			w.later(max(0, e.At.Sub(w.now)), func() { w.act(b, b.Step(w.now, protocol.Looked{})) })
		}
	}
}
