package queue

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// Cursor is a position within a destination: behind one of its deliveries. The zero Cursor stands at the head.
type Cursor struct {
	set bool
	inv uint8
	at  place
}

// After returns the cursor behind d, so that a scan goes on with what follows it.
func After(d *mail.Delivery) Cursor {
	return Cursor{set: true, inv: 255 - d.Priority, at: place{dueOf(d.Due), uint64(d.Seq)}}
}

// Scan returns up to n deliveries to d that are due at until or before and lie behind c, in the order they are to be
// served: the larger priority first, then the earlier due time, then the earlier number. next stands behind the last
// of them; more tells that n was reached. nextDue is when the earliest delivery not yet due falls due, zero if there is
// none; it is known only where more is false.
//
// What was put or moved to before c since does not appear: whoever wants it scans from the head again. A scan does not
// walk what was deleted: it starts where the last scan found the first delivery, and jumps the runs of deleted records
// that earlier scans came through (see index).
func (s *Store) Scan(d mail.Destination, c Cursor, until time.Time, n int) (
	ds []mail.Delivery, next Cursor, more bool, nextDue time.Time, err error,
) {
	if !s.enter() {
		return nil, c, false, time.Time{}, ErrClosed
	}
	defer s.leave()
	w := walker{s: s, dest: s.names.of(d), cursor: c, until: dueOf(until), want: n, next: c, nextDue: lastPlace.due}
	if err := w.run(); err != nil {
		return nil, c, false, time.Time{}, err
	}
	if w.nextDue != lastPlace.due {
		nextDue = dueTime(w.nextDue)
	}
	return w.out, w.next, w.more, nextDue, nil
}

// ScanAt is Scan for deliveries that are due at that very moment. It does not walk what is due before or after.
func (s *Store) ScanAt(d mail.Destination, c Cursor, due time.Time, n int) (ds []mail.Delivery, next Cursor, more bool, err error) {
	if !s.enter() {
		return nil, c, false, ErrClosed
	}
	defer s.leave()
	w := walker{s: s, dest: s.names.of(d), cursor: c, from: dueOf(due), until: dueOf(due), want: n, next: c, nextDue: lastPlace.due}
	if err := w.run(); err != nil {
		return nil, c, false, err
	}
	return w.out, w.next, w.more, nil
}

// walker is one scan.
type walker struct {
	s      *Store
	dest   destination
	cursor Cursor
	from   uint64
	until  uint64
	want   int

	it      *badger.Iterator
	key     []byte
	sealed  []byte
	out     []mail.Delivery
	next    Cursor
	more    bool
	nextDue uint64
}

func (w *walker) run() error {
	views := w.s.index.begin(w.dest)
	if len(views) == 0 {
		return nil
	}
	defer w.s.index.end(views)
	if err := w.walk(views); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	return nil
}

func (w *walker) walk(views []view) error {
	txn := w.s.db.NewTransaction(false)
	defer txn.Discard()
	// All versions, so that deleted records are seen, counted and remembered instead of silently walked.
	w.it = txn.NewIterator(badger.IteratorOptions{AllVersions: true, Prefix: append([]byte{kindDelivery}, w.dest[:]...)})
	defer w.it.Close()
	for i := range views {
		v := &views[i]
		start, behind := v.head, false
		switch {
		case w.cursor.set && v.inv < w.cursor.inv: // served before: only when the next one is due matters
			start, behind = place{w.until + 1, 0}, true
		case w.cursor.set && v.inv == w.cursor.inv && !w.cursor.at.less(v.head):
			// A cursor beyond until passes over what is not due yet, which still tells when something will be.
			start, behind = minPlace(w.cursor.at.next(), place{w.until + 1, 0}), true
		}
		if start.less(v.head) {
			start, behind = v.head, false
		}
		if from := (place{w.from, 0}); start.less(from) {
			start, behind = from, true
		}
		if err := w.class(v, start, !behind); err != nil || w.more {
			return err
		}
	}
	return nil
}

