package seal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
)

// KeySize is the length of the root key, of every key derived from it and of every data key, in bytes.
const KeySize = 32

// ErrKeySize is reported for a root key that is not KeySize bytes long.
var ErrKeySize = errors.New("a root key must be 32 bytes long")

// Where things lie in the root key's page; the key itself stands at 0.
const (
	innerPad = sha256.BlockSize
	outerPad = 2 * sha256.BlockSize
)

// Root is the key from which all others follow. It lies alone in a page of memory that does not swap, does not reach a
// core file and, where the kernel has memfd_secret(2), is not mapped for anybody else, the kernel included.
// Derived keys and cipher states do live on Go's heap; only the root itself is fenced. Safe for concurrent use.
type Root struct {
	mu   sync.RWMutex
	page page // nil memory once closed

	heritage *heritage // of earlier roots; nil for the first one
	// staged: it opens everything and seals nothing yet; what is sealed is sealed under the root before it, which
	// everybody holds. Only with a heritage that has a wrapping key.
	staged bool
}

// NewRoot draws a fresh root key.
func NewRoot() (*Root, error) {
	var key [KeySize]byte
	rand.Read(key[:]) // never fails: crypto/rand ends the process instead
	return RootFrom(key[:])
}

// RootFrom takes key, which must be KeySize bytes, into a page of its own and wipes the argument, also on an error.
func RootFrom(key []byte) (*Root, error) {
	defer clear(key)
	if len(key) != KeySize {
		return nil, ErrKeySize
	}
	p, err := newPage(func(mem []byte) {
		copy(mem, key)
		// The two HMAC pads (RFC 2104) lie beside the key, so that deriving from it copies neither to the heap.
		for i := range sha256.BlockSize {
			mem[innerPad+i], mem[outerPad+i] = 0x36, 0x5c
		}
		for i, b := range key {
			mem[innerPad+i] ^= b
			mem[outerPad+i] ^= b
		}
	})
	if err != nil {
		return nil, fmt.Errorf("seal: page for the root key: %w", err)
	}
	return &Root{page: p}, nil
}

// Protection names what guards the root key's page: "memfd_secret", "mlock", or "none" where the system locks nothing.
func (r *Root) Protection() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.page.kind
}

// Derive returns the key for one purpose: HKDF-Expand with SHA-256 (RFC 5869 §2.3; §3.3 lets a uniformly random key go
// without the extract step), with "ekiden/1/" and the purpose as info. Purposes are constants of the program, never
// data. It is computed here and not by crypto/hkdf, because that copies the key to Go's heap, where nobody would wipe
// it. It panics on a closed Root: a node without its root key must have stopped.
func (r *Root) Derive(purpose string) (key [KeySize]byte) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.derive(purpose)
}

// derive is Derive for who holds mu.
func (r *Root) derive(purpose string) (key [KeySize]byte) {
	if r.page.mem == nil {
		panic("seal: root key used after Close")
	}
	// T(1) = HMAC(root, info | 0x01), and one block is all a 32-byte key needs. A pad is a whole block, which SHA-256
	// reads in place.
	h := sha256.New()
	h.Write(r.page.mem[innerPad:][:sha256.BlockSize])
	h.Write([]byte("ekiden/1/" + purpose + "\x01"))
	inner := h.Sum(nil)
	h.Reset()
	h.Write(r.page.mem[outerPad:][:sha256.BlockSize])
	h.Write(inner)
	h.Sum(key[:0])
	return key
}

// copyKey returns the key itself, the caller's to wipe: it is for giving it to another member, and nothing else.
func (r *Root) copyKey() []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.page.mem == nil {
		panic("seal: root key used after Close")
	}
	return bytes.Clone(r.page.mem[:KeySize])
}

// Staged tells whether the root before this one still seals.
func (r *Root) Staged() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.staged
}

// InUse returns the version of the root that seals.
func (r *Root) InUse() byte {
	if r.Staged() {
		return r.Version() - 1
	}
	return r.Version()
}

// Enforce has a staged root seal from now on; boxes hear of it by Renew, rings by Retire. It must only be called once
// everybody who may have to open what is sealed holds this root.
func (r *Root) Enforce() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.staged = false
}

// Fingerprint names a root key without telling anything of it, in 16 bytes: it may be written down anywhere.
func (r *Root) Fingerprint() []byte { return r.check() }

// check returns a value by which a root key is recognised without being told: HKDF of 256 random bits gives none back.
func (r *Root) check() []byte {
	key := r.Derive("check")
	return key[:16]
}

// isCheck tells whether check, which the disk may hold, is this root's.
func (r *Root) isCheck(check []byte) bool {
	return subtle.ConstantTimeCompare(r.check(), check) == 1
}

// Close wipes the key and gives its page back. Closing twice is allowed.
func (r *Root) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heritage.wipe()
	r.heritage = nil
	return r.page.close()
}
