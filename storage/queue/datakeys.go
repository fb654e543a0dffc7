package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// A data key whose wrapped form is deleted shreds what it sealed, on the disk and in whatever was copied of it. It may go
// when no record needs it. Which records those are is read from the records, but for the event log, which is too long to be
// read: a small mark tells which keys sealed something that is filed under a day, from the commit that first did until the
// log has nothing of that day any more.

// keyUse is such a mark. Day 0 is the mark that a key has marks at all: keys of versions that made none have none.
type keyUse struct {
	day uint16
	id  uint32
}

func (u keyUse) key() []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16([]byte{kindUse}, u.day), u.id)
}

func parseUse(key []byte) (u keyUse, ok bool) {
	if len(key) != 1+2+4 || key[0] != kindUse {
		return u, false
	}
	return keyUse{binary.BigEndian.Uint16(key[1:]), binary.BigEndian.Uint32(key[3:])}, true
}

const (
	firstSweep = time.Hour // after a start
	sweepEvery = 24 * time.Hour
	sweepWait  = 20 * time.Minute // for one sweep; a later one begins anew
)

// loadUses reads the marks. Keys of a version that made none are marked as used on the newest day of the log.
func (s *Store) loadUses() error {
	s.c.uses = map[keyUse]struct{}{}
	err := s.each(context.Background(), kindUse, func(key, _ []byte) error {
		if u, ok := parseUse(key); ok {
			s.c.uses[u] = struct{}{}
		}
		return nil
	})
	var ids []uint32
	if err == nil {
		ids, err = s.dataKeys()
	}
	ids = slices.DeleteFunc(ids, func(id uint32) bool { _, marked := s.c.uses[keyUse{id: id}]; return marked })
	if err != nil || len(ids) == 0 {
		return err
	}
	day := s.events.End().Day
	for _, of := range []uint16{day, 0} { // 0 last: it tells that the other is there
		batch := s.db.NewWriteBatch()
		for _, id := range ids {
			u := keyUse{of, id}
			s.c.uses[u] = struct{}{}
			if err := batch.Set(u.key(), nil); err != nil {
				batch.Cancel()
				return fmt.Errorf("mark data keys: %w", err)
			}
		}
		if err := batch.Flush(); err != nil {
			return fmt.Errorf("mark data keys: %w", err)
		}
	}
	return nil
}

// dataKeys lists the data keys on disk.
func (s *Store) dataKeys() (ids []uint32, err error) {
	err = s.each(context.Background(), kindDataKey, func(key, _ []byte) error {
		if len(key) == 5 {
			ids = append(ids, binary.BigEndian.Uint32(key[1:]))
		}
		return nil
	})
	return ids, err
}

// noteUse marks, in the commit of a record of the event log, the data key that sealed it.
func (s *Store) noteUse(txn *badger.Txn, key, value []byte) error {
	day, ok := events.DayOf(key)
	if !ok {
		return nil
	}
	return s.use(txn, keyUse{day, seal.KeyID(value)})
}

func (s *Store) use(txn *badger.Txn, u keyUse) error {
	if _, known := s.c.uses[u]; known || slices.Contains(s.c.newUses, u) {
		return nil
	}
	s.c.newUses = append(s.c.newUses, u)
	return txn.Set(u.key(), nil)
}

// sweep deletes data keys that nothing needs, once a day.
func (s *Store) sweep() {
	defer s.tasks.Done()
	wait := time.NewTimer(firstSweep)
	defer wait.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-wait.C:
		}
		wait.Reset(sweepEvery)
		ctx, cancel := context.WithTimeout(context.Background(), sweepWait)
		gone, err := s.PurgeDataKeys(ctx)
		cancel()
		switch {
		case err != nil && s.Err() == nil && !errors.Is(err, ErrClosed):
			s.log.Warn("data keys that nothing needs were not deleted", "err", err)
		case gone > 0:
			s.log.Info("data keys deleted that nothing needs any more", "keys", gone)
		}
	}
}

