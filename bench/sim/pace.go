package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"time"

	"github.com/ekiden-mta/ekiden/actors/destination"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/bounce"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/schedule"
)

// PaceResult is how the sources of a node fared with one receiver that hides its quotas. Shares are of the time after
// each source's first hour, in which it has to find out.
type PaceResult struct {
	Receiver string
	Seed     int64
	Days     float64
	Sources  int
	Accepted int
	Attempts int
	Refused  int     // temporary refusals, greylisting left out
	Used     float64 // of what the quotas would have allowed
	Least    float64 // of what its own would have allowed, the source that used the smallest part
	Blocks   int     // times the receiver blocked a source
	Most     int     // … the source it did so most often

	Apart       int // messages begun of the kinds of mail with limits of their own
	Scoped      int // answers that concerned one sender's mail …
	Slowed      int // … and slowed down others'
	Exceeded    int // limits of our own that were exceeded
	QuietStarts int // messages begun in quiet hours
	Greylisted  int // messages …
	Strayed     int // … that came again from another source, which the receiver does not know: its own could not connect
	Steps       int
	Err         error // what must never happen
}

// RefusedShare is temporary refusals per attempt.
func (r *PaceResult) RefusedShare() float64 { return float64(r.Refused) / float64(max(r.Attempts, 1)) }

// BlocksADay is how often a day the receiver blocked the source it blocked most.
func (r *PaceResult) BlocksADay() float64 { return float64(r.Most) / max(r.Days, 1) }

const (
	warm    = time.Hour       // of a source: the time that does not count
	joins   = 2 * time.Hour   // the last source of several comes so much later
	gossips = 5 * time.Minute // between two exchanges of what sources have learned
	tells   = time.Hour       // between two words on how far a run is
)

// greyEffort is what a message takes to be played where some are greylisted, next to elsewhere: its destination goes through
// all that waits again and again, because some of it waits for another source.
const greyEffort = 4

// Effort is about how long a run of Pace takes, in a unit of its own: what lasts longest is best begun first.
func Effort(seed int64, m *Model, rules *bounce.Rules, length time.Duration) (sum float64) {
	w, h := newPaceWorld(seed, m, rules, length)
	for _, a := range w.addrs {
		c := h.seen[a]
		c.since = w.start
		sum += h.allowed(c)
	}
	if m.Grey > 0 {
		sum *= greyEffort
	}
	return sum
}

// Pace lets a node's sources send to a receiver for a time as fast as the engine lets them, with mail always waiting. Now and
// then goes is told how much of that time has passed, and may end the run by false; nil is nobody.
func Pace(seed int64, m *Model, rules *bounce.Rules, length time.Duration, goes func(played time.Duration) bool) PaceResult {
	r := PaceResult{Receiver: m.Name, Seed: seed, Sources: m.Sources, Days: length.Hours() / 24}
	w, h := newPaceWorld(seed, m, rules, length)
	h.result = &r
	next := tells
	for w.fault == nil && w.now.Before(h.end) && w.step() {
		if goes != nil && w.since >= next {
			if next = w.since + tells; !goes(w.since) {
				break
			}
		}
	}
	r.Steps, r.Err = w.steps, w.fault
	var used, allowed float64
	r.Least = 1
	for _, a := range w.addrs {
		c := h.seen[a]
		if c.since.IsZero() {
			continue
		}
		most := h.allowed(c)
		used, allowed = used+c.used, allowed+most
		if most > 0 {
			r.Least = min(r.Least, c.used/most)
		}
		r.Blocks, r.Most = r.Blocks+c.blocks, max(r.Most, c.blocks)
	}
	r.Used = used / max(allowed, 1)
	return r
}

