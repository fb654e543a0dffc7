package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/record"
)

// Records filed under the HMAC of a name: idempotency keys and operator state.

// namedIdentity is the identity of a record of the store of lineage l that is filed under a name.
func namedIdentity(l mail.Lineage, kind byte, name [16]byte) []byte {
	dst := binary.BigEndian.AppendUint32(make([]byte, 0, 21), uint32(l))
	return append(append(dst, name[:]...), kind)
}

func (s *Store) namedIdentity(kind byte, name [16]byte) []byte {
	return namedIdentity(s.lineage, kind, name)
}

// homeIdentity is the identity of a record that stays when the queue is given up.
func (s *Store) homeIdentity(kind byte, name [16]byte) []byte {
	return namedIdentity(s.home, kind, name)
}

const keyRecordSize = 4 + 8 + 8

func (s *Store) sealNamed(kind byte, name [16]byte, plain []byte) []byte {
	return s.ring.Seal(nil, plain, s.namedIdentity(kind, name))
}

func appendKeyRecord(dst []byte, id mail.MessageID, until time.Time) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(id.Lineage))
	dst = binary.BigEndian.AppendUint64(dst, uint64(id.Seq))
	return binary.BigEndian.AppendUint64(dst, uint64(until.UnixMilli()))
}

func parseKeyRecord(raw []byte) (id mail.MessageID, until time.Time, err error) {
	if len(raw) != keyRecordSize {
		return id, until, record.ErrDamaged
	}
	id.Lineage = mail.Lineage(binary.BigEndian.Uint32(raw))
	id.Seq = mail.Seq(binary.BigEndian.Uint64(raw[4:]))
	return id, time.UnixMilli(int64(binary.BigEndian.Uint64(raw[12:]))), nil
}

// knownKey looks for an idempotency key in this batch and on disk. A record that cannot be read counts as unknown: mail
// sent twice is better than mail refused for good.
func (s *Store) knownKey(txn *badger.Txn, key [16]byte) (mail.MessageID, bool, error) {
	if id, ok := s.c.keys[key]; ok {
		return id, true, nil
	}
	return s.storedKey(txn, key)
}

// storedKey looks for an idempotency key on disk.
func (s *Store) storedKey(txn *badger.Txn, key [16]byte) (mail.MessageID, bool, error) {
	raw, err := s.small(txn, append([]byte{kindKey}, key[:]...), s.namedIdentity(kindKey, key))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return mail.MessageID{}, false, nil
	}
	id, until, bad := parseKeyRecord(raw)
	if err != nil || bad != nil {
		s.damaged.Add(1)
		s.log.Error("idempotency key damaged: forgotten", "err", errors.Join(err, bad))
		return mail.MessageID{}, false, nil
	}
	return id, !expired(until, s.cfg.Clock.Now()), nil
}

// keyName is the name under which a tenant's idempotency key is filed; buf is used for it.
func (s *Store) keyName(buf []byte, tenant, key string) [16]byte {
	return s.ring.Index("idempotency key", append(append(append(buf, tenant...), 0), key...))
}

// KeyOf returns the message that a tenant's idempotency key names, and whether there is one. One whose Put is under way
// may or may not be seen.
func (s *Store) KeyOf(tenant, key string) (id mail.MessageID, known bool, err error) {
	if !s.enter() {
		return id, false, ErrClosed
	}
	defer s.leave()
	name := s.keyName(nil, tenant, key)
	err = s.db.View(func(txn *badger.Txn) (err error) {
		id, known, err = s.storedKey(txn, name)
		return err
	})
	return id, known, err
}

// purgeKeys deletes idempotency keys that no longer count.
func (s *Store) purgeKeys(ctx context.Context) error {
	now := s.cfg.Clock.Now()
	from := []byte{kindKey}
	for from != nil {
		keys, next, err := s.expiredKeys(from, now)
		if err != nil {
			return fmt.Errorf("purge idempotency keys: %w", err)
		}
		if len(keys) > 0 {
			if err := s.remove(ctx, keys); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// expiredKeys looks through a bounded number of keys from from on; next is nil at the end.
func (s *Store) expiredKeys(from []byte, now time.Time) (keys [][]byte, next []byte, err error) {
	if !s.enter() {
		return nil, nil, ErrClosed
	}
	defer s.leave()
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindKey}})
		defer it.Close()
		seen := 0
		for it.Seek(from); it.Valid(); it.Next() {
			key := it.Item().KeyCopy(nil)
			if seen++; seen > 10*purgeBatch || len(keys) == purgeBatch {
				next = key
				return nil
			}
			var name [16]byte
			copy(name[:], key[1:])
			raw, err := s.small(txn, key, s.namedIdentity(kindKey, name))
			_, until, bad := parseKeyRecord(raw)
			if err != nil || bad != nil || expired(until, now) {
				keys = append(keys, key)
			}
		}
		return nil
	})
	return keys, next, err
}

// SetMeta keeps a small value under a name (operator state: gates, suspensions), nil to forget it. done is as in Put.
// Values are bounded to 64 KiB.
func (s *Store) SetMeta(name string, value []byte, done func(error)) {
	if len(value) > 64<<10 {
		done(ErrTooMany)
		return
	}
	r := s.newRequest(done)
	h := s.ring.Index("meta", []byte(name))
	key := append([]byte{kindMeta}, h[:]...)
	if value == nil {
		r.del(key)
	} else {
		r.set(key, s.ring.Seal(nil, value, s.homeIdentity(kindMeta, h)))
	}
	s.submit(r)
}

// Meta returns what SetMeta keeps under name, nil where there is nothing.
func (s *Store) Meta(name string) ([]byte, error) {
	if !s.enter() {
		return nil, ErrClosed
	}
	defer s.leave()
	h := s.ring.Index("meta", []byte(name))
	var value []byte
	err := s.db.View(func(txn *badger.Txn) (err error) {
		value, err = s.small(txn, append([]byte{kindMeta}, h[:]...), s.homeIdentity(kindMeta, h))
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}
