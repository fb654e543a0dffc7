package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// space guards against the full disk, which would kill a process that writes through a mapping with SIGBUS: long before,
// Put is refused.
type space struct {
	low     atomic.Bool
	free    atomic.Uint64 // bytes, as last looked
	minFree uint64
	ballast string // path of the file that can be given up, "" = none
}

const (
	spaceEvery = time.Second
	// Space counts as enough again only some way above the threshold, so that intake does not flap.
	spaceMargin = 16 << 20
)

// openSpace finds the threshold and lays out the ballast.
func (s *Store) openSpace() error {
	free, total, err := diskSpace(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("look at free space: %w", err)
	}
	s.space.minFree = s.cfg.MinFree
	if s.space.minFree == 0 {
		s.space.minFree = max(total/20, 3*valueLogSize)
	}
	if s.cfg.Ballast > 0 {
		s.space.ballast = filepath.Join(s.cfg.Dir, "ballast")
	}
	s.lookAtSpace(free)
	return nil
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
	sp.free.Store(free)
	margin := min(spaceMargin, sp.minFree/8)
	switch low := sp.low.Load(); {
	case !low && free < sp.minFree:
		sp.low.Store(true)
		s.log.Error("disk is nearly full: no mail is accepted", "free", free, "threshold", sp.minFree)
	case low && free >= sp.minFree+margin:
		sp.low.Store(false)
		s.log.Info("disk has room again: mail is accepted", "free", free)
	}
	if sp.ballast == "" {
		return
	}
	size := uint64(s.cfg.Ballast)
	switch _, err := os.Stat(sp.ballast); {
	case err == nil && free < sp.minFree/2:
		if err := os.Remove(sp.ballast); err == nil {
			s.log.Warn("ballast given up to settle what is under way", "bytes", size)
		}
	case errors.Is(err, fs.ErrNotExist) && free >= sp.minFree+margin+size:
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

// Usage looks at the directory, so it is for once a second rather than for every message.
func (s *Store) Usage() Usage {
	u := Usage{Free: s.space.free.Load(), Full: s.space.low.Load(), Damaged: s.damaged.Load() + s.events.Damaged(),
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
