package queue

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/storage/seal"
)

// rewrapBatch is how many wrapped data keys are written anew in one commit.
const rewrapBatch = 1000

// Rewrap writes every wrapped data key of the store that is not wrapped under the present root key anew, through the
// committer, so that standbys are shipped them too. Once it returned nil, no data key of this store needs an earlier
// root: none in the database, and none that is still to be committed. It is called after the root was rotated, and may
// be repeated; one that cannot be read or opened is an error, for the root it needs must then be kept.
func (s *Store) Rewrap(ctx context.Context) error {
	s.ring.Settle()
	for {
		// A key that was made before the rotation may lie in memory: this commit takes it along.
		if err := s.Flush(ctx); err != nil {
			return fmt.Errorf("wrap data keys anew: %w", err)
		}
		old, err := s.oldKeys()
		if err != nil {
			return fmt.Errorf("wrap data keys anew: %w", err)
		}
		if len(old) == 0 {
			return nil
		}
		err = s.submitAndWait(ctx, func(r *request) {
			for _, k := range old {
				r.set(binary.BigEndian.AppendUint32([]byte{kindDataKey}, k.ID), k.Blob)
			}
		})
		if err != nil {
			return fmt.Errorf("wrap data keys anew: %w", err)
		}
	}
}

// oldKeys returns data keys that an earlier root had wrapped, in their new form: rewrapBatch at most.
func (s *Store) oldKeys() (old []seal.WrappedKey, err error) {
	if !s.enter() {
		return nil, ErrClosed
	}
	defer s.leave()
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindDataKey}})
		defer it.Close()
		for it.Rewind(); it.Valid() && len(old) < rewrapBatch; it.Next() {
			k := it.Item().Key()
			if len(k) != 5 {
				return fmt.Errorf("data key: %w", ErrTampered)
			}
			w := seal.WrappedKey{ID: binary.BigEndian.Uint32(k[1:])}
			if w.Blob, err = it.Item().ValueCopy(nil); err != nil {
				return fmt.Errorf("read data key: %w", err)
			}
			fresh, changed, err := s.ring.Rewrap(w)
			if err != nil {
				return err
			}
			if changed {
				old = append(old, fresh)
			}
		}
		return nil
	})
	return old, err
}