// class walks one priority from start on.
func (w *walker) class(v *view, start place, fromHead bool) error {
	prefix := appendClass(nil, w.dest, v.inv)
	at := spot{dest: w.dest, inv: v.inv, at: v.skip(start)}
	w.key = appendSpot(w.key[:0], &at)
	v.first = lastPlace
	runFrom, dead := start, 0
	var last place // of the key looked at before; its older versions are not looked at
	first := true
	for w.it.Seek(w.key); w.it.ValidForPrefix(prefix); {
		w.s.steps.Add(1)
		item := w.it.Item()
		at, ok := parseSpot(item.Key())
		if !ok || !first && at.at == last {
			w.it.Next()
			continue
		}
		first, last = false, at.at
		if item.IsDeletedOrExpired() {
			dead++
			to := v.skip(at.at)
			if to == lastPlace {
				break
			}
			if to != at.at {
				at.at = to
				w.key = appendSpot(w.key[:0], &at)
				w.it.Seek(w.key)
				continue
			}
			w.it.Next()
			continue
		}
		v.note(runFrom, at.at, dead, fromHead)
		runFrom, dead = at.at.next(), 0
		if at.at.due > w.until {
			w.nextDue = min(w.nextDue, at.at.due)
			return nil
		}
		if w.s.hidden(mail.Seq(at.at.seq)) {
			w.it.Next()
			continue
		}
		if len(w.out) >= w.want {
			w.more = true
			return nil
		}
		if err := w.take(item, &at); err != nil {
			return err
		}
		w.it.Next()
	}
	v.note(runFrom, lastPlace, dead, fromHead)
	return nil
}

// note remembers that nothing is left between from and to; to is the first delivery behind.
func (v *view) note(from, to place, dead int, fromHead bool) {
	if fromHead && !v.walked {
		v.walked, v.first = true, to
	}
	if dead >= v.least {
		v.found = append(v.found, gap{from, to, dead})
		if len(v.found) > maxGaps {
			v.found = slices.Delete(v.found, 0, 1)
		}
	}
}

// take reads a delivery. One that does not open, or is not what its place says, goes to quarantine.
func (w *walker) take(item *badger.Item, at *spot) (err error) {
	if w.sealed, err = item.ValueCopy(w.sealed); err != nil {
		return err
	}
	d, err := w.s.delivery(w.sealed, at)
	if err != nil {
		w.s.quarantine(item.KeyCopy(nil), slices.Clone(w.sealed), at, err)
		return nil
	}
	w.out = append(w.out, d)
	w.next = Cursor{set: true, inv: at.inv, at: at.at}
	return nil
}

// delivery opens the record found at a place and checks that it belongs there.
func (s *Store) delivery(sealed []byte, at *spot) (d mail.Delivery, err error) {
	if d, err = openDelivery(s.ring, s.lineage, sealed, mail.Seq(at.at.seq)); err != nil {
		return d, err
	}
	if uint64(d.Seq) != at.at.seq || s.spotOf(&d) != *at {
		return d, ErrTampered
	}
	return d, nil
}

// openDelivery opens the record of a delivery in the store of lineage l.
func openDelivery(ring *seal.Ring, l mail.Lineage, sealed []byte, seq mail.Seq) (mail.Delivery, error) {
	var aad [maxIdentity]byte
	plain, err := ring.Open(nil, sealed, identity(aad[:0], l, seq, kindDelivery))
	if err != nil {
		return mail.Delivery{}, ErrTampered
	}
	return parseDelivery(string(plain), l)
}

// readTries is how often a body is read before it is called damaged: collection may move a value and delete its log
// between the look-up and the read, Badger hides that, and a new transaction sees the new place.
const readTries = 3

// Body returns the message's bytes. ErrNoBody tells that its last delivery was settled, ErrTampered that it is damaged
// and must not be delivered; with any other error it may be read another time.
func (s *Store) Body(m mail.MessageID) (body []byte, err error) {
	if !s.enter() {
		return nil, ErrClosed
	}
	defer s.leave()
	for range readTries {
		if body, err = s.readBody(m); !errors.Is(err, ErrTampered) {
			return body, err
		}
	}
	s.damaged.Add(1)
	s.log.Error("body damaged", "message", m.String())
	return nil, err
}

func (s *Store) readBody(m mail.MessageID) ([]byte, error) {
	var sealed []byte
	err := s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(appendMessageKey(nil, kindBody, s.lineage, m))
		if err != nil {
			return err
		}
		sealed, err = item.ValueCopy(nil)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, ErrNoBody
	}
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	return s.openMessage(kindBody, m, sealed)
}

// bodySize estimates what a body takes, 0 where it is not there.
func (s *Store) bodySize(txn *badger.Txn, m mail.MessageID) int {
	item, err := txn.Get(appendMessageKey(nil, kindBody, s.lineage, m))
	if err != nil {
		return 0
	}
	return int(item.EstimatedSize())
}

