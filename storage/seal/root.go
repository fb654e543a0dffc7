package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
)

// KeySize is the length of the root key, of every key derived from it and of every data key, in bytes.
const KeySize = 32

// ErrKeySize is reported for a root key that is not KeySize bytes long.
var ErrKeySize = errors.New("a root key must be 32 bytes long")

// Root is the key from which all others follow. It lies alone in a page of memory that does not swap, does not reach a
// core file and, where the kernel has memfd_secret(2), is not mapped for anybody else, the kernel included.
// Derived keys and cipher states do live on Go's heap; only the root itself is fenced. Safe for concurrent use.
type Root struct {
	mu   sync.RWMutex
	page page // nil memory once closed
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
	p, err := newPage(key)
	if err != nil {
		return nil, fmt.Errorf("seal: page for the root key: %w", err)
	}
	return &Root{page: p}, nil
}

// Protection names what guards the root key's page: "memfd_secret", "mlock", or "none" where the system locks nothing.
func (r *Root) Protection() string { return r.page.kind }

// Derive returns the key for one purpose: HKDF-SHA256 (RFC 5869) of the root key with the purpose as info. Purposes are
// constants of the program, never data. It panics on a closed Root: a node without its root key must have stopped.
func (r *Root) Derive(purpose string) [KeySize]byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.page.mem == nil {
		panic("seal: root key used after Close")
	}
	return derive(r.page.mem[:KeySize], purpose)
}

// Close wipes the key and gives its page back. Closing twice is allowed.
func (r *Root) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.page.close()
}

func derive(secret []byte, purpose string) (key [KeySize]byte) {
	out, err := hkdf.Key(sha256.New, secret, nil, "ekiden/1/"+purpose, KeySize)
	if err != nil {
		panic("seal: hkdf: " + err.Error()) // only for a length beyond 255 hashes or a FIPS mode without SHA-256
	}
	copy(key[:], out)
	clear(out)
	return key
}
