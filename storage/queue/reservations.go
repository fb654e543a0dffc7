package queue

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
)

// Reservation is the mail of one tenant from one domain that waits for one moment (requirement R29).
type Reservation struct {
	Tenant string
	From   mail.Domain // of the envelope
	Due    time.Time
	Count  int
}

// booking names a reservation in memory.
type booking struct {
	tenant string
	from   mail.Domain
	due    uint64 // ms since 1970
}

// bookings is how much reserved mail waits, by reservation: some 100 octets each, nothing per delivery.
type bookings struct {
	mu      sync.Mutex
	by      map[booking]int
	partial bool // something is not counted: the queue itself has to be read
}

// maxBookings bounds the reservations counted in memory. More are counted when somebody asks.
const maxBookings = 100_000

// What a delivery's record says of it without being opened, as Badger's user byte. A record without either was written
// before they were, or by whoever copied it.
const (
	metaPlain    = 1
	metaReserved = 2
	metaCleaning = 3 // and not reserved
)

// metaOf is what d's record says of it.
func metaOf(d *mail.Delivery) byte {
	switch {
	case reserved(d):
		return metaReserved
	case d.Cleaning:
		return metaCleaning
	}
	return metaPlain
}

// reserved tells whether d waits for the moment its sender chose. One that was tried is a delivery like any other.
func reserved(d *mail.Delivery) bool { return d.Reserved && d.Attempts == 0 }

func bookingOf(d *mail.Delivery) booking { return booking{d.Tenant, d.From.Domain(), dueOf(d.Due)} }

func (b *bookings) add(k booking) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, known := b.by[k]
	switch {
	case known:
	case len(b.by) >= maxBookings:
		b.partial = true
		return
	default: // k may share memory with a whole record
		k.tenant, k.from = strings.Clone(k.tenant), mail.Domain(strings.Clone(string(k.from)))
	}
	b.by[k] = n + 1
}

func (b *bookings) remove(k booking) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch n := b.by[k]; {
	case n > 1:
		b.by[k] = n - 1
	case n == 1:
		delete(b.by, k)
	}
}

// doubt tells that a count may be wrong from now on.
func (b *bookings) doubt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.partial = true
}

// after lists what waits for a moment after now; ok is false where memory does not hold all of it.
func (b *bookings) after(now time.Time) (out []Reservation, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.partial {
		return nil, false
	}
	for k, n := range b.by {
		if due := dueTime(k.due); due.After(now) {
			out = append(out, Reservation{k.tenant, k.from, due, n})
		}
	}
	return out, true
}

// Reservations lists the mail reserved for moments after now, in no useful order. It reads the queue only where there are
// more than maxBookings, or a record was damaged.
func (s *Store) Reservations(ctx context.Context, now time.Time) ([]Reservation, error) {
	if out, ok := s.bookings.after(now); ok {
		return out, nil
	}
	all := bookings{by: map[booking]int{}}
	err := s.ForEachDelivery(ctx, func(d *mail.Delivery) bool {
		if reserved(d) && d.Due.After(now) {
			all.by[bookingOf(d)]++
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list reservations: %w", err)
	}
	out, _ := all.after(now)
	return out, nil
}

// book counts a delivery that was found when the store was opened, if it is reserved or cleaning mail.
func (s *Store) book(item *badger.Item, at *spot) error {
	switch item.UserMeta() {
	case metaPlain:
		return nil
	case metaCleaning:
		s.cleaning[at.dest]++
		return nil
	}
	return item.Value(func(sealed []byte) error {
		d, err := openDelivery(s.ring, s.lineage, sealed, mail.Seq(at.at.seq))
		if err == nil && reserved(&d) { // a damaged one is met, and told of, when it is to be delivered
			s.bookings.add(bookingOf(&d))
		}
		if err == nil && d.Cleaning {
			s.cleaning[at.dest]++
		}
		return nil
	})
}

// CleaningAtOpen tells how much cleaning mail to d the store held when it was opened: the queue view has rows for it (requirement
// R63).
func (s *Store) CleaningAtOpen(d mail.Destination) int { return s.cleaning[s.names.of(d)] }

// DestinationsAt lists the destinations with a delivery that is due at that very moment. It looks at one place of each
// destination and priority, however much waits there.
func (s *Store) DestinationsAt(ctx context.Context, due time.Time) (out []mail.Destination, err error) {
	at := dueOf(due)
	s.index.mu.Lock()
	var places []spot
	for dest, l := range s.index.by {
		for _, c := range l.classes {
			if c.head.due <= at {
				places = append(places, spot{dest, c.inv, place{at, 0}})
			}
		}
	}
	s.index.mu.Unlock()
	slices.SortFunc(places, func(a, b spot) int { return bytes.Compare(a.dest[:], b.dest[:]) })
	if !s.enter() {
		return nil, ErrClosed
	}
	defer s.leave()
	err = s.db.View(func(txn *badger.Txn) error {
		// All versions: a walk past what was deleted could be long.
		it := txn.NewIterator(badger.IteratorOptions{AllVersions: true, Prefix: []byte{kindDelivery}})
		defer it.Close()
		var last destination
		for i := range places {
			if len(out) > 0 && places[i].dest == last {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if d, ok := s.firstAt(it, &places[i]); ok {
				out, last = append(out, d), places[i].dest
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for deliveries due at a moment: %w", err)
	}
	return out, nil
}

// firstAt returns the destination of the first delivery at p.
func (s *Store) firstAt(it *badger.Iterator, p *spot) (d mail.Destination, ok bool) {
	dead := place{}
	for it.Seek(appendSpot(nil, p)); it.Valid(); it.Next() {
		s.steps.Add(1)
		at, ok := parseSpot(it.Item().Key())
		if !ok || at.dest != p.dest || at.inv != p.inv || at.at.due != p.at.due {
			return d, false
		}
		if it.Item().IsDeletedOrExpired() {
			dead = at.at
		}
		if at.at == dead { // its older versions too
			continue
		}
		if found, err := s.fromItem(it.Item()); err == nil {
			return found.Destination(), true
		}
		dead = at.at
	}
	return d, false
}
