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
}

// soon is when there is more to come, milliseconds.
const soon = 5000

// waitMost is how much of one tenant's mail waits for one domain.
const waitMost = 300

// backlog is one domain's mail by due time and Seq. What is settled stays until sweep.
type backlog struct {
	all  []entry
	mail []mail.Delivery         // by place in all
	of   []int                   // by tenant, in their order: not settled
	gone int                     // settled and still in all
	to   map[string]mail.Address // recipients, by the part before the @

	lent int // what the last Scan brought ends there: a part of mail as it lies there, which is read before the next Scan
}

// entry is where one delivery stands.
type entry struct {
	due  int64 // Unix milliseconds
	seq  mail.Seq
	gone bool // settled
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
	if i < b.lent { // whoever reads it must not see it move
		b.mail, b.lent = slices.Clone(b.mail), 0
	}
	b.all = slices.Insert(b.all, i, entry{due: due, seq: d.Seq})
	b.mail = slices.Insert(b.mail, i, *d)
}

// sweep forgets what is settled, once that is much.
func (b *backlog) sweep() {
	if b.gone <= len(b.all)/2 || b.gone <= waitMost {
		return
	}
	n := 0
	for i := range b.all {
		if !b.all[i].gone {
			b.all[n], b.mail[n] = b.all[i], b.mail[i]
			n++
		}
	}
	clear(b.mail[n:])
	b.all, b.mail, b.gone = b.all[:n], b.mail[:n], 0
}

// Scan implements protocol.Queue.
func (s *supply) Scan(to mail.Destination, c protocol.Cursor, until time.Time, n int) ([]mail.Delivery, protocol.Cursor, bool, time.Time, error) {
	b := s.backlog(to.Domain)
	b.lent = 0
	b.sweep()
	s.make(b, to.Domain)
	ds, next, more, due := b.scan(c, until, n)
	return ds, next, more, due, nil
}

// scan lists what is due by a moment, n at most.
func (b *backlog) scan(c protocol.Cursor, until time.Time, n int) ([]mail.Delivery, protocol.Cursor, bool, time.Time) {
	i := 0
	if p, ok := c.(spot); ok {
		if i, ok = b.at(p.due, p.seq); ok {
			i++
		}
	}
	last := until.UnixMilli()
	start, found := i, 0
	for ; i < len(b.all) && found < n && b.all[i].due <= last; i++ {
		if !b.all[i].gone {
			found++
		}
	}
	if i > start {
		c = spot{b.all[i-1].due, b.all[i-1].seq}
	}
	b.close(start, i)
	b.lent = i
	return b.mail[i-found : i : i], c, found == n, b.next(last)
}

// close moves what is not settled between two places to the end of that part, where most of it lies already.
func (b *backlog) close(start, end int) {
	if start == end {
		return
	}
	before, to := b.all[start], end // before keeps the order, and is not what was moved
	if !before.gone {
		before.seq, before.gone = before.seq-1, true
	}
	for i := end - 1; i >= start; i-- {
		if b.all[i].gone {
			continue
		}
		if to--; to > i {
			b.all[to], b.mail[to] = b.all[i], b.mail[i]
			b.all[i].gone = true
		}
	}
	for i := start; i < to; i++ {
		b.all[i] = before
	}
}

// next is when the first falls due after a moment. There is always more to come soon: also where all that waits is in
// memory and nothing is to be found, as while a receiver takes none, or who asks would never ask again.
func (b *backlog) next(after int64) time.Time {
	i, _ := b.at(after+1, 0)
	for ; i < len(b.all); i++ {
		if !b.all[i].gone {
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
			d := mail.Delivery{Seq: s.seq, Message: mail.MessageID{Lineage: 1, Seq: s.seq}, Tenant: t, Pool: "default",
				From: s.from[i], Domain: to, Due: now, Expires: now.Add(72 * time.Hour),
				RetryEvery: 5 * time.Minute, Priority: 50, Size: 3}
			local, cleaning := s.kindOf(s.seq, t)
			d.To, d.Cleaning = b.to[local], cleaning
			b.insert(&d)
			more = true
		}
	}
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
	b := s.backlog(to.Domain)
	b.lent = 0
	ds, next, more, _ := b.scan(c, due, n)
	return slices.DeleteFunc(slices.Clone(ds), func(d mail.Delivery) bool { return !d.Due.Equal(due) }), next, more, nil
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

// body is every message's: nobody writes to it.
var body = []byte("x\r\n")

// Body implements protocol.Queue.
func (s *supply) Body(mail.MessageID) ([]byte, error) { return body, nil }

// Mark implements protocol.Queue: nobody crashes here, so nobody looks for marks.
func (s *supply) Mark(_ *mail.Delivery, done func(error)) { done(nil) }

// Settle implements protocol.Queue.
func (s *supply) Settle(x mail.Settlement, done func(error)) {
	b := s.backlog(x.Delivery.Domain)
	i, ok := b.at(x.Delivery.Due.UnixMilli(), x.Delivery.Seq)
	if !ok || b.all[i].gone {
		s.fail(fmt.Errorf("delivery %d settled as %v, but it is not in the queue", x.Delivery.Seq, x.Event.Kind))
		return
	}
	b.all[i].gone = true
	b.gone++
	if x.Next != nil {
		b.insert(x.Next)
	} else {
		b.of[slices.Index(s.tenants, x.Delivery.Tenant)]--
	}
	done(nil)
}
