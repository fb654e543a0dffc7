package stats

import (
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Windows of requirement R61.
const (
	Hours = 6  // hourly buckets
	Fives = 12 // five-minute buckets

	hour = int64(time.Hour / time.Second)
	five = int64(5 * time.Minute / time.Second)
)

// MaxNames bounds how many groups, and how many domains, are counted by name: each costs about 1 KB while it has
// numbers in every window. Where a new name finds no room, the one that was idle longest gives way if it has been
// idle for an hour at least, else the newcomer; what gives way is counted under Other from then on, with its past.
const MaxNames = 20_000

// Other is the name under which groups and domains beyond MaxNames are counted together.
const Other = "other"

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
	groups  names
	domains names
	dirty   bool
}

// names is the series of one breakdown.
type names struct {
	max    int
	by     map[string]*series
	other  series
	sought int64 // when room was last looked for in vain, seconds
}

// New returns empty counters that keep maxNames groups and domains by name, MaxNames where it is zero.
func New(maxNames int) *Table {
	if maxNames <= 0 {
		maxNames = MaxNames
	}
	return &Table{groups: names{max: maxNames, by: map[string]*series{}}, domains: names{max: maxNames, by: map[string]*series{}}}
}

// Add counts e under its own time. Deliveries without a group are counted overall and by domain only, malformed
// addresses overall and by group. Mail of our own (bounces) is not counted: the counts are of what customers sent.
func (t *Table) Add(e *mail.Event) {
	outcome, trouble := countersOf(e)
	if e.Own || outcome == none && trouble == none {
		return
	}
	at := max(e.At.Unix(), 0)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dirty = true
	t.all.add(at, outcome)
	t.all.add(at, trouble)
	if e.Group != "" {
		s := t.groups.find(e.Group, at)
		s.add(at, outcome)
		s.add(at, trouble)
	}
	if e.Domain != "" {
		s := t.domains.find(string(e.Domain), at)
		s.add(at, outcome)
		s.add(at, trouble)
	}
}

// find returns the series of a name, making room for it where possible.
func (n *names) find(name string, at int64) *series {
	if s := n.by[name]; s != nil {
		return s
	}
	if len(n.by) >= n.max && !n.makeRoom(at) {
		return &n.other
	}
	s := &series{}
	// The name may share memory with a whole block of events.
	n.by[string([]byte(name))] = s
	return s
}

// makeRoom moves names that were idle for an hour into other, at most a tenth of all, looking once a minute.
func (n *names) makeRoom(at int64) bool {
	if at-n.sought < 60 && at >= n.sought {
		return false
	}
	n.sought = at
	room := max(n.max/10, 1)
	for name, s := range n.by {
		if at-s.last < hour {
			continue
		}
		n.other.merge(s)
		delete(n.by, name)
		if room--; room == 0 {
			break
		}
	}
	return len(n.by) < n.max
}

// Buckets returns the counts of one group or one domain or, where both are empty, overall. Both at once is not kept:
// the group wins. An unknown name has zeros. now is product time.
func (t *Table) Buckets(u Unit, group string, domain mail.Domain, now time.Time) []Bucket {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.all
	switch {
	case group != "":
		s = t.groups.of(group)
	case domain != "":
		s = t.domains.of(string(domain))
	}
	return s.buckets(u, now.Unix())
}

func (n *names) of(name string) *series {
	if s := n.by[name]; s != nil {
		return s
	}
	if name == Other {
		return &n.other
	}
	return &series{}
}

// Groups and Domains call f with the all-time counts of every name kept, in no order, and of Other where it has any.
func (t *Table) Groups(f func(name string, total Counts)) { t.each(&t.groups, f) }

// Domains is described with Groups.
func (t *Table) Domains(f func(name string, total Counts)) { t.each(&t.domains, f) }

func (t *Table) each(n *names, f func(string, Counts)) {
	type row struct {
		name  string
		total Counts
	}
	t.mu.Lock()
	rows := make([]row, 0, len(n.by)+1)
	for name, s := range n.by {
		rows = append(rows, row{name, s.total})
	}
	if !n.other.total.isZero() {
		rows = append(rows, row{Other, n.other.total})
	}
	t.mu.Unlock()
	for _, r := range rows {
		f(r.name, r.total)
	}
}
