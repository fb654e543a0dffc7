package queue

import (
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// Bytes that a waiting delivery is reckoned at besides its body.
const deliveryWeight = 160

// Put stores a message: its deliveries, its body once, its events. done is called exactly once, from the committer's
// goroutine when all of it is durable, or from the caller's where it is refused at once; it must not block. Sealing is
// done in the caller's goroutine. Put sets Shared in a.Deliveries, so copies are to be taken afterwards, and a belongs
// to the store until done is called; its body for good.
//
// Besides ErrFailed, ErrClosed, ErrDiskFull and ErrTooMany, done may hear a *DuplicateError: the tenant used the
// idempotency key within the last day, and nothing was stored. Put blocks while too many requests wait.
func (s *Store) Put(a *mail.Accepted, done func(error)) {
	if s.cfg.Bare {
		a.Events = nil
	}
	if s.space.low.Load() {
		done(ErrDiskFull)
		return
	}
	if len(a.Deliveries) > maxRecipients {
		done(ErrTooMany)
		return
	}
	r := s.newRequest(done)
	r.puts = true
	r.message, r.maxSeq = a.ID, a.ID.Seq
	if cap(r.buf) == 0 {
		r.buf = make([]byte, 0, len(a.Body)+512)
	}
	r.events = a.Events
	if len(a.With) > 0 {
		r.events = slices.Clone(a.Events)
	}
	shared := len(a.Deliveries) > 1
	if shared {
		r.shares = len(a.Deliveries)
	}
	for i := range a.Deliveries {
		a.Deliveries[i].Shared, a.Deliveries[i].Apart = shared, true
		s.addDelivery(r, &a.Deliveries[i])
	}
	if len(a.Deliveries) > 0 {
		s.addBody(r, a.ID, a.Body)
	}
	if a.Key != "" {
		s.addKey(r, a)
	}
	for i := range a.Events {
		s.events.Pack(&r.pack, &a.Events[i])
	}
	for _, own := range a.With {
		s.addOwn(r, own)
	}
	s.submit(r)
}

// addOwn puts mail of the engine's own, which has one recipient, into r: it is stored with what caused it, or not at all.
func (s *Store) addOwn(r *request, a *mail.Accepted) {
	if s.cfg.Bare {
		a.Events = nil
	}
	a.Deliveries[0].Apart = true
	s.addDelivery(r, &a.Deliveries[0])
	s.addBody(r, a.ID, a.Body)
	r.events = append(r.events, a.Events...)
	for i := range a.Events {
		s.events.Pack(&r.pack, &a.Events[i])
	}
}

// addDelivery puts d's record and its place into r.
func (s *Store) addDelivery(r *request, d *mail.Delivery) {
	at := s.spotOf(d)
	from := len(r.buf)
	r.buf = appendSpot(r.buf, &at)
	key := r.cut(from)
	plain := appendDelivery(r.metadata[:0], d, s.lineage)
	r.set(key, s.seal(r, identity(r.aad[:0], s.lineage, d.Seq, kindDelivery), plain))
	r.adds = append(r.adds, at)
	if r.sets[len(r.sets)-1].UserMeta = metaOf(d); reserved(d) {
		r.booked = append(r.booked, bookingOf(d))
	}
	r.live += deliveryWeight
	r.maxSeq = max(r.maxSeq, d.Seq)
}

func (s *Store) spotOf(d *mail.Delivery) spot {
	return spot{dest: s.names.of(d.Destination()), inv: 255 - d.Priority, at: place{dueOf(d.Due), uint64(d.Seq)}}
}

// addBody puts a message's body into r.
func (s *Store) addBody(r *request, m mail.MessageID, body []byte) {
	from := len(r.buf)
	r.buf = appendMessageKey(r.buf, kindBody, s.lineage, m)
	key := r.cut(from)
	r.set(key, s.seal(r, messageIdentity(r.aad[:0], s.lineage, m, kindBody), body))
	r.live += int64(len(body))
}

// seal seals plain into r's memory.
func (s *Store) seal(r *request, aad, plain []byte) []byte {
	from := len(r.buf)
	if spare := cap(r.buf) - from; spare < len(plain)+seal.Overhead {
		r.buf, from = make([]byte, 0, max(len(plain)+seal.Overhead, 1024)), 0 // what was cut keeps the old memory
	}
	r.buf = s.ring.Seal(r.buf, plain, aad)
	return r.cut(from)
}

// openMessage opens a record that a message has one of, into memory of its own.
func (s *Store) openMessage(kind byte, m mail.MessageID, value []byte) ([]byte, error) {
	var aad [maxIdentity]byte
	plain, err := s.ring.Open(nil, value, messageIdentity(aad[:0], s.lineage, m, kind))
	if err != nil {
		return nil, ErrTampered
	}
	return plain, nil
}

// Settle closes one attempt: the delivery's record goes or moves to where Next waits, the event is logged, and the body
// goes with its last delivery. done is as in Put. Every delivery is settled by one owner, one attempt at a time, and
// m.Delivery must be as the store gave it or took it last: its domain, priority, due time and number find the record.
// A shared delivery that is not there gives ErrNotQueued. Settlements go on when the disk is short.
func (s *Store) Settle(m mail.Settlement, done func(error)) { s.settle(m, false, done) }

// Mark writes the record of a queued delivery anew where it stands: of d only Dotted may differ from what the store has, which
// gives ErrNotQueued where it is not queued as d describes it. done is as in Put. There is no event.
func (s *Store) Mark(d *mail.Delivery, done func(error)) {
	r := s.newRequest(done)
	r.present, r.maxSeq = true, d.Seq
	at := s.spotOf(d)
	from := len(r.buf)
	r.buf = appendSpot(r.buf, &at)
	key := r.cut(from)
	r.set(key, s.seal(r, identity(r.aad[:0], s.lineage, d.Seq, kindDelivery), appendDelivery(r.metadata[:0], d, s.lineage)))
	r.sets[len(r.sets)-1].UserMeta = metaOf(d)
	s.submit(r)
}

// SettleQueued is Settle for whoever is not the delivery's owner (a group is discarded, say): it gives ErrNotQueued
// wherever the delivery is not in the queue as described any more, and adds no event then. For an hour from then on the
// same holds for Settle, so that of the two that settle one delivery the later one hears of it. This costs a look at the
// database for each settlement.
func (s *Store) SettleQueued(m mail.Settlement, done func(error)) { s.settle(m, true, done) }

func (s *Store) settle(m mail.Settlement, sure bool, done func(error)) {
	r := s.newRequest(done)
	r.sure = sure
	d := m.Delivery
	at := s.spotOf(d)
	from := len(r.buf)
	r.buf = appendSpot(r.buf, &at)
	r.del(r.cut(from))
	r.drops = append(r.drops, at)
	if reserved(d) {
		r.freed = append(r.freed, bookingOf(d))
	}
	r.live -= deliveryWeight
	r.message, r.outcome = d.Message, true
	r.settles, r.final = d.Shared, m.Next == nil
	switch {
	case m.Next != nil:
		s.addDelivery(r, m.Next)
	case !d.Shared:
		from := len(r.buf)
		r.buf = appendMessageKey(r.buf, kindBody, s.lineage, d.Message)
		r.del(r.cut(from))
		r.live -= int64(d.Size)
	}
	if m.Event.Kind != 0 && !s.cfg.Bare {
		r.one[0] = m.Event
		r.events = r.one[:]
		s.events.Pack(&r.pack, &r.one[0])
	}
	if m.With != nil {
		s.addOwn(r, m.With)
	}
	s.submit(r)
}

// addKey puts the memory of an idempotency key into r.
func (s *Store) addKey(r *request, a *mail.Accepted) {
	r.hasKey, r.id = true, a.ID
	r.key = s.keyName(r.metadata[:0], a.Tenant, a.Key)
	key := append([]byte{kindKey}, r.key[:]...)
	until := s.cfg.Clock.Now().Add(keyLife)
	r.set(key, s.sealNamed(kindKey, r.key, appendKeyRecord(nil, a.ID, until)))
}

// Allot returns n numbers for a message and its deliveries: the first of them. They are microseconds since 1970 of the
// machine's clock, raised past every number ever given out, also where the clock was set back across a restart.
func (s *Store) Allot(n int) mail.Seq {
	for {
		last := s.lastSeq.Load()
		first := max(uint64(wallMicros()), last+1)
		if s.lastSeq.CompareAndSwap(last, first+uint64(max(n, 1))-1) {
			return mail.Seq(first)
		}
	}
}

// Newest is the time that the last number handed out tells. After a start it may be up to a second ahead of the machine's
// clock, because numbers go on above the mark.
func (s *Store) Newest() time.Time { return mail.Seq(s.lastSeq.Load()).Time() }

// expired tells whether a remembered key no longer counts.
func expired(until, now time.Time) bool { return !now.Before(until) }