// PurgeDataKeys deletes the wrapped data keys that no record needs, here and at the standbys, and tells how many. The store
// does so by itself once a day. It looks at each record of the queue, but reads of most no more than the page that begins
// it, and of the event log only the marks. In memory a key stays until the next call, for whoever read a record just
// before it was deleted.
func (s *Store) PurgeDataKeys(ctx context.Context) (gone int, err error) {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	for _, id := range s.swept {
		s.ring.Forget(id)
	}
	s.swept = nil
	if err := s.purgeUses(ctx); err != nil {
		return 0, fmt.Errorf("purge marks of data keys: %w", err)
	}
	idle, err := s.idleKeys()
	if err == nil {
		err = s.spare(ctx, idle)
	}
	if err != nil {
		return 0, fmt.Errorf("look for data keys that nothing needs: %w", err)
	}
	for batch := range slices.Chunk(slices.Collect(maps.Keys(idle)), purgeBatch) {
		err := s.submitAndWait(ctx, func(r *request) {
			for _, id := range batch {
				r.del(dataKeyKey(id))
				r.del(keyUse{id: id}.key())
			}
			r.alone = func() {
				for _, id := range batch {
					delete(s.c.uses, keyUse{id: id})
				}
			}
		})
		if err != nil {
			return gone, fmt.Errorf("purge data keys: %w", err)
		}
		gone += len(batch)
		s.swept = append(s.swept, batch...)
	}
	return gone, nil
}

func dataKeyKey(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{kindDataKey}, id) }

// purgeUses deletes the marks of days of which the log has nothing any more. Nothing is filed under one of them again.
func (s *Store) purgeUses(ctx context.Context) error {
	first, _, err := s.events.Days()
	if err != nil {
		return err
	}
	var over []keyUse
	err = s.each(ctx, kindUse, func(key, _ []byte) error {
		if u, ok := parseUse(key); ok && u.day > 0 && u.day < first {
			over = append(over, u)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(over, purgeBatch) {
		err := s.submitAndWait(ctx, func(r *request) {
			for _, u := range batch {
				r.del(u.key())
			}
			r.alone = func() {
				for _, u := range batch {
					delete(s.c.uses, u)
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// idleKeys are the data keys that have marks, none of them of a day, and that seal nothing any more.
func (s *Store) idleKeys() (map[uint32]struct{}, error) {
	marked, used, idle := map[uint32]bool{}, map[uint32]bool{}, map[uint32]struct{}{}
	err := s.each(context.Background(), kindUse, func(key, _ []byte) error {
		if u, ok := parseUse(key); ok {
			marked[u.id] = true
			used[u.id] = used[u.id] || u.day > 0
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ids, err := s.dataKeys()
	for _, id := range ids {
		if marked[id] && !used[id] && s.ring.Spent(id) {
			idle[id] = struct{}{}
		}
	}
	return idle, err
}

// sparePiece is how many records are looked at within one transaction.
const sparePiece = 10 * pieceRecords

// spare takes the keys out of idle that some record outside of the event log needs. What it meets may be gone a moment
// later, but nothing comes to need a key that seals nothing.
func (s *Store) spare(ctx context.Context, idle map[uint32]struct{}) (err error) {
	from := []byte{0}
	for from != nil && len(idle) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		select {
		case <-s.closing:
			return ErrClosed
		default:
		}
		if from, err = s.spareFrom(from, idle); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) spareFrom(from []byte, idle map[uint32]struct{}) (next []byte, err error) {
	if !s.enter() {
		return nil, ErrClosed
	}
	defer s.leave()
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		it.Seek(from)
		for seen := 0; it.Valid() && len(idle) > 0; seen++ {
			item := it.Item()
			kind := item.Key()[0]
			_, filed := events.DayOf(item.Key())
			if filed || kind == kindDataKey || kind == kindUse || kind == kindExposed || kind == kindAdopted {
				it.Seek([]byte{kind + 1})
				continue
			}
			if seen >= sparePiece {
				next = item.KeyCopy(nil)
				return nil
			}
			if err := item.Value(func(v []byte) error {
				delete(idle, seal.KeyID(v))
				return nil
			}); err != nil {
				return err
			}
			it.Next()
		}
		return nil
	})
	return next, err
}
