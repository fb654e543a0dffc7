package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// space guards against the full disk, which would kill a process that writes through a mapping with SIGBUS: long before,
// Put is refused. The logs that are written have their blocks beforehand; what is left to guard are new tables.
type space struct {
	low     atomic.Bool
	free    atomic.Uint64 // bytes, as last looked
	minFree atomic.Uint64 // free bytes below which Put is refused
	least   atomic.Uint64 // free bytes below which nothing is committed

	mu      sync.Mutex // held while low is decided
	ballast string     // path of the file that can be given up, "" = none
}

const (
	spaceEvery = time.Second
	// Space counts as enough again only some way above the threshold, so that intake does not flap.
	spaceMargin = 16 << 20
	// A memtable's table and the next memtable's log: what a settlement may make Badger write into new files. Below
	// that the committer waits for room, however long.
	leastFree = 32 << 20
	roomEvery = 100 * time.Millisecond
	// plenty is more than a disk takes between two looks.
	plenty = 8 << 30
)

// Bytes of Badger's logs that can be written: a log is closed by the first batch that reaches its nominal size.
func logRoom(name string) int64 {
	if strings.HasSuffix(name, memSuffix) {
		return memTableSize + 2*maxBatchBytes
	}
	return valueLogSize + logSlack
}

const (
	memSuffix   = ".mem"
	valueSuffix = ".vlog"
	logSlack    = 4 * maxBatchBytes // a larger message is given room of its own
)

// openSpace finds the threshold and lays out the ballast.
func (s *Store) openSpace() error {
	_, total, err := diskSpace(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("look at free space: %w", err)
	}
	least := s.cfg.MinFree
	if least == 0 {
		least = max(total/20, 3*valueLogSize)
	}
	if s.cfg.Ballast > 0 {
		s.space.ballast = filepath.Join(s.cfg.Dir, "ballast")
	}
	s.threshold(least)
	s.reserveLogs()
	free, _, err := diskSpace(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("look at free space: %w", err)
	}
	s.lookAtSpace(free)
	return nil
}

// threshold sets the free bytes below which Put is refused.
func (s *Store) threshold(free uint64) {
	s.space.minFree.Store(free)
	s.space.least.Store(min(leastFree, free/4))
}

// reserveLogs reserves the logs that are being written.
func (s *Store) reserveLogs() {
	for _, suffix := range []string{memSuffix, valueSuffix} {
		if err := s.reserveLog(s.newestLog(suffix), 0); err != nil {
			s.log.Warn("no room for all of a log", "err", err)
		}
	}
}

// newestLog returns the name of the log with the highest number.
func (s *Store) newestLog(suffix string) string {
	newest := ""
	entries, _ := os.ReadDir(s.cfg.Dir)
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, suffix) && (len(name) > len(newest) || len(name) == len(newest) && name > newest) {
			newest = name
		}
	}
	return newest
}

// room looks whether a commit may be written now. It gives up the ballast for that. Where the last look found plenty, that of
// watchSpace at most a second ago, nothing is asked: on ext4 the question costs a commit 20 us.
func (s *Store) room() bool {
	sp := &s.space
	if sp.free.Load() >= sp.minFree.Load()+plenty {
		return true
	}
	free, _, err := diskSpace(s.cfg.Dir)
	if err != nil || free >= sp.minFree.Load() || sp.low.Load() && free >= 2*sp.least.Load() {
		return true
	}
	s.lookAtSpace(free)
	if free < sp.least.Load() {
		free, _, err = diskSpace(s.cfg.Dir)
	}
	return err != nil || free >= sp.least.Load()
}

// awaitRoom holds settlements back until they can be written, and refuses everything that brings mail. It returns what
// is left of the batch.
func (s *Store) awaitRoom(batch []*request) []*request {
	if len(batch) == 1 && batch[0].size > logSlack/2 {
		if err := s.reserveLog(s.newestLog(valueSuffix), int64(batch[0].size)); err != nil {
			s.log.Warn("no room for a large message", "bytes", batch[0].size, "err", err)
			s.finish(batch, ErrDiskFull)
			return batch[:0]
		}
	}
	if s.room() {
		return batch
	}
	s.log.Error("disk is full: nothing is written until there is room")
	kept := batch[:0]
	for _, r := range batch {
		if r.puts {
			s.finish([]*request{r}, ErrDiskFull)
		} else {
			kept = append(kept, r)
		}
	}
	clear(batch[len(kept):])
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for len(kept) > 0 && !s.room() {
		select {
		case <-tick.C:
		case <-s.closing:
			s.finish(kept, ErrDiskFull)
			return kept[:0]
		}
	}
	return kept
}

func (s *Store) watchSpace() {
	defer s.tasks.Done()
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-tick.C:
			if free, _, err := diskSpace(s.cfg.Dir); err == nil {
				s.lookAtSpace(free)
			}
		}
	}
}

// lookAtSpace decides by the free bytes whether Put is open, and keeps or gives up the ballast.
func (s *Store) lookAtSpace(free uint64) {
	sp := &s.space
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.free.Store(free)
	minFree := sp.minFree.Load()
	margin := min(spaceMargin, minFree/8)
	switch low := sp.low.Load(); {
	case !low && free < minFree:
		sp.low.Store(true)
		s.log.Error("disk is nearly full: no mail is accepted", "free", free, "threshold", minFree)
	case low && free >= minFree+margin:
		sp.low.Store(false)
		s.reserveLogs()
		s.log.Info("disk has room again: mail is accepted", "free", free)
	}
	if sp.ballast == "" {
		return
	}
	size := uint64(s.cfg.Ballast)
	switch _, err := os.Stat(sp.ballast); {
	case err == nil && free < minFree/2:
		if err := os.Remove(sp.ballast); err == nil {
			s.log.Warn("ballast given up to settle what is under way", "bytes", size)
		}
	case errors.Is(err, fs.ErrNotExist) && free >= minFree+margin+size:
		if err := reserve(sp.ballast, s.cfg.Ballast); err != nil {
			s.log.Warn("no ballast", "err", err)
			_ = os.Remove(sp.ballast)
		}
	}
}

// Usage is what the store takes and what it found.
type Usage struct {
	Waiting     int
	Disk        int64  // bytes on disk, the ballast not counted
	Live        int64  // bytes of waiting deliveries and their bodies, estimated
	Free        uint64 // bytes free on the file system
	Full        bool   // Put is refused
	Damaged     uint64 // records and event blocks that did not open since the start
	WrittenEach int64  // bytes that one synced record of 1 KB cost in the self-test at start, 0 = not known
}

// Full tells whether Put is refused for want of space. It costs one load.
func (s *Store) Full() bool { return s.space.low.Load() }

// Damaged is how many records and event blocks did not open since the start. It costs two loads.
func (s *Store) Damaged() uint64 { return s.damaged.Load() + s.events.Damaged() }

// Usage looks at the directory, so it is for once a second rather than for every message.
func (s *Store) Usage() Usage {
	u := Usage{Free: s.space.free.Load(), Full: s.Full(), Damaged: s.Damaged(),
		WrittenEach: s.written}
	s.index.mu.Lock()
	u.Waiting, u.Live = s.index.waiting, max(s.index.live, 0)
	s.index.mu.Unlock()
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return u
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.Name() != "ballast" {
			u.Disk += allocated(info)
		}
	}
	return u
}
