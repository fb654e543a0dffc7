package destination

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
)

// Outbox is the window of a destination's due deliveries, shared between the actor, who decides, and the sessions, who
// carry. It is a small structure under one mutex because a message to an actor costs as much as a mail. Its memory is
// bounded whatever waits on disk.
//
// The disk is the truth. A delivery is in the window, in flight, or only on disk; what was kept out of the window is
// found again by a scan from the cursor, and a scan never brings back what is in memory or was settled while it ran.
// No method calls a session's or a source's code with the mutex held, except Wake, which only signals.
type Outbox struct {
	dest   mail.Destination
	domain mail.Domain // of dest
	env    *Env
	tell   func(any)

	mu      sync.Mutex
	shelves []*shelf           // one per pool and kind of mail, mostly one
	flight  []*protocol.Parcel // taken and not yet durably settled; Parcel.Index is the place
	told    bool               // an Arrived or Drained is on its way to the actor
	full    bool               // the actor cannot get more sessions, however much waits
	quiet   bool               // the actor has set an alarm and does not want to hear of arrivals
	alarm   time.Time          // when the actor looks again by itself; zero = never
	look    time.Time          // see Plan.Look
	disk    disk
	nextDue time.Time   // earliest due time on disk that lies ahead, as far as known; zero = none
	total   int         // deliveries without a final outcome, memory and disk
	clean   int         // of these, cleaning mail
	held    bool        // deliveries were passed over because a gate or tenant is closed
	purge   *purge      // deliveries of a stopped group are being discarded
	again   atomic.Bool // what was passed over is to be looked at: a probation has room
	touched time.Time
	swept   time.Time   // when flight was last looked through for what sits behind a silent dot
	hosts   []mail.Host // of the route, where a filter asks for them
	status  Status
	largest int // octets of a message that the receiver takes; 0 = not known
}

// shelf is the part of the window that belongs to one pool, and in it to cleaning mail, to a speed filter, to what is
// under a speed cap, to what was greylisted from one source, or to all other mail.
type shelf struct {
	pool     string
	cleaning bool          // cleaning mail goes at a slower pace of its own (requirements R24, R49)
	speed    *filter.Speed // and so does what a filter matches (R40); nil = none does
	bound    string        // speed cap of its mail, but for one of all mail's (R57); "" = none
	source   netip.Addr    // greylisted mail's, which is to come again from there; the zero Addr = any
	share    int           // of the window: all of it, but for what sources of a pool divide among them
	waiting  window
	sessions int
	asked    int
	looked   int // how much waited when the actor last looked
	had      int // sessions working or asked for then, and those it has asked for since
	skipped  bool
	moved    time.Time // when a session last came for more
	lingers  []protocol.Waker
}

// disk is what the outbox knows of the part of the queue that is not in memory.
type disk struct {
	more    bool            // something due may be there that is not in memory
	loading bool            // a scan is under way
	cursor  protocol.Cursor // where the next scan starts
	pass    bool            // the scans since the last rewind have not come to the end: the next goes on with their until
	until   time.Time       // up to which due time this pass looks; what falls due later is for the next
	headed  time.Time       // when a pass last began at the head
	edge    uint8           // priority of the last delivery that scan brought: where the cursor stands
	top     uint8           // nothing on disk beyond the window has a larger priority
	newest  mail.Seq        // largest Seq a scan ever brought
	ghosts  []mail.Seq      // durably settled while the scan was under way: it may still show them
	cleared []mail.Seq      // whose mark went while the scan was under way: it may still show that
	late    []mail.Delivery // kept out of the window while the scan was under way
	missed  bool            // too many of those to remember
	passed  int             // deliveries passed over since a pass last began at the head …
	before  int             // … and in the time before that
	again   bool            // rewind when the pass is over
}

// lateMost bounds disk.late.
const lateMost = 64

var _ protocol.Outbox = (*Outbox)(nil)

// NewOutbox returns an empty outbox; tell sends to the actor and must not block.
func NewOutbox(d mail.Destination, env *Env, tell func(any)) *Outbox {
	return &Outbox{dest: d, domain: d.Domain, env: env, tell: tell}
}

// Destination is whose mail this is.
func (b *Outbox) Destination() mail.Destination { return b.dest }

// Domain is where it goes.
func (b *Outbox) Domain() mail.Domain { return b.domain }

// Tell sends a message to the destination's actor.
func (b *Outbox) Tell(msg any) { b.tell(msg) }

// Push takes a delivery that was just stored. It stays in memory where there is room and nothing on disk comes before
// it.
func (b *Outbox) Push(now time.Time, j *mail.Job) {
	wake, tell := b.push(now, j)
	if wake != nil {
		wake.Wake()
	}
	if tell {
		b.tell(protocol.Arrived{})
	}
}

