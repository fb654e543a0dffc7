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

// turn lets one at a time fold events, or count all of them anew.
type turn chan struct{}

func (t turn) acquire(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) release() { <-t }

// statisticsDays is how long the statistics of a day are kept. They name no recipients.
const statisticsDays = 400

// folds tells which events are folded: those in blocks filed before a day, of some tenants before a later one.
type folds struct {
	before  uint16
	tenants map[string]*fold
}

// fold is how far a tenant's events are folded, and taken out of the log.
type fold struct{ before, thinned uint16 }

// has tells whether an event is folded; at is the position of its block.
func (f *folds) has(at events.Cursor, e *mail.Event) bool {
	if at.Day < f.before {
		return true
	}
	t := f.tenants[e.Tenant]
	return t != nil && at.Day < t.before
}

const foldVersion = 1

// folded returns the counters of what is folded, and what that is. Where the record cannot be read, nothing is: what was
// counted of events long gone is lost to a rebuild.
func (s *Store) folded() (*stats.Table, *folds) {
	t, f := s.newStats(kindFolded), &folds{tenants: map[string]*fold{}}
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
		if err = f.read(&r); err == nil {
			err = t.Restore([]byte(r.Bytes(uint64(r.Left()))))
		}
	}
	if err != nil {
		s.damaged.Add(1)
		s.log.Error("counters of events that are gone are damaged: a rebuild does without them", "err", err)
		return s.newStats(kindFolded), &folds{tenants: map[string]*fold{}}
	}
	return t, f
}

func (f *folds) read(r *record.Reader) error {
	if r.Byte() != foldVersion {
		r.Fail()
	}
	f.before = uint16(r.UintMax(1<<16 - 1))
	for left := r.Uint(); left > 0 && r.Err() == nil; left-- {
		f.tenants[r.String()] = &fold{uint16(r.UintMax(1<<16 - 1)), uint16(r.UintMax(1<<16 - 1))}
	}
	return r.Err()
}

func (f *folds) append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, foldVersion), uint64(f.before))
	dst = binary.AppendUvarint(dst, uint64(len(f.tenants)))
	for tenant, t := range f.tenants {
		dst = record.AppendString(dst, tenant)
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(t.before)), uint64(t.thinned))
	}
	return dst
}

// keepFolds makes what is folded durable.
func (s *Store) keepFolds(t *stats.Table, f *folds) error {
	return s.submitAndWait(context.Background(), func(r *request) {
		r.set([]byte{kindFolded}, s.ring.Seal(nil, t.Snapshot(f.append(nil)), s.homeIdentity(kindFolded, [16]byte{})))
		_ = t.Days(func(d statistics.Date, raw []byte) error { // fails where this does
			r.set(s.day(kindFolded, d, raw))
			return nil
		})
	})
}

// fold counts apart what the log holds of the days before day, and of tenants before theirs, and makes that durable.
func (s *Store) fold(ctx context.Context, day uint16, tenants map[string]uint16) (*stats.Table, *folds, error) {
	t, was := s.folded()
	is := &folds{before: max(was.before, day), tenants: map[string]*fold{}}
	first, changed := was.before, is.before > was.before
	last := is.before
	for tenant, before := range tenants {
		f := was.tenants[tenant]
		if f == nil {
			f = &fold{was.before, was.before}
		}
		is.tenants[tenant] = &fold{max(f.before, before), f.thinned}
		changed = changed || before > f.before
		last = max(last, before)
	}
	for tenant, f := range was.tenants { // also where a tenant is no more, or keeps its events longer now
		if is.tenants[tenant] == nil && f.before > is.before {
			is.tenants[tenant] = f
		}
	}
	if !changed {
		return t, is, nil
	}
	err := s.events.Search(ctx, events.Query{After: events.Cursor{Day: first}}, func(e mail.Event, at events.Cursor) bool {
		if at.Day >= last {
			return false
		}
		if is.has(at, &e) && !was.has(at, &e) {
			t.Add(&e)
		}
		return true
	})
	if err != nil {
		return nil, nil, err
	}
	return t, is, s.keepFolds(t, is)
}

// Retention says how long the event log is kept.
type Retention struct {
	Before  time.Time            // whatever is filed before the day that this lies in goes
	Tenants map[string]time.Time // of these tenants more goes: what is filed before the day of that moment
}

func dayOf(t time.Time) uint16 { return uint16(min(max(t.Unix()/86400, 0), 1<<16-1)) }

// Purge deletes what the event log is to keep no longer, statistics past their time, and idempotency keys past their day,
// in bounded commits, after a rebuild of the counters that is under way. It ends early with ctx.
func (s *Store) Purge(ctx context.Context, keep Retention) error {
	if err := s.folding.acquire(ctx); err != nil {
		return err
	}
	defer s.folding.release()
	day, tenants := dayOf(keep.Before), map[string]uint16{}
	for tenant, t := range keep.Tenants {
		if d := dayOf(t); d > day {
			tenants[tenant] = d
		}
	}
	keys, err := s.events.Expired(day, purgeBatch)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		day = 0 // nothing is left of the days before
	}
	t, f, err := s.fold(ctx, day, tenants)
	if err != nil {
		return err
	}
	for len(keys) > 0 {
		if err := s.remove(ctx, keys); err != nil {
			return err
		}
		if keys, err = s.events.Expired(day, purgeBatch); err != nil {
			return err
		}
	}
	s.events.Forgot(dayOf(keep.Before))
	if err := s.thin(ctx, t, f); err != nil {
		return err
	}
	if err := s.purgeDays(ctx); err != nil {
		return err
	}
	return s.purgeKeys(ctx)
}

// thin takes the events out of the log that are folded for their tenants.
func (s *Store) thin(ctx context.Context, t *stats.Table, f *folds) error {
	from, before := uint16(1<<16-1), uint16(0)
	for _, of := range f.tenants {
		if of.thinned < of.before {
			from, before = min(from, max(of.thinned, f.before)), max(before, of.before)
		}
	}
	if from >= before {
		return nil
	}
	thinner, err := s.events.Thin(from, before, func(day uint16, tenant string) bool {
		of := f.tenants[tenant]
		return of != nil && day < of.before
	})
	if err != nil {
		return err
	}
	for more := true; more; {
		var recs []events.Record
		if recs, more, err = thinner.Next(ctx, purgeBatch); err != nil {
			return err
		}
		if len(recs) == 0 {
			continue
		}
		if err := s.replace(ctx, recs); err != nil {
			return err
		}
	}
	for _, of := range f.tenants {
		of.thinned = of.before
	}
	return s.keepFolds(t, f)
}

// replace writes records in one commit and waits for it.
func (s *Store) replace(ctx context.Context, recs []events.Record) error {
	return s.submitAndWait(ctx, func(r *request) {
		r.logs = true
		for _, rec := range recs {
			r.set(rec.Key, rec.Value)
		}
	})
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
