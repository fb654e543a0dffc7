package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// supply is a store in which mail always waits: as much of each tenant's to each domain as waitMost, made when a
// destination looks for more.
type supply struct {
	now     func() time.Time
	tenants []string
	from    []mail.Address // theirs
	seq     mail.Seq
	kinds   bool // of several kinds
	fail    func(error)
	by      map[mail.Domain]*backlog
	slab    []mail.Delivery // of which some are not in use yet
}

// soon is when there is more to come, milliseconds.
const soon = 5000

// waitMost is how much of one tenant's mail waits for one domain.
const waitMost = 300

// backlog is one domain's mail by due time and Seq. What is settled stays until sweep.
type backlog struct {
	all  []entry
	of   []int                   // by tenant, in their order: not settled
	gone int                     // settled and still in all
	to   map[string]mail.Address // recipients, by the part before the @
	page []mail.Delivery         // what the last Scan brought: whoever asked has read it before it asks again
}

// entry is one delivery; nil = settled.
type entry struct {
	due int64 // Unix milliseconds
	seq mail.Seq
	d   *mail.Delivery
}

func (a *entry) compare(due int64, seq mail.Seq) int {
	switch {
	case a.due != due:
		return int(max(-1, min(1, a.due-due)))
	case a.seq != seq:
		return int(max(-1, min(1, int64(a.seq)-int64(seq))))
	}
	return 0
}

// spot is the cursor: everything up to it has been listed.
type spot struct {
	due int64
	seq mail.Seq
}

func newSupply(now func() time.Time, tenants ...string) *supply {
	s := &supply{now: now, tenants: tenants, by: map[mail.Domain]*backlog{}}
	for _, t := range tenants {
		s.from = append(s.from, mail.Address("news@"+t+".example"))
	}
	return s
}

func (s *supply) backlog(d mail.Domain) *backlog {
	b := s.by[d]
	if b == nil {
		b = &backlog{of: make([]int, len(s.tenants)), to: map[string]mail.Address{}}
		for _, local := range []string{plain, sedate, steady, gone} {
			b.to[local] = mail.Address(local + "@" + string(d))
		}
		s.by[d] = b
	}
	return b
}

// at is where an entry is, or would be.
func (b *backlog) at(due int64, seq mail.Seq) (int, bool) {
	return slices.BinarySearchFunc(b.all, spot{due, seq}, func(e entry, p spot) int { return e.compare(p.due, p.seq) })
}

func (b *backlog) insert(d *mail.Delivery) {
	due := d.Due.UnixMilli()
	i, _ := b.at(due, d.Seq)
	b.all = slices.Insert(b.all, i, entry{due, d.Seq, d})
}

// Scan implements protocol.Queue.
func (s *supply) Scan(to mail.Destination, c protocol.Cursor, until time.Time, n int) ([]mail.Delivery, protocol.Cursor, bool, time.Time, error) {
	b := s.backlog(to.Domain)
	s.make(b, to.Domain)
	ds, next, more, due := b.scan(c, until, n, b.page[:0])
	b.page = ds
	return ds, next, more, due, nil
}

// scan lists into out what is due by a moment, n at most.
func (b *backlog) scan(c protocol.Cursor, until time.Time, n int, out []mail.Delivery) ([]mail.Delivery, protocol.Cursor, bool, time.Time) {
	i := 0
	if p, ok := c.(spot); ok {
		if i, ok = b.at(p.due, p.seq); ok {
			i++
		}
	}
	last := until.UnixMilli()
	first := i
	for ; i < len(b.all) && len(out) < n; i++ {
		e := &b.all[i]
		if e.due > last {
			break
		}
		if e.d != nil {
			out = append(out, *e.d)
		}
	}
	if i > first {
		c = spot{b.all[i-1].due, b.all[i-1].seq}
	}
	return out, c, len(out) == n, b.next(last)
}

// next is when the first falls due after a moment. There is always more to come soon: also where all that waits is in
// memory and nothing is to be found, as while a receiver takes none, or who asks would never ask again.
func (b *backlog) next(after int64) time.Time {
	i, _ := b.at(after+1, 0)
	for ; i < len(b.all); i++ {
		if b.all[i].d != nil {
			return time.UnixMilli(min(b.all[i].due, after+soon)).UTC()
		}
	}
	return time.UnixMilli(after + soon).UTC()
}

