package stats

import (
	"cmp"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// Windows of requirement R61.
const (
	Hours = 6  // hourly buckets
	Fives = 12 // five-minute buckets

	hour = int64(time.Hour / time.Second)
	five = int64(5 * time.Minute / time.Second)
)

// MaxNames bounds how many groups, and how many domains, are counted by name, over all tenants: each costs about 1 KB
// while it has numbers in every window. Where a new name finds no room, names that have been idle for an hour give way,
// else the newcomer; what gives way is counted under Other of no tenant from then on, with its past.
const MaxNames = 20_000

// Other is the name under which groups and domains beyond MaxNames are counted together.
const Other = "other"

// Nowhere is the name under which mail to addresses without a domain is counted, so that domains add up to the whole (R62). No
// domain is called so: it has no dot.
const Nowhere = "none"

// Unit is the length of the buckets asked for.
type Unit uint8

// The units of requirement R61.
const (
	Total Unit = iota // one bucket, all-time
	Hour              // the last six hours
	Five              // the last hour by five minutes
)

// Bucket is the counts of one aligned span of time. Start is zero for Total.
type Bucket struct {
	Start  time.Time
	Counts Counts
}

// window is a ring of aligned spans; slot i holds the span whose number modulo the length is i.
type window struct {
	start  int64 // number of the span: seconds since 1970 / length
	counts [Counters]uint32
}

// name is what a breakdown counts under: a group or a domain of a tenant.
type name struct{ tenant, name string }

// series is everything counted under one name.
type series struct {
	total Counts
	last  int64 // seconds since 1970 of the newest event
	hours [Hours]window
	fives [Fives]window
}

func (s *series) add(at int64, c Counter) {
	if c == none {
		return
	}
	s.total[c]++
	s.last = max(s.last, at)
	raise(s.hours[:], at/hour, c)
	raise(s.fives[:], at/five, c)
}

func raise(ring []window, span int64, c Counter) {
	w := &ring[int(span%int64(len(ring)))]
	switch {
	case w.start == span:
	case w.start < span:
		*w = window{start: span}
	default:
		return // older than the window
	}
	w.counts[c]++
}

// merge adds everything o counted to s.
func (s *series) merge(o *series) {
	for i, n := range o.total {
		s.total[i] += n
	}
	s.last = max(s.last, o.last)
	mergeRing(s.hours[:], o.hours[:])
	mergeRing(s.fives[:], o.fives[:])
}

func mergeRing(into, from []window) {
	for i := range from {
		switch w := &into[i]; {
		case w.start < from[i].start:
			*w = from[i]
		case w.start == from[i].start:
			for c, n := range from[i].counts {
				w.counts[c] += n
			}
		}
	}
}

func (s *series) buckets(u Unit, now int64) []Bucket {
	switch u {
	case Hour:
		return span(s.hours[:], now/hour, hour)
	case Five:
		return span(s.fives[:], now/five, five)
	}
	return []Bucket{{Counts: s.total}}
}

// span returns the buckets of a ring, oldest first, the last one holding now.
func span(ring []window, current, length int64) []Bucket {
	out := make([]Bucket, len(ring))
	for i := range out {
		n := current - int64(len(ring)-1-i)
		out[i].Start = time.Unix(n*length, 0).UTC()
		if w := &ring[int(max(n, 0)%int64(len(ring)))]; w.start == n {
			for c, v := range w.counts {
				out[i].Counts[c] = uint64(v)
			}
		}
	}
	return out
}

// Table is all the counters. Safe for concurrent use. The zero value is not; use New.
type Table struct {
	mu      sync.Mutex
	all     series
	own     Counts // of the engine's own mail, which is counted nowhere else
	tenants names
	groups  names
	domains names
	days    days
	dirty   bool
}

// names is the series of one breakdown.
type names struct {
	max    int
	by     map[name]*series
	other  series
	sought int64 // when room was last looked for in vain, seconds
}

// Config is what a Table may be told.
type Config struct {
	// MaxNames is how many tenants, groups and domains are kept by name; zero: the constant of that name.
	MaxNames int
	// Carrier tells the carrier that results of a domain's mail are counted under; nil: none.
	Carrier func(mail.Domain) string
	// Load returns what Days handed out of a day that is not in memory, nil where there is nothing; nil: nowhere is
	// anything. It is called under the table's lock.
	Load func(statistics.Date) ([]byte, error)
}

// New returns empty counters.
func New(c Config) *Table {
	if c.MaxNames <= 0 {
		c.MaxNames = MaxNames
	}
	if c.Carrier == nil {
		c.Carrier = func(mail.Domain) string { return "" }
	}
	t := &Table{days: days{Config: c}}
	t.clear()
	return t
}

// clear forgets everything counted.
func (t *Table) clear() {
	t.all, t.own = series{}, Counts{}
	for _, n := range t.breakdowns() {
		*n = names{max: t.days.MaxNames, by: map[name]*series{}}
	}
	t.days.kept = map[statistics.Date]*day{}
}

// breakdowns are the parts that add up to the whole, each for itself.
func (t *Table) breakdowns() []*names { return []*names{&t.tenants, &t.groups, &t.domains} }

// Add counts e under its own time. Deliveries without a group, and addresses without a domain, are counted under the
// empty name, so that every breakdown adds up to the whole (requirement R62). Mail of our own (bounces) is not counted:
// the counts are of what customers sent.
func (t *Table) Add(e *mail.Event) {
	outcome, trouble := countersOf(e)
	again := redeliveryOf(e)
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Own {
		for _, c := range [...]Counter{outcome, again} {
			if c != none {
				t.own[c]++
				t.dirty = true
			}
		}
		return
	}
	if t.days.add(e) {
		t.dirty = true
	}
	if outcome == none && trouble == none && again == none {
		return
	}
	t.dirty = true
	at := max(e.At.Unix(), 0)
	t.all.add(at, outcome)
	t.all.add(at, trouble)
	t.all.add(at, again)
	for _, s := range [...]*series{t.tenants.find(name{e.Tenant, ""}, at), t.groups.find(name{e.Tenant, e.Group}, at),
		t.domains.find(name{e.Tenant, string(cmp.Or(e.Domain, Nowhere))}, at)} {
		s.add(at, outcome)
		s.add(at, trouble)
		s.add(at, again)
	}
}

// same tells whether both counted the same under every name.
func (n *names) same(o *names) bool {
	if n.other != o.other || len(n.by) != len(o.by) {
		return false
	}
	for of, s := range n.by {
		if other := o.by[of]; other == nil || *s != *other {
			return false
		}
	}
	return true
}

// find returns the series of a name, making room for it where possible.
func (n *names) find(of name, at int64) *series {
	if s := n.by[of]; s != nil {
		return s
	}
	if len(n.by) >= n.max && !n.makeRoom(at) {
		return &n.other
	}
	s := &series{}
	// The name may share memory with a whole block of events.
	n.by[name{strings.Clone(of.tenant), strings.Clone(of.name)}] = s
	return s
}

// makeRoom moves names that were idle for an hour into other, at most a tenth of all, looking once a minute.
func (n *names) makeRoom(at int64) bool {
	if at-n.sought < 60 && at >= n.sought {
		return false
	}
	n.sought = at
	room := max(n.max/10, 1)
	for of, s := range n.by {
		if at-s.last < hour {
			continue
		}
		n.other.merge(s)
		delete(n.by, of)
		if room--; room == 0 {
			break
		}
	}
	return len(n.by) < n.max
}

// Left returns the number of deliveries that wait here by what was counted, bounces and all: what the queue must hold.
func (t *Table) Left() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.total.Left() + t.own.Left()
}