func (b *Outbox) push(now time.Time, j *mail.Job) (protocol.Waker, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := &j.Delivery
	b.total++
	if d.Cleaning {
		b.clean++
	}
	b.touched = now
	if b.env.stopped(d) {
		tell := !b.held && !b.told
		b.held, b.told = true, b.told || tell
		return nil, tell
	}
	if d.Due.After(now) {
		return nil, b.setNextDue(d.Due)
	}
	if end, quiet := b.env.quiet(now, d); quiet {
		return nil, b.setNextDue(end)
	}
	i := b.shelf(d)
	s := b.shelves[i]
	// A scan may have seen this delivery already, sent it even. Only the disk knows whether it is still there.
	// One whose dot may be out already, at a node that is gone, is judged where it is read from disk.
	seen := d.Seq <= b.disk.newest || d.Dotted
	if seen && b.inMemory(d.Seq) {
		return nil, false
	}
	cost := len(j.Body) + parcelCost
	if !b.env.Budget.take(cost) {
		cost = 0
	}
	if seen || !b.room(s, d, cost > 0) {
		b.env.Budget.give(cost)
		b.keepOut(d)
		return nil, b.wants(s) || (!b.quiet && !b.told && b.low())
	}
	p := &protocol.Parcel{Job: *j, Cost: cost}
	if cost == 0 {
		p.Job.Body = nil
	}
	s.waiting.push(refTo(p))
	return b.rouse(s)
}

// rouse picks who learns that s has work: a session that lingers, else the actor if it wants to.
func (b *Outbox) rouse(s *shelf) (protocol.Waker, bool) {
	if n := len(s.lingers); n > 0 {
		w := s.lingers[n-1]
		s.lingers[n-1] = nil
		s.lingers = s.lingers[:n-1]
		return w, false
	}
	return nil, b.wants(s)
}

// wants tells whether the actor must be told of s now, and notes that it is.
func (b *Outbox) wants(s *shelf) bool {
	have := s.sessions + s.asked
	if b.told || b.quiet || have > 0 && (b.full || b.env.deserves(len(s.waiting), s.sessions) <= have) {
		return false
	}
	b.told = true
	return true
}

// parcelCost is what a waiting parcel takes besides its body, in octets: record, strings, reference.
const parcelCost = 1024

// room tells whether d may enter the window: it is not full, and nothing on disk should go first. Mail of a larger
// priority than anything on disk overtakes, up to a second window's worth (R35). What is new and paid for out of the
// common budget need not respect the window: reading it back from disk would cost more than the mail, so a burst goes
// to disk only where it is larger than that.
func (b *Outbox) room(s *shelf, d *mail.Delivery, paid bool) bool {
	if b.disk.more || b.disk.loading {
		return d.Priority > b.disk.top && len(s.waiting) < 2*s.share
	}
	return paid || len(s.waiting) < s.share
}

// keepOut notes that d is due and on disk only.
func (b *Outbox) keepOut(d *mail.Delivery) {
	k := &b.disk
	if !k.more && !k.loading {
		k.top = 0
	}
	k.more = true
	k.top = max(k.top, d.Priority)
	switch {
	case k.loading && len(k.late) < lateMost:
		k.late = append(k.late, position(d))
	case k.loading:
		k.missed = true
	case k.behind(d):
		b.rewindTo(d)
	}
}

// behind tells whether d may lie before the cursor, which stands in the class of priority edge, at until at most.
func (k *disk) behind(d *mail.Delivery) bool {
	return k.cursor != nil && (d.Priority > k.edge || !d.Due.After(k.until))
}

// position is as much of d as a cursor needs.
func position(d *mail.Delivery) mail.Delivery {
	return mail.Delivery{Seq: d.Seq, Message: d.Message, Tenant: d.Tenant, Apart: d.Apart, Domain: d.Domain, Due: d.Due, Priority: d.Priority}
}

// setNextDue notes that something on disk becomes due at t; true where the actor must hear of it.
func (b *Outbox) setNextDue(t time.Time) bool {
	if b.nextDue.IsZero() || t.Before(b.nextDue) {
		b.nextDue = t
	}
	if b.told || (!b.alarm.IsZero() && !t.Before(b.alarm)) {
		return false
	}
	b.told = true
	return true
}

// shelf is where d belongs by the filters in force.
func (b *Outbox) shelf(d *mail.Delivery) int {
	var speed *filter.Speed
	bound := ""
	if t := b.env.traffic(); t != nil {
		speed, bound = t.Speed(d.Tenant, d.To, b.hosts), t.Bound(d.Tenant, d.Composition)
	}
	cleaning := b.cleans(d)
	source, share := b.env.pinned(d)
	for i, s := range b.shelves {
		if s.pool == d.Pool && s.cleaning == cleaning && sameFilter(s.speed, speed) && s.bound == bound && s.source == source {
			s.speed, s.share = speed, share
			return i
		}
	}
	b.shelves = append(b.shelves, &shelf{pool: d.Pool, cleaning: cleaning, speed: speed, bound: bound, source: source, share: share})
	return len(b.shelves) - 1
}

