package destination

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
)

// View is what the machine is told of the outbox before each step.
type View struct {
	Shelves []Shelf
	Ready   int       // waiting in memory and due
	Flight  int       // taken by sessions
	Low     bool      // the window should be filled: more is due on disk and there is room
	NextDue time.Time // earliest due time on disk that lies ahead; zero = none
	Held    bool      // something was passed over because of a gate or a suspension
	Retry   time.Duration
	Look    time.Duration // the shortest time between two looks through everything
}

// Shelf is one pool's part of the window.
type Shelf struct {
	Pool            string
	Cleaning        bool
	Speed           *filter.Speed // whose mail it is; nil = no filter's
	Source          netip.Addr    // it is to come from, where that serves; the zero Addr = any
	Tenant          string        // of the first in line
	Ahead           bool          // and it goes before the tenant's bulk for other domains
	Moved           time.Time     // when a session last came for more
	Until           time.Time     // a speed cap lets nothing begin before; zero = none does
	Useful          int           // as many sessions as are of use to what caps let through; 0 = any number
	Ready           int
	Sessions, Asked int
}

// Look fills v, and takes note that the actor has been told all that there was to tell.
func (b *Outbox) Look(now time.Time, v *View) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = false
	b.recall(now)
	if b.again.Swap(false) && (b.nextDue.IsZero() || b.nextDue.After(now)) {
		b.nextDue = now // the disk has something for now, as for any other
	}
	if !b.nextDue.IsZero() && !b.nextDue.After(now) && !now.Before(b.disk.headed.Add(b.rest())) {
		b.nextDue = time.Time{}
		b.rewind() // what has become due may have a larger priority than what the cursor has come to
	}
	v.Shelves = v.Shelves[:0]
	v.Ready, v.Retry = 0, b.env.Retry
	for _, s := range b.shelves {
		w := Shelf{Pool: s.pool, Cleaning: s.cleaning, Speed: s.speed, Source: s.source, Ready: len(s.waiting), Sessions: s.sessions, Asked: s.asked, Moved: s.moved}
		if len(s.waiting) > 0 {
			d := &s.waiting[0].p.Job.Delivery
			w.Tenant, w.Ahead = d.Tenant, ahead(d)
			w.Until, w.Useful = b.env.bounds(now, d)
			if d.RetryEvery > 0 {
				v.Retry = d.RetryEvery
			}
		}
		s.looked, s.had = w.Ready, s.sessions+s.asked
		v.Shelves = append(v.Shelves, w)
		v.Ready += w.Ready
	}
	v.Flight, v.Held = len(b.flight), b.held
	v.Low, v.NextDue, v.Look = b.low(), b.nextDue, b.rest()
}

// ahead tells whether d is not to stand in line with its tenant's bulk for other domains: it waited for its moment and that
// has come (requirement R26), or it was raised above bulk mail (R35, N11).
func ahead(d *mail.Delivery) bool { return d.Priority > bulk || d.Reserved && d.Attempts == 0 }

// Plan is what the machine leaves behind in the outbox after a step.
type Plan struct {
	Quiet  bool      // arrivals are not told; the alarm will do
	Alarm  time.Time // when the actor looks again by itself
	Look   time.Time // … or, if it still has mail in memory then, soon after this: see Outbox.LookDue; zero = no such look
	Status Status
	Size   int // octets of the largest message that the receiver takes; 0 = not known
}

// Note records the plan. It tells whether something arrived meanwhile that the actor must look at again.
func (b *Outbox) Note(p Plan) (again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	receiver := b.status.Receiver
	b.quiet, b.alarm, b.look, b.status, b.full, b.largest = p.Quiet, p.Alarm, p.Look, p.Status, p.Status.Full, p.Size
	if b.status.Receiver == "" {
		b.status.Receiver = receiver // still, as far as known
	} else if b.status.Receiver != receiver && b.env.Cleans != nil {
		b.sort() // whose mail goes as cleaning mail depends on it
	}
	for _, s := range b.shelves {
		// What arrived while the machine thought was told to nobody if it was quiet before, nor was the end of sessions that
		// it had asked for a moment ago. What it left undone knowing of it is not news.
		news := len(s.waiting) > s.looked || len(s.waiting) > 0 && s.had > 0
		if !b.quiet && !b.told && news && s.sessions+s.asked == 0 && p.Status.State != StatePaused {
			again = true
		}
	}
	if !b.quiet && !b.told && b.low() {
		again = true
	}
	if again {
		b.told = true
	}
	return again
}

// LookDue tells whether the actor is to be sent a tick for the look it planned. Mostly its mail has gone by then and there is
// nothing to look at: that is noted here, as the machine would (Machine.rest), without a step.
func (b *Outbox) LookDue(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.look.IsZero() || now.Before(b.look) {
		return false
	}
	b.look = time.Time{}
	if len(b.flight) > 0 || slices.ContainsFunc(b.shelves, func(s *shelf) bool { return len(s.waiting) > 0 || s.asked > 0 }) {
		return true
	}
	b.full, b.status = false, Status{State: StateIdle, Until: b.nextDue, Receiver: b.status.Receiver}
	return false
}

// Asking notes sessions asked for before the ask is sent, so that its answer cannot overtake it.
func (b *Outbox) Asking(shelf, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shelves[shelf].asked += n
	b.shelves[shelf].had += n
}

// Forget drops asks whose deadline has passed without an answer.
func (b *Outbox) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.shelves {
		s.asked, s.had = 0, s.sessions
	}
}

// Status is what an operator sees of a destination, and what binds it (N12).
type Status struct {
	State  State
	Reason protocol.Reason
	Detail string    // the peer's or the operator's words
	Until  time.Time // when Reason ends; zero = unknown
	Full   bool      // as many sessions as the limits allow

	Receiver string // who answers for it, "" while that is not known
}