// Retrying returns how many of the deliveries that wait here were put off before, bounces and all.
func (t *Table) Retrying() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.total.Retrying() + t.own.Retrying()
}

// Of says which counts are wanted: of one tenant or all, and there of one group, or one domain, or everything. Both at
// once is not kept: the group wins.
type Of struct {
	Tenant, Group string
	Domain        mail.Domain
}

// Buckets returns the counts of what is wanted. An unknown name has zeros. now is product time.
func (t *Table) Buckets(u Unit, of Of, now time.Time) []Bucket {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.all
	switch {
	case of.Group != "":
		s = t.groups.of(of.Tenant, of.Group)
	case of.Domain != "":
		s = t.domains.of(of.Tenant, string(of.Domain))
	case of.Tenant != "":
		s = t.tenants.of(of.Tenant, "")
	}
	return s.buckets(u, now.Unix())
}

// of adds up what has the name, of one tenant or of all.
func (n *names) of(tenant, what string) *series {
	if tenant != "" {
		if s := n.by[name{tenant, what}]; s != nil {
			return s
		}
		return &series{}
	}
	sum := &series{}
	for k, s := range n.by {
		if k.name == what {
			sum.merge(s)
		}
	}
	if what == Other {
		sum.merge(&n.other)
	}
	return sum
}

// Groups and Domains call f with the all-time counts of every name kept, in no order, and of Other where it has any. They
// add up to the whole: what has no group stands under "", and addresses without a domain under Nowhere.
func (t *Table) Groups(f func(tenant, name string, total Counts)) { t.each(&t.groups, f) }

// Domains is described with Groups.
func (t *Table) Domains(f func(tenant, name string, total Counts)) { t.each(&t.domains, f) }

func (t *Table) each(n *names, f func(string, string, Counts)) {
	type row struct {
		name
		total Counts
	}
	t.mu.Lock()
	rows := make([]row, 0, len(n.by)+1)
	for of, s := range n.by {
		rows = append(rows, row{of, s.total})
	}
	if !n.other.total.isZero() {
		rows = append(rows, row{name{"", Other}, n.other.total})
	}
	t.mu.Unlock()
	for _, r := range rows {
		f(r.tenant, r.name.name, r.total)
	}
}