// mostShares is into how many parts the window is divided at most: with less for each, every scan would bring little.
const mostShares = 8

// pinned is the source that d waits for because it was greylisted there, unless its pool has that no more, and how much
// of the window that mail has: the sources of a pool share one. Other mail waits for any source, and has all.
func (e *Env) pinned(d *mail.Delivery) (netip.Addr, int) {
	if !d.Source.IsValid() {
		return noSource, e.Window
	}
	pool := e.Sources(d.Pool)
	if !slices.Contains(pool, d.Source) {
		return noSource, e.Window
	}
	return d.Source, max(e.Window/min(len(pool), mostShares), 2)
}

// bulk is the largest priority of mail that may be slowed down because of its tenant's lists: what was raised above it is
// not sent to lists.
const bulk = 50

// cleans tells whether d goes as cleaning mail: it was asked for, or the tenant's lists are what the receiver minds.
func (b *Outbox) cleans(d *mail.Delivery) bool {
	return d.Cleaning || b.env.Cleans != nil && d.Priority <= bulk && !d.Own && b.env.Cleans(d.Tenant, b.status.Receiver)
}

// inMemory looks for seq in the window and in flight. It is slow and asked seldom.
func (b *Outbox) inMemory(seq mail.Seq) bool {
	for _, s := range b.shelves {
		for i := range s.waiting {
			if s.waiting[i].seq == uint64(seq) {
				return true
			}
		}
	}
	return slices.ContainsFunc(b.flight, func(p *protocol.Parcel) bool { return p.Job.Delivery.Seq == seq })
}

// low tells whether the window should be filled from disk.
func (b *Outbox) low() bool {
	if b.disk.loading {
		return false
	}
	room := len(b.shelves) == 0
	for _, s := range b.shelves {
		if len(s.waiting) >= s.share/2 {
			continue
		}
		room = true
		if s.skipped { // what did not fit on this shelf lies behind the cursor
			s.skipped = false
			b.rewind()
		}
	}
	return room && b.disk.more
}

// rewindTo sees to it that a scan comes by d. A pass that has begun does not look at what fell due since. One that goes
// over stopped mail comes to its end first, or whatever lies behind that would never have its turn.
func (b *Outbox) rewindTo(d *mail.Delivery) {
	if b.disk.pass && b.disk.passed > 0 {
		b.disk.again = true
		return
	}
	if b.disk.pass && d.Due.After(b.disk.until) {
		b.rewind()
		return
	}
	b.disk.cursor = b.env.Queue.Rewind(b.disk.cursor, d)
}

// rewind makes the next scan start from the beginning.
func (b *Outbox) rewind() {
	b.disk.more, b.disk.cursor, b.disk.top, b.disk.pass, b.disk.again = true, nil, 255, false, false
	b.disk.missed = b.disk.loading // the scan that is under way ends with another cursor
}

// Join answers one ask: a session works shelf i from now on.
func (b *Outbox) Join(i int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shelves[i]
	s.asked = max(0, s.asked-1)
	s.sessions++
}

// Leave ends what Join began and gives back what was not begun. Where more waits than the remaining sessions can
// carry, or where there is news, the actor learns of it.
func (b *Outbox) Leave(now time.Time, i int, back []*protocol.Parcel, news any) {
	back = slices.DeleteFunc(back, b.unmark)
	b.mu.Lock()
	s := b.shelves[i]
	s.sessions--
	b.touched = now
	for _, p := range back {
		b.land(p)
		b.putBack(renew(p))
	}
	var wakes []protocol.Waker
	for n := min(len(s.lingers), len(s.waiting)); n > 0; n-- {
		w, _ := b.rouse(s)
		wakes = append(wakes, w)
	}
	if news == nil && b.behind(s) {
		news = protocol.Arrived{}
	}
	b.mu.Unlock()
	for _, w := range wakes {
		w.Wake()
	}
	if news != nil {
		b.tell(news)
	}
}

// Withdraw answers n sessions' worth of an ask with nothing. The source says why in a message of its own.
func (b *Outbox) Withdraw(i, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shelves[i]
	s.asked = max(0, s.asked-n)
}

func (b *Outbox) behind(s *shelf) bool {
	if have := s.sessions + s.asked; b.told || b.quiet || b.env.deserves(len(s.waiting), s.sessions) <= have {
		return false
	}
	b.told = true
	return true
}

// takeExpired bounds how many deliveries that outlived themselves one Take settles.
const takeExpired = 64

