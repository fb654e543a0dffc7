package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"slices"
	"sync/atomic"
)

// Box seals records that every member of a cluster must be able to open: what is agreed on, not what is queued. Its
// key follows from the root key, which all members share, so that a record needs no wrapped key beside it. Safe for
// concurrent use; the root need not stay open.
//
// A boxed record is: version of the root (1) | random nonce (12) | ciphertext | tag (16). Several members seal under one key without
// asking one another, so the nonce is drawn and not counted: safe for 2^32 records (NIST SP 800-38D §8.3), which at the
// rate of an operator's changes and lease renewals is centuries.
type Box struct {
	purpose string
	keys    atomic.Pointer[boxKeys]
	index   indexer
}

// boxKeys are the keys of a box by the version of their root.
type boxKeys struct {
	use byte                        // of the root that seals
	by  [maxVersion + 1]cipher.AEAD // nil where the root is not known
}

// BoxOverhead is how many bytes longer a boxed record is than its plaintext.
const BoxOverhead = 1 + nonceSize + tagSize

// NewBox returns the box of one purpose, a constant of the program.
func NewBox(root *Root, purpose string) *Box {
	b := &Box{purpose: purpose, index: newIndexer(root)}
	b.Renew(root)
	return b
}

// Renew takes the keys of a root that was rotated: the box seals as Root.InUse says, and opens what the others sealed.
func (b *Box) Renew(root *Root) {
	present, older := root.boxKeys(b.purpose)
	k := &boxKeys{use: root.InUse()}
	for _, o := range append(older, present) {
		k.by[o.version] = newGCM(o.key)
		clear(o.key)
	}
	b.keys.Store(k)
}

// Seal appends the boxed form of plaintext to dst and returns the longer slice. aad is the record's identity: Open
// demands the same. plaintext and aad must not overlap dst's spare room.
func (b *Box) Seal(dst, plaintext, aad []byte) []byte {
	at := len(dst)
	dst = slices.Grow(dst, len(plaintext)+BoxOverhead)[:at+1+nonceSize]
	k := b.keys.Load()
	dst[at] = k.use
	nonce := dst[at+1:]
	rand.Read(nonce)
	return k.by[k.use].Seal(dst, nonce, plaintext, aad)
}

// Open appends the plaintext of sealed to dst. On ErrFormat or ErrTampered it returns dst as it was.
func (b *Box) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < BoxOverhead || b.keys.Load().by[sealed[0]] == nil {
		return dst, ErrFormat
	}
	out, err := b.keys.Load().by[sealed[0]].Open(dst, sealed[1:1+nonceSize], sealed[1+nonceSize:], aad)
	if err != nil {
		return dst, ErrTampered
	}
	return out, nil
}

// Index returns the opaque name of data, the same on every member: see Ring.Index.
func (b *Box) Index(purpose string, data []byte) [16]byte { return b.index.name(purpose, data) }
