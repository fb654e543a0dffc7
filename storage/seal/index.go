package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
)

// indexer computes keyed hashes with states whose pads are already mixed in.
type indexer struct{ pool *sync.Pool }

// indexState is one pooled HMAC. scratch keeps the purpose and the sum off the caller's stack frame, where handing them
// to an interface would make them escape.
type indexState struct {
	mac     hash.Hash
	scratch [sha256.Size]byte
}

func newIndexer(root *Root) indexer {
	key := root.indexKey()
	return indexer{pool: &sync.Pool{New: func() any {
		s := &indexState{mac: hmac.New(sha256.New, key[:])}
		// The first Reset makes crypto/hmac keep the states after the pads, so that later ones hash no pad.
		s.mac.Write([]byte{0})
		s.mac.Sum(s.scratch[:0])
		s.mac.Reset()
		return s
	}}}
}

// Index returns the opaque name of data in store keys: HMAC-SHA256 under HKDF(first root, "index"), cut to 16 bytes. The
// same data under different purposes has unrelated names, so that "a domain" and "a recipient" cannot be matched.
// purpose is a constant of the program, at most 31 bytes. It allocates nothing.
func (r *Ring) Index(purpose string, data []byte) [16]byte { return r.index.name(purpose, data) }

func (x *indexer) name(purpose string, data []byte) [16]byte {
	s := x.pool.Get().(*indexState)
	if len(purpose) >= len(s.scratch) {
		panic("seal: index purpose longer than 31 bytes: " + purpose)
	}
	// The length in front keeps ("ab", "c") and ("a", "bc") apart.
	s.scratch[0] = byte(len(purpose))
	s.mac.Write(s.scratch[:1+copy(s.scratch[1:], purpose)])
	s.mac.Write(data)
	out := [16]byte(s.mac.Sum(s.scratch[:0]))
	s.mac.Reset()
	x.pool.Put(s)
	return out
}
