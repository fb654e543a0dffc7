package node

import (
	"errors"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// intakeStore is the store as intake sees it: it counts what was promised.
type intakeStore struct {
	*queue.Store
	numbers *numbers
	holds   func() bool // whether the lease of the queue lasts
	bounces *bouncer
	keys    *clientKeys // of all members; nil alone
}

// errNoLease: between MAIL and the end of the data the node lost its lease. Nothing was stored.
var errNoLease = errors.New("the lease of the queue has ended")

// Put implements intake.Store.
func (s intakeStore) Put(a *mail.Accepted, done func(error)) {
	if !s.holds() {
		done(errNoLease)
		return
	}
	if a.Key != "" && s.keys != nil {
		go s.keys.put(a, s, done)
		return
	}
	s.put(a, done)
}

func (s intakeStore) put(a *mail.Accepted, done func(error)) {
	accepted, failed, suppressed := 0, 0, 0
	for i := range a.Events {
		switch a.Events[i].Kind {
		case mail.EventAccepted:
			accepted++
		case mail.EventFailed:
			failed++
		case mail.EventSuppressed:
			suppressed++
		}
	}
	if failed+suppressed > 0 {
		s.addBounces(a)
	}
	s.Store.Put(a, func(err error) {
		if err == nil {
			s.numbers.accepted(accepted)
			s.numbers.ended("failed", failed)
			s.numbers.ended("suppressed", suppressed)
		}
		done(err)
		if err == nil && len(a.With) > 0 {
			s.bounces.stored(a.With...)
		}
	})
}

// addBounces has the recipients that failed at once told with the message.
func (s intakeStore) addBounces(a *mail.Accepted) {
	composition := a.Events[0].Composition
	for i := range a.Events {
		if own := s.bounces.about(&a.Events[i], composition, a.Body); own != nil {
			a.With = append(a.With, own)
		}
	}
}

// actorStore is the store as destinations see it.
type actorStore struct {
	*queue.Store
	bounces *bouncer
}

// Settle implements protocol.Queue: a failure goes to disk with the bounce that tells of it.
func (s actorStore) Settle(m mail.Settlement, done func(error)) {
	switch {
	case m.Event.Kind == mail.EventDelivered:
		if s.bounces.node.book.now.Load().replies.Unverified(m.Event.Receiver) {
			m.Event.Detail = mail.Unverified
		}
	case m.Next == nil:
		m.With = s.bounces.about(&m.Event, m.Delivery.Composition, nil)
	}
	if own := m.With; own != nil {
		told := done
		done = func(err error) {
			told(err)
			if err == nil {
				s.bounces.stored(own)
			}
		}
	}
	s.Store.Settle(m, done)
}

// Mark implements protocol.Queue.
func (s actorStore) Mark(d *mail.Delivery, done func(error)) {
	s.Store.Mark(d, func(err error) {
		if errors.Is(err, queue.ErrNotQueued) { // discarded meanwhile: whoever carries it hears so when it settles
			err = nil
		}
		done(err)
	})
}

// Scan implements protocol.Queue.
func (s actorStore) Scan(d mail.Destination, c protocol.Cursor, until time.Time, n int) ([]mail.Delivery, protocol.Cursor, bool, time.Time, error) {
	from, _ := c.(queue.Cursor)
	ds, next, more, due, err := s.Store.Scan(d, from, until, n)
	return ds, next, more, due, err
}

// ScanAt implements protocol.Queue.
func (s actorStore) ScanAt(d mail.Destination, c protocol.Cursor, due time.Time, n int) ([]mail.Delivery, protocol.Cursor, bool, error) {
	from, _ := c.(queue.Cursor)
	ds, next, more, err := s.Store.ScanAt(d, from, due, n)
	return ds, next, more, err
}

// Rewind implements protocol.Queue.
func (s actorStore) Rewind(c protocol.Cursor, d *mail.Delivery) protocol.Cursor {
	from, _ := c.(queue.Cursor)
	return queue.Rewind(from, d)
}
