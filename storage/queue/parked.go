package queue

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// Parked is what lies in the store of queues that were given up, and that no standby may hold: it waits for being brought
// home by Adopt, and is not served until then. The maps are not to be changed.
type Parked struct {
	Lineages   []mail.Lineage
	Deliveries int
	Domains    map[mail.Domain]int
	Groups     map[gate.Key]int // by tenant and group, under the empty group all of a tenant
}

// parkedPrefix is what the keys of a lineage's parked records begin with; its key in the queue follows.
func parkedPrefix(l mail.Lineage) []byte {
	return binary.BigEndian.AppendUint32([]byte{kindParked}, uint32(l))
}

const parkedPrefixSize = 1 + 4

// Parked tells what waits for being brought home.
func (s *Store) Parked() Parked {
	if p := s.parked.Load(); p != nil {
		return *p
	}
	return Parked{}
}

// loadParked counts what is parked.
func (s *Store) loadParked() error {
	p := &Parked{Domains: map[mail.Domain]int{}, Groups: map[gate.Key]int{}}
	err := s.each(context.Background(), kindParked, func(key, value []byte) error {
		if len(key) <= parkedPrefixSize {
			return nil
		}
		l := mail.Lineage(binary.BigEndian.Uint32(key[1:]))
		if !slices.Contains(p.Lineages, l) {
			p.Lineages = append(p.Lineages, l)
		}
		at, ok := parseSpot(key[parkedPrefixSize:])
		if !ok {
			return nil
		}
		p.Deliveries++
		if d, err := openDelivery(s.ring, l, value, mail.Seq(at.at.seq)); err == nil { // Adopt tells of those that do not open
			p.Domains[d.Domain]++
			if p.Groups[gate.Key{Tenant: d.Tenant}]++; d.Group != "" {
				p.Groups[gate.Key{Tenant: d.Tenant, Group: d.Group}]++
			}
		}
		return nil
	})
	if err == nil && len(p.Lineages) > 0 {
		s.parked.Store(p)
	}
	return err
}

// ParkedRecords is Adoption.Records for what is parked of a lineage.
func (s *Store) ParkedRecords(ctx context.Context, l mail.Lineage) func(each func(key, value []byte) error) error {
	return func(each func(key, value []byte) error) error {
		if err := s.each(ctx, kindDataKey, each); err != nil {
			return err
		}
		return s.each(ctx, kindParked, func(key, value []byte) error {
			if len(key) <= parkedPrefixSize || binary.BigEndian.Uint32(key[1:]) != uint32(l) {
				return nil
			}
			return each(key[parkedPrefixSize:], value)
		})
	}
}

// Unpark deletes what is parked of a lineage: it was brought home.
func (s *Store) Unpark(ctx context.Context, l mail.Lineage) error {
	from := parkedPrefix(l)
	for from != nil {
		keys, next, err := s.keysFrom(kindParked, from, purgeBatch)
		if err != nil {
			return err
		}
		end := slices.IndexFunc(keys, func(k []byte) bool { return len(k) < parkedPrefixSize || binary.BigEndian.Uint32(k[1:]) != uint32(l) })
		if end >= 0 {
			keys, next = keys[:end], nil
		}
		if len(keys) > 0 {
			if err := s.remove(ctx, keys); err != nil {
				return err
			}
		}
		from = next
	}
	s.parked.Store(nil)
	return s.loadParked()
}

// keysFrom returns up to limit keys of a kind from a key on, and the key to go on with, nil at the end.
func (s *Store) keysFrom(kind byte, from []byte, limit int) (keys [][]byte, next []byte, err error) {
	if !s.enter() {
		return nil, nil, ErrClosed
	}
	defer s.leave()
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kind}})
		defer it.Close()
		for it.Seek(from); it.Valid(); it.Next() {
			if len(keys) == limit {
				next = it.Item().KeyCopy(nil)
				return nil
			}
			keys = append(keys, it.Item().KeyCopy(nil))
		}
		return nil
	})
	return keys, next, err
}
