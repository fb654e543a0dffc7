package queue

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
)

// A message is exposed while only this node holds it although standbys should: the policy let it pass. Its mark stays
// until the message is gone or a standby has been given everything, so that a node that comes back after it was taken
// over knows what only it has. The value of a mark is the frame that shipped the message (8) and the run of the process
// that counted it (4).

const markSize = 8 + 4

func newRunID() uint32 {
	var raw [4]byte
	rand.Read(raw[:])
	return binary.BigEndian.Uint32(raw[:])
}

// markExposed notes that only this node holds what the puts brought, and then tells their owners. A mark names the last
// frame shipped by now: Covered must not remove it for an earlier one.
func (s *Store) markExposed(puts []*request) {
	r := s.newRequest(func(err error) {
		for _, put := range puts {
			s.unheld.show(put)
			s.answer(put, err)
		}
	})
	value := binary.BigEndian.AppendUint64(make([]byte, 0, markSize), s.lastFrame.Load())
	value = binary.BigEndian.AppendUint32(value, s.runID)
	mark := func(m mail.MessageID) {
		r.set(appendMessageKey(nil, kindExposed, s.lineage, m), value)
		r.marks++
	}
	for _, put := range puts {
		if len(put.adds) > 0 {
			mark(put.message)
		}
		for i := range put.events { // what came with it
			if e := &put.events[i]; e.Kind == mail.EventAccepted && e.Message != put.message {
				mark(e.Message)
			}
		}
	}
	s.push(r)
}

// unmark removes the marks that are there.
func (s *Store) unmark(txn *badger.Txn, keys ...[]byte) error {
	for _, k := range keys {
		switch _, err := txn.Get(k); {
		case errors.Is(err, badger.ErrKeyNotFound):
			continue
		case err != nil:
			return fmt.Errorf("look for mark of exposure: %w", err)
		}
		if err := txn.Delete(k); err != nil {
			return err
		}
		s.c.unmarked++
	}
	return nil
}

// isExposed tells whether a message is marked.
func (s *Store) isExposed(m mail.MessageID) (bool, error) {
	if s.exposed.Load() == 0 {
		return false, nil
	}
	return s.present(appendMessageKey(nil, kindExposed, s.lineage, m))
}

// ExposedCount returns how many waiting messages are marked as held by this node alone.
func (s *Store) ExposedCount() int { return int(max(s.exposed.Load(), 0)) }

// Covered tells that enough standbys hold everything that was committed up to frame n, all older runs of the process
// included: what was exposed until then no longer is.
func (s *Store) Covered(ctx context.Context, n uint64) error {
	return s.uncover(ctx, func(frame uint64, ofRun bool) bool { return !ofRun || frame <= n })
}

// Outdated tells that standbys held everything up to frame n, counted over all runs, at some time: where this store still
// says that it alone holds some of that, it is older than it should be, and what it says of that is wrong.
func (s *Store) Outdated(ctx context.Context, n uint64) error {
	return s.uncover(ctx, func(frame uint64, _ bool) bool { return frame <= n })
}

// uncover removes the marks of exposure that over is true for.
func (s *Store) uncover(ctx context.Context, over func(frame uint64, ofRun bool) bool) error {
	if s.exposed.Load() == 0 {
		return nil
	}
	var keys [][]byte
	remove := func() error {
		defer func() { keys = nil }()
		return s.submitAndWait(ctx, func(r *request) {
			r.unmarks = true
			for _, k := range keys {
				r.del(k)
			}
		})
	}
	err := s.each(ctx, kindExposed, func(key, value []byte) error {
		if len(value) == markSize && !over(binary.BigEndian.Uint64(value), binary.BigEndian.Uint32(value[8:]) == s.runID) {
			return nil
		}
		if keys = append(keys, append([]byte(nil), key...)); len(keys) == purgeBatch {
			return remove()
		}
		return nil
	})
	if err == nil && len(keys) > 0 {
		err = remove()
	}
	return err
}

// messageOf tells to which message a record belongs; false where it belongs to none or does not open.
func (s *Store) messageOf(key, value []byte) (m mail.MessageID, ok bool) {
	switch key[0] {
	case kindBody, kindShares:
		return parseMessageKey(key, s.lineage)
	case kindDelivery:
		at, ok := parseSpot(key)
		if !ok {
			return m, false
		}
		d, err := s.delivery(value, &at)
		return d.Message, err == nil
	case kindKey:
		if len(key) != 1+16 {
			return m, false
		}
		plain, err := s.ring.Open(nil, value, s.namedIdentity(kindKey, [16]byte(key[1:])))
		if err != nil {
			return m, false
		}
		m, _, err = parseKeyRecord(plain)
		return m, err == nil
	}
	return m, false
}

func (s *Store) present(key []byte) (bool, error) {
	if !s.enter() {
		return false, ErrClosed
	}
	defer s.leave()
	err := s.db.View(func(txn *badger.Txn) error {
		_, err := txn.Get(key)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil, err
}

// value returns what lies under key, nil where there is nothing.
func (s *Store) value(key []byte) (value []byte, err error) {
	if !s.enter() {
		return nil, ErrClosed
	}
	defer s.leave()
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	return value, err
}