// quarantined is which records were found damaged, so that each is moved once.
type quarantined struct {
	mu   sync.Mutex
	keys map[string]bool
}

// quarantine moves a damaged record out of the queue's way. It stays on disk for whoever wants to know what happened.
func (s *Store) quarantine(key, value []byte, at *spot, reason error) {
	s.bad.mu.Lock()
	known := s.bad.keys[string(key)]
	if !known && len(s.bad.keys) < 1<<16 {
		if s.bad.keys == nil {
			s.bad.keys = map[string]bool{}
		}
		s.bad.keys[string(key)] = true
	}
	s.bad.mu.Unlock()
	if known {
		return
	}
	s.damaged.Add(1)
	s.log.Error("delivery damaged: moved to quarantine", "delivery", s.id(mail.Seq(at.at.seq)).String(), "err", reason)
	r := s.newRequest(func(error) {})
	r.set(append([]byte{kindQuarantine}, key...), value)
	r.del(key)
	r.drops = append(r.drops, *at)
	s.bookings.doubt() // whose it was nobody knows
	r.live -= deliveryWeight
	s.submit(r)
}

// Destinations calls f for every destination with deliveries: how many wait, and a time before which none falls due. It
// opens one record of each, for its name. f may call the store.
func (s *Store) Destinations(f func(d mail.Destination, waiting int, nextDue time.Time) error) error {
	return s.destinations(lastPlace.due, f)
}

// DestinationsDue is Destinations for those with a delivery that may have been due by until.
func (s *Store) DestinationsDue(until time.Time, f func(d mail.Destination, waiting int, nextDue time.Time) error) error {
	return s.destinations(dueOf(until), f)
}

func (s *Store) destinations(until uint64, f func(d mail.Destination, waiting int, nextDue time.Time) error) error {
	type row struct {
		dest    destination
		waiting int
		heads   []spot
	}
	s.index.mu.Lock()
	rows := make([]row, 0, len(s.index.by))
	for dest, l := range s.index.by {
		r, due := row{dest: dest}, false
		for _, c := range l.classes {
			r.waiting += c.waiting
			r.heads = append(r.heads, spot{dest, c.inv, c.head})
			due = due || c.head.due <= until
		}
		if due {
			rows = append(rows, r)
		}
	}
	s.index.mu.Unlock()
	slices.SortFunc(rows, func(a, b row) int { return bytes.Compare(a.dest[:], b.dest[:]) })
	for i := range rows {
		r := &rows[i]
		name, err := s.nameOf(r.heads)
		if err != nil {
			return fmt.Errorf("list destinations: %w", err)
		}
		if name == (mail.Destination{}) {
			continue // settled or quarantined meanwhile
		}
		due := lastPlace.due
		for _, h := range r.heads {
			due = min(due, h.at.due)
		}
		if err := f(name, r.waiting, dueTime(min(due, maxDue))); err != nil {
			return err
		}
	}
	return nil
}

// nameOf finds the name of a destination in the first of its records that opens.
func (s *Store) nameOf(heads []spot) (name mail.Destination, err error) {
	if !s.enter() {
		return name, ErrClosed
	}
	defer s.leave()
	err = s.db.View(func(txn *badger.Txn) error {
		for i := range heads {
			// Nearly always the head itself is there.
			if item, err := txn.Get(appendSpot(nil, &heads[i])); err == nil {
				if d, err := s.fromItem(item); err == nil {
					name = d.Destination()
					return nil
				}
			}
		}
		it := txn.NewIterator(badger.IteratorOptions{Prefix: append([]byte{kindDelivery}, heads[0].dest[:]...)})
		defer it.Close()
		for it.Seek(appendSpot(nil, &heads[0])); it.Valid(); it.Next() {
			if d, err := s.fromItem(it.Item()); err == nil {
				name = d.Destination()
				return nil
			}
		}
		return nil
	})
	return name, err
}

// fromItem reads a delivery, sending a damaged one to quarantine.
func (s *Store) fromItem(item *badger.Item) (mail.Delivery, error) {
	at, ok := parseSpot(item.Key())
	sealed, err := item.ValueCopy(nil)
	if err != nil || !ok {
		return mail.Delivery{}, errors.Join(err, ErrTampered)
	}
	d, err := s.delivery(sealed, &at)
	if err != nil {
		s.quarantine(item.KeyCopy(nil), sealed, &at, err)
	}
	return d, err
}

// Waiting returns the number of deliveries in the store.
func (s *Store) Waiting() int {
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	return s.index.waiting
}
