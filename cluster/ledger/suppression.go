package ledger

import (
	"errors"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// suppressionKey is where a suppression lies: opaque names of the address and of the scope. Nobody learns from the key
// more than that two records may be about one address.
func suppressionKey(p Place) []byte { return append([]byte{byte(KindSuppression)}, p[:]...) }

// namer names suppressions, one after another, for somebody alone.
type namer struct {
	box     Sealer
	scope   Scope // the last one named, since an import has few
	named   bool
	short   [8]byte // its name
	address []byte  // scratch
}

func (n *namer) place(v *Suppressed) Place {
	if !n.named || v.Scope != n.scope {
		n.scope, n.short, n.named = v.Scope, scopeName(n.box, v.Scope), true
	}
	n.address = append(n.address[:0], v.Address...)
	return place(addressName(n.box, n.address), n.short)
}

func addressName(box Sealer, address []byte) [16]byte { return box.Index("ledger address", address) }

func scopeName(box Sealer, scope Scope) [8]byte {
	name := box.Index("ledger scope", encode(scope.fields))
	return [8]byte(name[:8])
}

func place(address [16]byte, scope [8]byte) Place {
	var p Place
	copy(p[copy(p[:], address[:]):], scope[:])
	return p
}

// Suppressed looks an address up in the scopes given, in their order, and returns the first suppression that counts at
// now. The address is compared as it is: the caller has normalised it. An error means that the answer is not known, and
// must not be taken for a no. An address on no list costs one hash and one cache line.
func (s *Store) Suppressed(address string, now time.Time, scopes ...Scope) (Suppression, bool, error) {
	name := addressName(s.box, []byte(address))
	if s.filter.Load().absent(&name) {
		return Suppression{}, false, nil
	}
	var found Suppression
	hit := false
	err := s.read(func(txn *badger.Txn) error {
		for _, scope := range scopes {
			var v Suppression
			err := s.get(txn, suppressionKey(place(name, scopeName(s.box, scope))), v.fields)
			if errors.Is(err, badger.ErrKeyNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			// The scope's name is short: who it is really about stands in the record.
			if v.Scope == scope && v.Address == address && v.Live(now) {
				found, hit = v, true
				return nil
			}
		}
		return nil
	})
	return found, hit, err
}

// SuppressionsOf returns everything that is known about an address, expired suppressions included.
func (s *Store) SuppressionsOf(address string) ([]Suppression, error) {
	var found []Suppression
	name := addressName(s.box, []byte(address))
	err := s.read(func(txn *badger.Txn) error {
		return s.scan(txn, append([]byte{byte(KindSuppression)}, name[:]...), nil, func(_, plain []byte) (bool, error) {
			var v Suppression
			err := decodeShared(string(plain), v.fields)
			found = append(found, v)
			return true, err
		})
	})
	return found, err
}

// pageScan bounds how many records one page looks at, so that no read holds an old version of the book for long.
const pageScan = 50_000

// Suppressions returns up to limit suppressions that match, in an order of no meaning, and a cursor for the next page,
// which is nil at the end. A page may be short or empty and yet not be the last. Expired ones are included.
func (s *Store) Suppressions(cursor []byte, limit int, match func(*Suppression) bool) (page []Suppression, next []byte, err error) {
	next, err = s.EachSuppression(cursor, func(v *Suppression, _ []byte) bool {
		if match(v) {
			page = append(page, *v)
		}
		return len(page) < limit
	})
	return page, next, err
}

// IsSuppressionCursor tells whether a page can have come with it: scanning on from anything else would look like the end.
func IsSuppressionCursor(cursor []byte) bool {
	return len(cursor) == 1+len(Place{}) && cursor[0] == byte(KindSuppression)
}

// EachSuppression calls f for suppressions behind a cursor, each with the cursor behind it, until f returns false or enough
// were looked at, and returns where to go on; nil at the end. f must be quick, and keep neither of what it is given; what the
// suppression holds it may keep.
func (s *Store) EachSuppression(cursor []byte, f func(v *Suppression, at []byte) bool) (next []byte, err error) {
	err = s.read(func(txn *badger.Txn) error {
		looked := 0
		var v Suppression
		fields := v.fields
		return s.scan(txn, []byte{byte(KindSuppression)}, cursor, func(key, plain []byte) (bool, error) {
			if err := decodeShared(string(plain), fields); err != nil {
				return false, err
			}
			if looked++; f(&v, key) && looked < pageScan {
				return true, nil
			}
			next = append([]byte(nil), key...)
			return false, nil
		})
	})
	return next, err
}

// fill adds everything that lies in the store to its filter.
func (s *Store) fill(f *filter, txn *badger.Txn) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{byte(KindSuppression)}})
	defer it.Close()
	n := 0
	for it.Rewind(); it.Valid(); it.Next() {
		if n++; n%1024 == 0 && (s.closing() || s.filter.Load() != f) {
			return
		}
		if key := it.Item().Key(); len(key) == 1+len(Place{}) {
			name := [16]byte(key[1:17])
			f.add(&name)
		}
	}
	f.ready.Store(true)
	s.log.Info("suppression filter is built", "suppressions", n)
}

func (s *Store) closing() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}
