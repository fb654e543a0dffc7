package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// A store notes in each commit which frame brought it to the standbys. So one that was put back from a backup can be told
// from one that crashed: after a crash the standbys know at most one frame more, the one whose commit was under way. In a
// store that comes to rest, the counters' commit ships one more frame, an empty one, within snapshotEvery: then not even a
// backup that lacks only the last change passes for a crash.

// Shipped is the number of the last frame whose commit lies in the store; 0: none does. It grows over all runs.
func (s *Store) Shipped() uint64 { return s.shipped.Load() }

// NumberFrames begins the numbering of a run of shipping. It returns the number of its first frame: wanted, or what comes
// after all that was shipped earlier, which a clock that was set back does not undo. When it returns, that the run began is
// on disk. Frames shipped before it is called are not noted.
func (s *Store) NumberFrames(ctx context.Context, wanted uint64) (first uint64, err error) {
	first = max(wanted, s.Shipped()+2) // one frame more than is noted may have been shipped
	err = s.submitAndWait(ctx, func(r *request) {
		r.set([]byte(keyShipped), binary.BigEndian.AppendUint64(nil, first-1))
		r.alone = func() {
			s.shipped.Store(first - 1)
			s.c.numbered = true
		}
	})
	if err != nil {
		return 0, fmt.Errorf("number frames: %w", err)
	}
	return first, nil
}

// loadShipped reads which frame was shipped last.
func (s *Store) loadShipped(txn *badger.Txn) error {
	item, err := txn.Get([]byte(keyShipped))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("last frame shipped: %w", err)
	}
	return item.Value(func(v []byte) error {
		if len(v) != 8 {
			return fmt.Errorf("last frame shipped: %w", ErrTampered)
		}
		s.shipped.Store(binary.BigEndian.Uint64(v))
		return nil
	})
}

// proves tells whether a commit without changes for the standbys is worth a frame: it tells them that the one before it
// was committed.
func (s *Store) proves() bool { return s.c.unproved && s.c.snapping && s.c.numbered }

// noteFrame makes room in the transaction for the number of the frame it is shipped as. The number is known only when the
// frame was shipped, and noted fills it in; Badger copies values when it commits. Shipped tells it from then on.
func (s *Store) noteFrame(txn *badger.Txn) error {
	if !s.c.numbered {
		return nil
	}
	return txn.SetEntry(&badger.Entry{Key: []byte(keyShipped), Value: s.c.noted[:]})
}

func (s *Store) noted(frame uint64) {
	if !s.c.numbered {
		return
	}
	s.c.last = max(frame, s.Shipped())
	binary.BigEndian.PutUint64(s.c.noted[:], s.c.last)
}
