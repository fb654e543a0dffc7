// Package actorstest holds a store in memory and couriers to script, for tests of the negotiation. It must never be
// imported by anything but tests and bench.
package actorstest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// Queue is a store in memory that keeps count of what was settled. Its Settle commits when Commit is called, or at
// once where Manual is false.
type Queue struct {
	Manual bool // settlements wait for Commit
	Fail   error
	Unread func(mail.MessageID) error // why the body of a message cannot be read; nil where it can

	mu      sync.Mutex
	by      map[mail.Destination]map[mail.Seq]mail.Delivery
	bodies  map[mail.MessageID][]byte
	final   map[mail.Seq]mail.Event
	events  []mail.Event
	waiting []func()
	keep    bool
	faults  []error
}

// NewQueue returns an empty store; with keep it remembers every event.
func NewQueue(keep bool) *Queue {
	return &Queue{by: map[mail.Destination]map[mail.Seq]mail.Delivery{}, bodies: map[mail.MessageID][]byte{},
		final: map[mail.Seq]mail.Event{}, keep: keep}
}

// Put stores deliveries of one message.
func (q *Queue) Put(body []byte, ds ...mail.Delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, d := range ds {
		m := q.by[d.Destination()]
		if m == nil {
			m = map[mail.Seq]mail.Delivery{}
			q.by[d.Destination()] = m
		}
		m[d.Seq] = d
		q.bodies[d.Message] = body
	}
}

// place is the cursor: everything up to it has been listed.
type place struct {
	rank uint8
	due  int64
	seq  mail.Seq
}

func placeOf(d *mail.Delivery) place { return place{255 - d.Priority, d.Due.UnixMilli(), d.Seq} }

func (a place) compare(b place) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.due, b.due), cmp.Compare(a.seq, b.seq))
}

// Scan implements protocol.Queue as the store does: one position for all priorities, so that what comes up before it
// later is not listed, and nextDue only where everything due was listed.
func (q *Queue) Scan(d mail.Destination, c protocol.Cursor, until time.Time, n int) ([]mail.Delivery, protocol.Cursor, bool, time.Time, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.Fail != nil {
		return nil, nil, false, time.Time{}, q.Fail
	}
	at, set := c.(place)
	var due []mail.Delivery
	var next time.Time
	for _, x := range q.by[d] {
		if x.Due.After(until) {
			if next.IsZero() || x.Due.Before(next) {
				next = x.Due
			}
			continue
		}
		if set && placeOf(&x).compare(at) <= 0 {
			continue
		}
		due = append(due, x)
	}
	slices.SortFunc(due, func(a, b mail.Delivery) int { return placeOf(&a).compare(placeOf(&b)) })
	more := len(due) >= n
	due = due[:min(n, len(due))]
	if len(due) > 0 {
		c = placeOf(&due[len(due)-1])
	}
	if more {
		next = time.Time{}
	}
	return due, c, more, next, nil
}

// ScanAt implements protocol.Queue.
func (q *Queue) ScanAt(d mail.Destination, c protocol.Cursor, due time.Time, n int) ([]mail.Delivery, protocol.Cursor, bool, error) {
	ds, next, more, _, err := q.Scan(d, c, due, n)
	return slices.DeleteFunc(ds, func(d mail.Delivery) bool { return !d.Due.Equal(due) }), next, more, err
}

// Rewind implements protocol.Queue.
func (q *Queue) Rewind(c protocol.Cursor, d *mail.Delivery) protocol.Cursor {
	at, set := c.(place)
	p := placeOf(d)
	if !set || at.compare(p) < 0 {
		return c
	}
	p.seq--
	return p
}

// Body implements protocol.Queue.
func (q *Queue) Body(id mail.MessageID) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.Unread != nil {
		if err := q.Unread(id); err != nil {
			return nil, err
		}
	}
	b, ok := q.bodies[id]
	if !ok {
		return nil, errors.New("no such message")
	}
	return b, nil
}

// Settle implements protocol.Queue.
func (q *Queue) Settle(s mail.Settlement, done func(error)) {
	q.mu.Lock()
	commit := func() { done(q.commit(&s)) }
	if q.Manual {
		q.waiting = append(q.waiting, commit)
		q.mu.Unlock()
		return
	}
	q.mu.Unlock()
	commit()
}

// Mark implements protocol.Queue.
func (q *Queue) Mark(d *mail.Delivery, done func(error)) {
	q.mu.Lock()
	if _, ok := q.by[d.Destination()][d.Seq]; ok && q.Fail == nil {
		q.by[d.Destination()][d.Seq] = *d
	}
	err := q.Fail
	q.mu.Unlock()
	done(err)
}

func (q *Queue) commit(s *mail.Settlement) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.Fail != nil {
		return q.Fail
	}
	d := s.Delivery
	if _, ok := q.by[d.Destination()][d.Seq]; !ok {
		q.faults = append(q.faults, fmt.Errorf("delivery %d settled as %v, but it is not in the queue (before: %v)", d.Seq, s.Event.Kind, q.final[d.Seq].Kind))
		return nil
	}
	if s.Next != nil {
		q.by[d.Destination()][d.Seq] = *s.Next
	} else {
		delete(q.by[d.Destination()], d.Seq)
		q.final[d.Seq] = s.Event
	}
	if q.keep {
		q.events = append(q.events, s.Event)
	}
	return nil
}

// Commit makes durable what waits, and tells how much that was.
func (q *Queue) Commit() int {
	q.mu.Lock()
	w := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	for _, f := range w {
		f()
	}
	return len(w)
}

// Drop forgets the settlements that wait, as a store does that fails before the commit.
func (q *Queue) Drop() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.waiting)
	q.waiting = nil
	return n
}

// Break makes everything fail from now on.
func (q *Queue) Break(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.Fail = err
}

// Left is how many deliveries of d are queued; "" = of all.
func (q *Queue) Left(d mail.Domain) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for dest, m := range q.by {
		if d == "" || dest.Domain == d {
			n += len(m)
		}
	}
	return n
}

// List returns what is queued for d, in no order.
func (q *Queue) List(d mail.Domain) []mail.Delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []mail.Delivery
	for dest, m := range q.by {
		if dest.Domain == d {
			out = slices.AppendSeq(out, maps.Values(m))
		}
	}
	return out
}

// Final returns the last event of a delivery.
func (q *Queue) Final(s mail.Seq) (mail.Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, ok := q.final[s]
	return e, ok
}

// Finals is how many deliveries have a final outcome.
func (q *Queue) Finals() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.final)
}

// Events returns what was remembered.
func (q *Queue) Events() []mail.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.events)
}

// Faults lists what must not happen: something settled twice.
func (q *Queue) Faults() []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.faults)
}