// make fills up what waits.
func (s *supply) make(b *backlog, to mail.Domain) {
	now := s.now().Truncate(time.Millisecond)
	for more := true; more; {
		more = false
		for i, t := range s.tenants {
			if b.of[i] >= waitMost {
				continue
			}
			b.of[i]++
			s.seq++
			d := s.fresh()
			*d = mail.Delivery{Seq: s.seq, Message: mail.MessageID{Lineage: 1, Seq: s.seq}, Tenant: t, Pool: "default",
				From: s.from[i], Domain: to, Due: now, Expires: now.Add(72 * time.Hour),
				RetryEvery: 5 * time.Minute, Priority: 50, Size: 3}
			local, cleaning := s.kindOf(s.seq, t)
			d.To, d.Cleaning = b.to[local], cleaning
			b.insert(d)
			more = true
		}
	}
}

// slab is how many deliveries are made at once: those that lie together are read faster.
const slab = 64

// fresh is memory for one delivery.
func (s *supply) fresh() *mail.Delivery {
	if len(s.slab) == 0 {
		s.slab = make([]mail.Delivery, slab)
	}
	d := &s.slab[0]
	s.slab = s.slab[1:]
	return d
}

// Parts of a recipient's address that make its mail one of a kind.
const (
	plain  = "x"
	sedate = "sedate" // a speed filter matches it
	steady = "steady" // another does, whose pace is fixed
	gone   = "gone"   // its owner wants mail in every other while only
)

// kindOf is the part before the @ of a recipient, and whether it is cleaning mail: a tenth of one tenant's is, and of what another
// sends a quarter is a filter's, and a tenth another one's. Some addresses are suppressed at times.
func (s *supply) kindOf(n mail.Seq, tenant string) (string, bool) {
	switch {
	case tenant == still && n%40 == 3:
		return gone, false
	case !s.kinds:
	case tenant == calm:
		return plain, n%10 == 1
	case tenant == still && n%4 == 1:
		return sedate, false
	case tenant == still && n%10 == 2:
		return steady, false
	}
	return plain, false
}

// ScanAt implements protocol.Queue.
func (s *supply) ScanAt(to mail.Destination, c protocol.Cursor, due time.Time, n int) ([]mail.Delivery, protocol.Cursor, bool, error) {
	ds, next, more, _ := s.backlog(to.Domain).scan(c, due, n, nil)
	return slices.DeleteFunc(ds, func(d mail.Delivery) bool { return !d.Due.Equal(due) }), next, more, nil
}

// Rewind implements protocol.Queue.
func (s *supply) Rewind(c protocol.Cursor, d *mail.Delivery) protocol.Cursor {
	p, ok := c.(spot)
	at := entry{due: d.Due.UnixMilli(), seq: d.Seq}
	if !ok || at.compare(p.due, p.seq) > 0 {
		return c
	}
	return spot{at.due, at.seq - 1}
}

// Body implements protocol.Queue.
func (s *supply) Body(mail.MessageID) ([]byte, error) { return []byte("x\r\n"), nil }

// Mark implements protocol.Queue: nobody crashes here, so nobody looks for marks.
func (s *supply) Mark(_ *mail.Delivery, done func(error)) { done(nil) }

// Settle implements protocol.Queue.
func (s *supply) Settle(x mail.Settlement, done func(error)) {
	b := s.backlog(x.Delivery.Domain)
	i, ok := b.at(x.Delivery.Due.UnixMilli(), x.Delivery.Seq)
	if !ok || b.all[i].d == nil {
		s.fail(fmt.Errorf("delivery %d settled as %v, but it is not in the queue", x.Delivery.Seq, x.Event.Kind))
		return
	}
	b.all[i].d = nil
	b.gone++
	if x.Next != nil {
		next := *x.Next
		b.insert(&next)
	} else {
		b.of[slices.Index(s.tenants, x.Delivery.Tenant)]--
	}
	if b.gone > len(b.all)/2 && b.gone > waitMost {
		b.all = slices.DeleteFunc(b.all, func(e entry) bool { return e.d == nil })
		b.gone = 0
	}
	done(nil)
}
