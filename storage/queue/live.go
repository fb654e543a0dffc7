package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
)

// Bounds of one look at the database of a long read, so that it holds no compaction up.
const (
	pieceRecords = 1000
	pieceBytes   = 1 << 20
)

// Live calls f for every record that a standby needs, as it is in the store: wrapped data keys first, bodies last. It
// begins when everything shipped before the call is committed. op is valid until f returns; f may take its time. Live
// ends with the first error of f, or with ctx.
//
// The store goes on meanwhile, and is read piece by piece. So whoever gathers the records notes the frames shipped
// since before the call too, and lets them win: a record from here counts for nothing where such a frame set or deleted
// its key, no matter which of the two came first. Then nothing is missing and nothing comes back: a record that no
// later frame touched was in the store all the time, so it was met.
func (s *Store) Live(ctx context.Context, f func(Op) error) error {
	if err := s.barrier(ctx); err != nil {
		return err
	}
	for _, kind := range []byte{kindDataKey, kindAdopted, kindKey, kindShares, kindDelivery, kindBody} {
		err := s.each(ctx, kind, func(key, value []byte) error { return f(Op{Key: key, Value: value}) })
		if err != nil {
			return err
		}
	}
	return nil
}

// barrier waits until everything handed in before is committed.
func (s *Store) barrier(ctx context.Context) error {
	return s.submitAndWait(ctx, func(*request) {})
}

// Flush waits until everything handed in before is committed and held by as many standbys as the policy asks for. It
// gives ErrShort where they are too few. Without standbys to ship to it only waits for the commit.
func (s *Store) Flush(ctx context.Context) error {
	return s.submitAndWait(ctx, func(r *request) { r.flush = true })
}

// submitAndWait hands in a request that fill makes, and waits until it is committed. What ctx ends waiting for is committed all
// the same.
func (s *Store) submitAndWait(ctx context.Context, fill func(*request)) error {
	done := make(chan error, 1)
	r := s.newRequest(func(err error) { done <- err })
	fill(r)
	s.submit(r)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// each calls f for the records of a kind in the order of their keys, outside of any transaction. key and value are
// valid until f returns. A value that cannot be read is counted as damaged and left out.
func (s *Store) each(ctx context.Context, kind byte, f func(key, value []byte) error) error {
	p := piece{next: []byte{kind}}
	for p.next != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.cut(&p, kind); err != nil {
			return fmt.Errorf("read records: %w", err)
		}
		from := 0
		for i := 0; i < len(p.ends); i += 2 {
			key, value := p.buf[from:p.ends[i]], p.buf[p.ends[i]:p.ends[i+1]]
			from = p.ends[i+1]
			if err := f(key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// piece is some records copied out of the database: key and value by turns.
type piece struct {
	buf  []byte
	ends []int
	next []byte // key to go on with, nil at the end
}

// cut fills p with the records from p.next on.
func (s *Store) cut(p *piece, kind byte) error {
	if !s.enter() {
		return ErrClosed
	}
	defer s.leave()
	from := p.next
	p.buf, p.ends, p.next = p.buf[:0], p.ends[:0], nil
	return s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kind}})
		defer it.Close()
		for it.Seek(from); it.Valid(); it.Next() {
			item := it.Item()
			if len(p.ends) >= 2*pieceRecords || len(p.buf) > 0 && len(p.buf)+int(item.EstimatedSize()) > pieceBytes {
				p.next = item.KeyCopy(nil)
				return nil
			}
			start := len(p.buf)
			p.buf = append(p.buf, item.Key()...)
			end := len(p.buf)
			err := item.Value(func(v []byte) error {
				p.buf = append(p.buf, v...)
				return nil
			})
			if err != nil {
				p.buf = p.buf[:start]
				s.damaged.Add(1)
				s.log.Error("record cannot be read: left out", "kind", string(kind), "err", err)
				continue
			}
			p.ends = append(p.ends, end, len(p.buf))
		}
		return nil
	})
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// ForEachDelivery calls f for every delivery in the store, without its body and in no useful order, until f returns
// false or ctx ends. f may call the store, to settle what it is given too. The store goes on meanwhile: a delivery that
// moves may be given twice, and one that is moved forward to an earlier place not at all, so whoever needs every one
// looks again until nothing is left. Messages whose client has no answer yet are not given.
func (s *Store) ForEachDelivery(ctx context.Context, f func(*mail.Delivery) bool) error {
	err := s.each(ctx, kindDelivery, func(key, sealed []byte) error {
		at, ok := parseSpot(key)
		if !ok || s.hidden(mail.Seq(at.at.seq)) {
			return nil
		}
		d, err := s.delivery(sealed, &at)
		if err != nil {
			s.quarantine(append([]byte(nil), key...), append([]byte(nil), sealed...), &at, err)
			return nil
		}
		if !f(&d) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