// Take gives the next due parcel of shelf i. It settles what it meets that has outlived itself, and passes over what
// may not be sent at the moment.
func (b *Outbox) Take(now time.Time, i int, source netip.Addr, receiver string) (*protocol.Parcel, time.Time) {
	p, at, dead, large, tell := b.take(now, i, source, receiver)
	for _, x := range dead {
		b.end(now, x, receiver)
	}
	for _, x := range large {
		b.refuseLarge(now, x, receiver)
	}
	if tell {
		b.tell(protocol.Arrived{})
	}
	return p, at
}

func (b *Outbox) take(now time.Time, i int, source netip.Addr, receiver string) (
	p *protocol.Parcel, at time.Time, dead, large []*protocol.Parcel, tell bool,
) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shelves[i]
	s.moved = now
	if b.env.IsHalted() || !b.env.leased() || b.env.Suspensions.match(now, b.domain, receiver, source, nil) != nil {
		return nil, time.Time{}, nil, nil, false
	}
	for len(s.waiting) > 0 && len(dead)+len(large) < takeExpired {
		x := s.waiting.pop()
		d := &x.Job.Delivery
		if end, quiet := b.env.quiet(now, d); quiet {
			b.drop(x)
			tell = b.setNextDue(end) || tell
			continue
		}
		if b.env.over(now, d) || b.env.suppressed(d) {
			b.launch(x)
			dead = append(dead, x)
			continue
		}
		if b.closed(now, d, source, receiver) {
			b.drop(x)
			b.held = true
			continue
		}
		if b.largest > 0 && d.Size > b.largest && !s.speed.Routed() {
			b.launch(x)
			large = append(large, x)
			continue
		}
		if !b.env.Suspensions.admit(now, b, d, source, receiver) {
			b.drop(x)
			b.held = true
			continue
		}
		if again, ok := b.env.begins(now, d); !ok {
			b.env.Suspensions.answered(d.Seq, false)
			s.waiting.push(refTo(x))
			return nil, again, dead, large, tell
		}
		b.launch(x)
		p = x
		break
	}
	if len(s.waiting) < s.share/2 && !b.told && !b.quiet && (b.disk.more || s.skipped) && b.low() {
		b.told, tell = true, true
	}
	return p, time.Time{}, dead, large, tell
}

// closed tells whether d may not be sent now for a reason of its own.
func (b *Outbox) closed(now time.Time, d *mail.Delivery, source netip.Addr, receiver string) bool {
	return b.env.stopped(d) || b.env.discards(d) || b.env.Suspensions.match(now, b.domain, receiver, source, d) != nil
}

// launch notes p as in flight.
func (b *Outbox) launch(p *protocol.Parcel) {
	p.Index = len(b.flight)
	b.flight = append(b.flight, p)
}

// land takes p out of flight.
func (b *Outbox) land(p *protocol.Parcel) {
	b.env.Suspensions.answered(p.Job.Delivery.Seq, false) // given back, unless Settle has told
	last := len(b.flight) - 1
	moved := b.flight[last]
	b.flight[p.Index] = moved
	moved.Index = p.Index
	b.flight[last] = nil
	b.flight = b.flight[:last]
}

// drop forgets a parcel of the window; it stays on disk.
func (b *Outbox) drop(p *protocol.Parcel) {
	b.env.Budget.give(p.Cost)
	p.Cost, p.Job.Body = 0, nil
}

// Linger puts w in line for the next arrival on shelf i; false where work waits.
func (b *Outbox) Linger(i int, w protocol.Waker) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shelves[i]
	if len(s.waiting) > 0 {
		return false
	}
	s.lingers = append(s.lingers, w)
	return true
}

// Unlinger takes w out of the line.
func (b *Outbox) Unlinger(i int, w protocol.Waker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shelves[i]
	if j := slices.Index(s.lingers, w); j >= 0 {
		s.lingers = slices.Delete(s.lingers, j, j+1)
	}
}

// Fetch reads a body that is not in memory.
func (b *Outbox) Fetch(p *protocol.Parcel) error {
	if p.Job.Body != nil {
		return nil
	}
	body, err := b.env.Queue.Body(p.Job.Delivery.Message)
	p.Job.Body = body
	return err
}

// Return puts a parcel that was not begun back where it was.
func (b *Outbox) Return(p *protocol.Parcel) {
	if b.unmark(p) {
		return
	}
	b.mu.Lock()
	b.land(p)
	var w protocol.Waker
	var tell bool
	if s := b.putBack(renew(p)); s != nil {
		w, tell = b.rouse(s)
	}
	b.mu.Unlock()
	if w != nil {
		w.Wake()
	}
	if tell {
		b.tell(protocol.Arrived{})
	}
}
