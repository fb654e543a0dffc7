package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/record"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

// Counters and statistics are derived from the event log, and can be rebuilt from it at any time. What retention takes
// from the log is folded first: counted once more, apart, so that the folded and what the log still has are everything.

// newStats returns an empty table whose days are records of a kind.
func (s *Store) newStats(kind byte) *stats.Table {
	return stats.New(stats.Config{MaxNames: s.cfg.MaxNames, Carrier: s.cfg.Carrier,
		Load: func(d statistics.Date) ([]byte, error) { return s.loadDay(kind, d) }})
}

func dayKey(kind byte, d statistics.Date) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, uint32(d))
}

func (s *Store) dayIdentity(kind byte, d statistics.Date) []byte {
	var name [16]byte
	name[0] = 1 // the counters have the name of zeros
	binary.BigEndian.PutUint32(name[1:], uint32(d))
	return s.homeIdentity(kind, name)
}

// day returns the record of a day.
func (s *Store) day(kind byte, d statistics.Date, raw []byte) (key, value []byte) {
	return dayKey(kind, d), s.ring.Seal(nil, raw, s.dayIdentity(kind, d))
}

func (s *Store) loadDay(kind byte, d statistics.Date) (raw []byte, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		raw, err = s.small(txn, dayKey(kind, d), s.dayIdentity(kind, d))
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		s.damaged.Add(1)
		s.log.Error("statistics of a day cannot be read: rebuild them", "day", d.String(), "err", err)
	}
	return raw, err
}

// loadEvents opens the event log and brings the counters up to its end.
func (s *Store) loadEvents() error {
	var from events.Cursor
	var sequences *record.Reader
	anew := false
	err := s.db.View(func(txn *badger.Txn) error {
		raw, err := s.small(txn, []byte{kindSnapshot}, s.homeIdentity(kindSnapshot, [16]byte{}))
		if errors.Is(err, badger.ErrKeyNotFound) {
			anew = true
			return nil
		}
		if err == nil && len(raw) > 10 {
			from = events.Cursor{Day: binary.BigEndian.Uint16(raw), Block: binary.BigEndian.Uint64(raw[2:])}
			sequences, err = s.restoreSnapshot(string(raw[10:]))
		}
		if anew = err != nil; anew { // they are derived: count again
			s.damaged.Add(1)
			s.log.Error("counters damaged: rebuilt from the event log", "err", err)
			from, sequences = events.Cursor{}, nil
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.events, err = events.Open(s.db, s.ring, s.home, from.Block, s.log); err != nil {
		return err
	}
	if sequences != nil {
		if err := s.events.RestoreSequences(sequences); err != nil {
			return err
		}
	}
	s.c.snapped = clock.Wall()
	if anew {
		return s.countAnew()
	}
	if from.Block > 0 {
		from = from.Next()
	}
	return s.events.Replay(from, func(_ events.Cursor, e *mail.Event) { s.stats.Add(e) })
}

// countAnew is a rebuild before anybody works with the store.
func (s *Store) countAnew() error {
	fresh, folds := s.folded()
	err := s.events.Replay(events.Cursor{}, func(at events.Cursor, e *mail.Event) {
		if !folds.has(at, e) {
			fresh.Add(e)
		}
	})
	s.stats.Take(fresh)
	return err
}

// restoreSnapshot reads the counters, and leaves the tenants' sequences for the log.
func (s *Store) restoreSnapshot(raw string) (sequences *record.Reader, err error) {
	r := record.NewReader(raw)
	own := record.NewReader(r.String())
	if err := r.Err(); err != nil {
		return nil, err
	}
	return &own, s.stats.Restore([]byte(r.Bytes(uint64(r.Left()))))
}

// sealSnapshot seals the counters as they stand after the newest block committed.
func (s *Store) sealSnapshot() []byte {
	end := s.events.End()
	plain := binary.BigEndian.AppendUint16(s.c.scratch[:0], end.Day)
	plain = binary.BigEndian.AppendUint64(plain, end.Block)
	sequences := s.events.AppendSequences(nil)
	plain = append(binary.AppendUvarint(plain, uint64(len(sequences))), sequences...)
	plain = s.stats.Snapshot(plain)
	s.c.scratch = plain
	return s.ring.Seal(nil, plain, s.homeIdentity(kindSnapshot, [16]byte{}))
}

// Day returns the statistics of a day.
func (s *Store) Day(d statistics.Date) (stats.Day, error) {
	if !s.enter() {
		return stats.Day{}, ErrClosed
	}
	defer s.leave()
	return s.stats.Day(d), nil
}

// Rebuilt is what a rebuild of the counters found.
type Rebuilt struct {
	Events uint64 // counted anew; those that retention took count as they were folded
	Same   bool   // the counters were right
}

// Passes over the log, each over what came during the one before, until one takes no longer than quickPass: what is left
// then is counted while the committer waits.
const (
	maxPasses = 5
	quickPass = 50 * time.Millisecond
)

// Rebuild counts everything anew from the event log, and puts the result in the place of the counters. Mail goes on
// meanwhile; retention waits, since what it takes from the log would be neither there nor in what was folded before.
func (s *Store) Rebuild(ctx context.Context) (Rebuilt, error) {
	var out Rebuilt
	var at events.Cursor
	if err := s.folding.acquire(ctx); err != nil {
		return out, err
	}
	defer s.folding.release()
	s.recounted.Store(0)
	fresh, folds := s.folded()
	pass := func(ctx context.Context) error {
		return s.events.Search(ctx, events.Query{After: at}, func(e mail.Event, next events.Cursor) bool {
			if at = next; !folds.has(next, &e) {
				fresh.Add(&e)
				out.Events++
				s.recounted.Store(out.Events)
			}
			return true
		})
	}
	for range maxPasses {
		begun := clock.Wall()
		if err := pass(ctx); err != nil {
			return out, fmt.Errorf("count events: %w", err)
		}
		if clock.Since(begun) < quickPass {
			break
		}
	}
	dates, err := s.dates(kindDay)
	if err != nil {
		return out, err
	}
	done := make(chan error, 1)
	var last error
	r := s.newRequest(func(err error) { done <- errors.Join(err, last) })
	r.alone = func() {
		if last = pass(context.Background()); last == nil {
			out.Same = stats.Same(s.stats, fresh, dates)
			s.stats.Take(fresh)
		}
	}
	s.submit(r)
	return out, <-done // what was begun ends: the commit is short
}

// Recounted is how many events the rebuild under way, or the last one, has counted.
func (s *Store) Recounted() uint64 { return s.recounted.Load() }

// dates lists the days that have a record.
func (s *Store) dates(kind byte) (out []statistics.Date, err error) {
	if !s.enter() {
		return nil, ErrClosed
	}
	defer s.leave()
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kind}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if k := it.Item().Key(); len(k) == 5 {
				out = append(out, statistics.Date(binary.BigEndian.Uint32(k[1:])))
			}
		}
		return nil
	})
	return out, err
}
