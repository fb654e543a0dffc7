package queue

import (
	"context"
	"time"
)

const gatherEvery = 30 * time.Second

// gather makes segments of the event log's index, as the log grows.
func (s *Store) gather() {
	defer s.tasks.Done()
	tick := time.NewTicker(gatherEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-tick.C:
		}
		for more := s.space.free.Load() >= s.space.least.Load(); more; {
			var err error
			if more, err = s.GatherIndex(context.Background()); err != nil && s.Err() == nil {
				s.log.Warn("event index not gathered", "err", err)
			}
		}
	}
}

// GatherIndex makes one segment of the event log's index where enough of it lies ungathered, and tells whether it did.
// The store does so by itself every 30 s.
func (s *Store) GatherIndex(ctx context.Context) (bool, error) {
	recs, use, err := s.events.Gather()
	if err != nil || len(recs) == 0 {
		return false, err
	}
	if err := s.replace(ctx, recs); err != nil {
		return false, err
	}
	use()
	return true, nil
}
