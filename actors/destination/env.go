package destination

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/gate"
	"github.com/ekiden-mta/ekiden/policy/schedule"
)

// Env is what all destinations of a node share. It is set up once and not changed afterwards, but for Halt.
type Env struct {
	Queue protocol.Queue
	// Gates says which delivery groups are stopped; nil = none.
	Gates *gate.Table
	// Lease tells whether this node may send at all; nil = always. It is asked before every final dot and must be cheap.
	Lease func() bool
	// Suppressed tells why an address gets no mail of a tenant, or of one of its lists; nil = every address does. It is asked when a delivery is
	// taken and before its final dot, because the address may be suppressed while it waits.
	Suppressed func(tenant, list string, to mail.Address) (mail.Suppression, bool)
	// Doubt is what becomes of mail whose final dot was never answered; nil = it is sent again. It is asked for such mail only.
	Doubt func(tenant, group string) mail.Doubt
	// QuietHours is when nothing is sent to a domain; nil = never. What a delivery carries comes on top.
	QuietHours func(mail.Domain) schedule.Hours
	// Traffic is what tenants want of the way their mail is sent, at the moment; nil = nothing, ever.
	Traffic func() *filter.Traffic
	// Share is how many nodes a speed cap is divided among; nil = this one alone has it.
	Share func() int
	// Cleans tells whether a tenant's bulk mail to a receiver goes as cleaning mail for now; nil = never. It must be cheap.
	Cleans func(tenant, receiver string) bool
	// Suspensions are the operator's; required.
	Suspensions *Suspensions
	// Sources lists the candidates of a pool; never empty (an invalid address stands for "the system chooses").
	Sources func(pool string) []netip.Addr
	// Rand gives numbers in [0,1) for jitter; safe for concurrent use.
	Rand func() float64
	// Budget bounds what is held in memory with its body; required.
	Budget *Budget
	// Counters are told what happens; required.
	Counters *Counters

	Window  int                           // deliveries in memory per destination, pool and kind of mail; sources that greylisted mail waits for share it
	Batch   int                           // deliveries per scan
	PerSlot int                           // waiting deliveries that justify one more session
	AskFor  time.Duration                 // how long an ask waits in line
	Retry   time.Duration                 // pause after trouble where the mail does not say
	Look    time.Duration                 // the shortest time between two scans that a due time causes
	Settled func(*mail.Settlement, error) // hears of every settlement once the store has answered; nil = nobody
	Held    func()                        // hears that a rule put a suspension in force; must not block; nil = nobody
	Halted  func(why error)               // called by the first Halt, from any goroutine; must not block; nil = nobody

	holds  holds
	caps   caps
	hours  hours       // those of deliveries, read
	known  sync.Pool   // of tables that go through a scan
	groups groups      // what was deferred, and when a dot was last sent, by delivery group
	halted atomic.Bool // the store takes no outcomes: nothing is begun any more
}

// Halt keeps every final dot from now on from being sent, and everything from being begun: an outcome could not be
// kept, and the mail would go out again after the restart. There is no way back. why is nil where the caller tells of it.
func (e *Env) Halt(why error) {
	if e.halted.CompareAndSwap(false, true) && e.Halted != nil {
		e.Halted(why)
	}
}

// IsHalted tells whether Halt was called.
func (e *Env) IsHalted() bool { return e.halted.Load() }

// leased tells whether this node may send at the moment. Without a lease the queue may be another's: nothing is begun,
// and nothing ends.
func (e *Env) leased() bool { return e.Lease == nil || e.Lease() }

// stopped tells whether d's delivery group is, or d is in doubt and to be held.
func (e *Env) stopped(d *mail.Delivery) bool {
	return e.Gates.Closed(d.Tenant, d.Group) || d.InDoubt && e.Doubt != nil && e.Doubt(d.Tenant, d.Group) == mail.DoubtHold
}

// discards tells whether d is to end as interrupted.
func (e *Env) discards(d *mail.Delivery) bool {
	return d.Group != "" && e.Gates.Discards(d.Tenant, d.Group, d.Accepted())
}

// over tells whether d is to end before it is sent: its lifetime has, or it is discarded.
func (e *Env) over(now time.Time, d *mail.Delivery) bool { return e.expired(now, d) || e.discards(d) }

// ends is when d's lifetime ends; the zero time = never, or not while its group is stopped. Quiet hours that were set since
// d was accepted, or that a stop has pushed the end into, are in no record: in them no lifetime ends (E-26).
func (e *Env) ends(d *mail.Delivery) time.Time {
	ends := e.Gates.Ends(d.Tenant, d.Group, d.Accepted(), d.Expires)
	if hours := e.allHours(d); len(hours) > 0 && !ends.IsZero() {
		return hours.Beyond(ends)
	}
	return ends
}

// expired tells whether d's lifetime has ended.
func (e *Env) expired(now time.Time, d *mail.Delivery) bool {
	ends := d.Expires
	if d.Group != "" {
		ends = e.Gates.Ends(d.Tenant, d.Group, d.Accepted(), ends)
	}
	if ends.IsZero() || ends.After(now) { // as nearly always: ends is never earlier
		return false
	}
	return !e.ends(d).After(now)
}

// Defaults fills what is zero.
func (e *Env) Defaults() {
	set(&e.Window, 1024)
	set(&e.Batch, 512)
	set(&e.PerSlot, 8)
	set(&e.AskFor, 30*time.Second)
	set(&e.Retry, time.Minute)
	set(&e.Look, 250*time.Millisecond)
}

func set[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// fewSessions is how many sessions a destination may have without a backlog that deserves them: a slow one must not
// hold up the others.
const fewSessions = 4

// deserves is how many sessions a shelf should have with so much waiting and so many sessions that are all busy.
func (e *Env) deserves(waiting, busy int) int {
	return max((waiting+e.PerSlot-1)/e.PerSlot, min(busy+waiting, fewSessions))
}

// Counters are what the destinations of a node did since it started.
type Counters struct {
	InDoubt  atomic.Int64 // attempts cut after the final dot (rule D7)
	Expired  atomic.Int64 // deliveries whose lifetime ended while they waited
	Restarts atomic.Int64 // destination actors that failed and were restarted
	Scans    atomic.Int64 // looks at the disk
	StoreErr atomic.Int64 // outcomes the store did not take
	Recalled atomic.Int64 // deliveries taken back from behind a final dot that was not answered
}

// Budget bounds the octets of bodies that wait in memory over all destinations. Above it only references stay, and a
// body is read from the store when its turn comes.
type Budget struct {
	Limit int64
	used  atomic.Int64
}

// take charges n octets, or refuses.
func (b *Budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.Limit {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *Budget) give(n int) {
	if n != 0 {
		b.used.Add(-int64(n))
	}
}

// Used is what is charged at the moment, in octets.
func (b *Budget) Used() int64 { return b.used.Load() }
