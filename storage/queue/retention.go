package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/record"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

// statisticsDays is how long the statistics of a day are kept. They name no recipients.
const statisticsDays = 400

// folds tells of which days of the log the events are folded.
type folds struct {
	before uint16 // every event in blocks filed before this day
}

// has tells whether an event, with the position in or behind its block, is folded.
func (f *folds) has(at events.Cursor, _ *mail.Event) bool { return at.Day < f.before }

const foldVersion = 1

// folded returns the counters of what is folded, and what that is. Where the record cannot be read, nothing is: what was
// counted of events long gone is lost to a rebuild.
func (s *Store) folded() (*stats.Table, *folds) {
	t, f := s.newStats(kindFolded), &folds{}
	var raw []byte
	if !s.enter() {
		return t, f
	}
	defer s.leave()
	err := s.db.View(func(txn *badger.Txn) (err error) {
		raw, err = s.small(txn, []byte{kindFolded}, s.homeIdentity(kindFolded, [16]byte{}))
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return t, f
	}
	if err == nil {
		r := record.NewReader(string(raw))
		if r.Byte() != foldVersion {
			r.Fail()
		}
		f.before = uint16(r.UintMax(1<<16 - 1))
		rest := r.Bytes(uint64(r.Left()))
		if err = r.Err(); err == nil {
			err = t.Restore([]byte(rest))
		}
	}
	if err != nil {
		s.damaged.Add(1)
		s.log.Error("counters of events that are gone are damaged: a rebuild does without them", "err", err)
		return s.newStats(kindFolded), &folds{}
	}
	return t, f
}

// fold counts apart what the log holds of the days before day, and makes that durable.
func (s *Store) fold(ctx context.Context, day uint16) error {
	t, f := s.folded()
	if f.before >= day {
		return nil
	}
	err := s.events.Search(ctx, events.Query{After: events.Cursor{Day: f.before}}, func(e mail.Event, at events.Cursor) bool {
		if at.Day >= day {
			return false
		}
		if !f.has(at, &e) {
			t.Add(&e)
		}
		return true
	})
	if err != nil {
		return err
	}
	plain := binary.AppendUvarint([]byte{foldVersion}, uint64(day))
	plain = t.Snapshot(plain)
	done := make(chan error, 1)
	r := s.newRequest(func(err error) { done <- err })
	r.set([]byte{kindFolded}, s.ring.Seal(nil, plain, s.homeIdentity(kindFolded, [16]byte{})))
	err = t.Days(func(d statistics.Date, raw []byte) error {
		r.set(s.day(kindFolded, d, raw))
		return nil
	})
	if err != nil {
		return err
	}
	s.submit(r)
	return <-done
}

// Purge deletes the event log of the days before the one t lies in, statistics past their time, and idempotency keys past
// their day, in bounded commits. It ends early with ctx.
func (s *Store) Purge(ctx context.Context, t time.Time) error {
	day := uint16(max(t.Unix()/86400, 0))
	for folded := false; ; folded = true {
		keys, err := s.events.Expired(day, purgeBatch)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			break
		}
		if !folded {
			if err := s.fold(ctx, day); err != nil {
				return err
			}
		}
		if err := s.remove(ctx, keys); err != nil {
			return err
		}
	}
	s.events.Forgot(day)
	if err := s.purgeDays(ctx); err != nil {
		return err
	}
	return s.purgeKeys(ctx)
}

// purgeDays deletes the statistics of days long past.
func (s *Store) purgeDays(ctx context.Context) error {
	oldest := statistics.DateOf(s.cfg.Clock.Now()) - statisticsDays
	for _, kind := range []byte{kindDay, kindFolded} {
		dates, err := s.dates(kind)
		if err != nil {
			return err
		}
		var keys [][]byte
		for _, d := range dates {
			if d < oldest && len(keys) < purgeBatch {
				keys = append(keys, dayKey(kind, d))
			}
		}
		if len(keys) > 0 {
			if err := s.remove(ctx, keys); err != nil {
				return err
			}
		}
	}
	return nil
}