// newPaceWorld is a node with the sources of a model, and mail of three tenants to two domains that share the receiver: of
// several kinds, which the receiver takes for one source's.
func newPaceWorld(seed int64, m *Model, rules *bounce.Rules, length time.Duration) (*world, *hidden) {
	rng := rand.New(rand.NewPCG(uint64(seed), uint64(len(m.Name))<<32|uint64(m.Name[0])))
	w := &world{seed: seed, rng: rng, cfg: Config{Script: length, Limit: time.Hour}, node: 1, live: map[*sess]int{},
		dests: map[mail.Domain]*dest{}, books: map[netip.Addr]*source.Book{}, counters: &source.Counters{}}
	w.start = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	w.now = w.start
	for i := range m.Sources {
		w.addrs = append(w.addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
	}
	h := newHidden(w, m, rules, rng)
	h.end = w.start.Add(length)
	if m.Quiet {
		h.quiet = schedule.Hours{{From: 21 * 60, To: 8 * 60, Zone: time.FixedZone("JST", 9*3600)}}
	}
	store := newSupply(func() time.Time { return w.now }, loud, calm, still)
	store.fail, store.kinds = w.fail, m.Kinds
	w.env = &destination.Env{Queue: store, Suspensions: &destination.Suspensions{}, Rand: rng.Float64,
		Sources: w.joined, Budget: &destination.Budget{Limit: 1 << 20}, Counters: &destination.Counters{},
		QuietHours: func(mail.Domain) schedule.Hours { return h.quiet }, Window: 256, Batch: 256}
	if m.Kinds {
		traffic := speeds()
		w.env.Traffic = func() *filter.Traffic { return traffic }
	}
	w.env.Suppressed = func(_, _ string, to mail.Address) (mail.Suppression, bool) {
		return mail.Suppression{}, h.suppressed(to)
	}
	w.env.Held = func() { w.later(0, w.changed) }
	w.env.Defaults()
	w.srcCfg = source.Config{NewWaker: func() protocol.Waker { return &waker{w: w} }, Hints: source.NewHints()}
	w.srcCfg.Defaults()
	for _, a := range w.addrs {
		w.books[a] = source.NewBook(a, &w.srcCfg, w.counters)
	}
	limits := m.Limits
	route := mail.Route{Hosts: []mail.Host{{Name: "mx." + m.Name + ".example", Port: 25}}, Until: h.end.Add(time.Hour)}
	other := route
	other.Hosts = []mail.Host{{Name: "mx2." + m.Name + ".example", Port: 25}}
	w.resolved = func(d mail.Domain) protocol.Resolved {
		to := route
		if m.Kinds && d == w.domains[1] { // of the same receiver, but one connection does not serve both
			to = other
		}
		return protocol.Resolved{Route: to, Key: to.Key(), Limits: &limits}
	}
	w.remotes = func(mail.Route) remote { return h }
	for i := range 2 {
		w.domains = append(w.domains, mail.Domain(fmt.Sprintf("%s%d.example", m.Name, i)))
		x := w.dest(w.domains[i])
		x.box.Recover(waitMost, 0, w.now)
		x.send(protocol.Restarted{})
	}
	if m.Sources > 1 {
		w.after(joins, w.changed)
	}
	w.after(gossips, w.gossip)
	return w, h
}

// speeds are the filters of a tenant: one at a pace of its own, one whose pace is fixed.
func speeds() *filter.Traffic {
	var x filter.Traffic
	for _, s := range []filter.Speed{{Name: sedate, Connections: 2, Interval: 500 * time.Millisecond},
		{Name: steady, Connections: 1, Interval: 4 * time.Second, Fixed: true}} {
		s.Tenant, s.Patterns = still, []*regexp.Regexp{regexp.MustCompile("^" + s.Name + "@")}
		x.AddSpeed(s)
	}
	return &x
}

// joined are the sources that are there yet.
func (w *world) joined(string) []netip.Addr {
	if n := len(w.addrs); n > 1 && w.since < joins {
		return w.addrs[:n-1]
	}
	return w.addrs
}

// changed has the destinations look again.
func (w *world) changed() {
	for _, x := range w.order2 {
		x.box.Reopen(true)
		x.send(protocol.Changed{})
	}
}

// gossip tells all sources what each has learned, as a node does.
func (w *world) gossip() {
	for _, a := range w.addrs {
		for receiver, y := range w.books[a].Memories(w.now) {
			w.srcCfg.Hints.Learn(w.now, receiver, y)
		}
	}
	w.after(gossips, w.gossip)
}
