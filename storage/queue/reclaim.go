package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	collectEvery   = 5 * time.Second
	collectAtMost  = 4   // value-log files rewritten in a row
	collectGarbage = 0.5 // share of a file that must be dead

	// Reclaiming ends every memtable early and rewrites all tables, so it is for the disk that is short only, and is
	// repeated ever later while it gains nothing.
	reclaimFirst  = 5 * time.Second
	reclaimLast   = 10 * time.Minute
	reclaimMargin = 3 * memTableSize // bytes it takes besides the tables
	flushPatience = 20 * time.Second
	flushPoll     = 20 * time.Millisecond

	// Keys that differ in their end only fill a log and hardly a table.
	tombstoneSize  = 1 << 10 // bytes of a key
	tombstoneBatch = 768     // keys of a commit
)

// collect frees value-log files that are mostly dead. What is dead Badger learns from compactions, so this costs
// nothing while there is nothing to gain. Where the disk is short, mail is refused, and with it goes what makes Badger
// compact: then it is made to.
func (s *Store) collect() {
	defer s.tasks.Done()
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	last, wait, next := clock.Wall(), reclaimFirst, clock.Wall()
	for {
		select {
		case <-s.closing:
			return
		case <-tick.C:
		}
		low := s.space.low.Load()
		if !low {
			wait, next = reclaimFirst, clock.Wall()
			if clock.Since(last) < collectEvery {
				continue
			}
		}
		last = clock.Wall()
		if s.collectLogs() > 0 || !low || last.Before(next) || !s.worthReclaiming() {
			continue
		}
		n, err := s.reclaim()
		if err != nil {
			s.log.Warn("reclaim disk space", "err", err)
		}
		if n > 0 {
			s.log.Info("disk space reclaimed", "value_logs", n)
			wait = reclaimFirst
		}
		next, wait = clock.Wall().Add(wait), min(2*wait, reclaimLast)
	}
}

// collectLogs rewrites value-log files that Badger knows to be mostly dead, and returns how many.
func (s *Store) collectLogs() int {
	for n := range collectAtMost {
		if s.space.free.Load() < s.space.least.Load() {
			return n
		}
		s.collecting.Store(true)
		err := s.db.RunValueLogGC(collectGarbage)
		s.collecting.Store(false)
		if err != nil {
			if !errors.Is(err, badger.ErrNoRewrite) && !errors.Is(err, badger.ErrRejected) {
				s.log.Warn("value log collection", "err", err)
			}
			return n
		}
	}
	return collectAtMost
}

// worthReclaiming tells whether value logs that are no longer written hold much more than what waits, and whether there
// is room for writing every table anew.
func (s *Store) worthReclaiming() bool {
	newest := s.newestLog(valueSuffix)
	var logs, tables int64
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil:
		case strings.HasSuffix(e.Name(), valueSuffix) && e.Name() != newest:
			logs += allocated(info)
		case strings.HasSuffix(e.Name(), ".sst"):
			tables += allocated(info)
		}
	}
	s.index.mu.Lock()
	live := max(s.index.live, 0)
	s.index.mu.Unlock()
	return logs-live >= max(valueLogSize/4, logs/4) &&
		s.space.free.Load() >= uint64(tables)+reclaimMargin+s.space.least.Load()
}

// reclaim makes Badger find out what is dead, by ordinary writes and compactions only: the memtable, where the latest
// deletions lie, is filled up and so becomes a table; merging all tables drops what was deleted and tells which value
// logs held it. It returns how many of those were freed.
func (s *Store) reclaim() (int, error) {
	// Level 0 is merged on demand where there is a level below, so a young store has to fill level 0 first.
	for n := 0; n == 0 || n <= levelZeroTables && s.shallow(); n++ {
		if err := s.rotate(); err != nil {
			return 0, err
		}
	}
	if err := s.db.Flatten(1); err != nil {
		return 0, fmt.Errorf("merge tables: %w", err)
	}
	total := 0
	for n := collectAtMost; n == collectAtMost; total += n {
		n = s.collectLogs()
	}
	return total, nil
}

// shallow tells whether all tables are in level 0.
func (s *Store) shallow() bool {
	for _, l := range s.db.Levels() {
		if l.Level > 0 && l.NumTables > 0 {
			return false
		}
	}
	return true
}

// rotate ends the memtable by deleting long keys that are not there, and waits until it has become a table.
func (s *Store) rotate() error {
	before := s.newestLog(memSuffix)
	keys := make([][]byte, tombstoneBatch)
	for i := range keys {
		keys[i] = make([]byte, tombstoneSize)
		keys[i][0] = kindProbe
		binary.BigEndian.PutUint16(keys[i][tombstoneSize-2:], uint16(i))
	}
	for written := 0; s.newestLog(memSuffix) == before; written += tombstoneBatch * tombstoneSize {
		if written > 2*memTableSize {
			return fmt.Errorf("end memtable: %s stays", before)
		}
		if err := s.remove(context.Background(), keys); err != nil {
			return fmt.Errorf("end memtable: %w", err)
		}
	}
	begun := clock.Wall()
	tick := time.NewTicker(flushPoll)
	defer tick.Stop()
	for s.exists(before) {
		if clock.Since(begun) > flushPatience {
			return fmt.Errorf("end memtable: %s is not flushed", before)
		}
		select {
		case <-tick.C:
		case <-s.closing:
			return ErrClosed
		}
	}
	return nil
}

func (s *Store) exists(name string) bool {
	_, err := os.Stat(filepath.Join(s.cfg.Dir, name))
	return err == nil
}
