package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// A sealed record is: version (1) | key id (4) | counter (8) | ciphertext | tag (16), numbers big-endian. Key id and
// counter together are the 12-byte GCM nonce, so it stands in the record once and cannot repeat under its key.
const (
	sealVersion = 1
	headerSize  = 1 + nonceSize
	nonceSize   = 4 + 8
	tagSize     = 16

	// Overhead is how many bytes longer a sealed record is than its plaintext.
	Overhead = headerSize + tagSize
)

// A data key is used for this much and no more, so that deleting its wrapped form shreds a bounded segment and so that
// GCM stays far below its limits (NIST SP 800-38D §8.3: 2^32 records under one key).
const (
	maxKeyBytes   = 1 << 30
	maxKeyRecords = 1 << 32
	maxKeyAge     = time.Hour
)

// What Open and Restore report. None of them says more about the record than its place in the store does.
var (
	// ErrFormat: the record is too short or of an unknown version.
	ErrFormat = errors.New("sealed record is malformed")
	// ErrNoKey: the ring does not hold the record's data key: it was forgotten, or its wrapped form is lost.
	ErrNoKey = errors.New("no data key for sealed record")
	// ErrTampered: the record, or the identity it is claimed to have, is not what was sealed.
	ErrTampered = errors.New("sealed record does not verify")
	// ErrWrappedKey: a wrapped data key does not open under this root key, or contradicts one already held.
	ErrWrappedKey = errors.New("wrapped data key does not verify")
)

// WrappedKey is a data key as the disk may hold it: sealed under a key derived from the root, bound to its ID.
type WrappedKey struct {
	ID   uint32
	Blob []byte
}

// dataKey seals records until it is used up or too old, and opens them until it is forgotten.
type dataKey struct {
	id      uint32
	aead    cipher.AEAD
	records atomic.Uint64 // counters handed out; the first record gets 1
	bytes   atomic.Uint64
	old     atomic.Bool // set by a timer after maxKeyAge, so that sealing reads no clock
	made    time.Time   // Wall; zero where an earlier process made it
}

// Ring holds data keys in memory and seals and opens records with them. Safe for concurrent use; the root must stay
// open as long as the ring is used.
type Ring struct {
	root    *Root
	current atomic.Pointer[dataKey] // nil until the first Seal: a reader makes no key
	fresh   atomic.Bool             // whether unsaved holds anything
	index   indexer

	mu      sync.RWMutex
	keys    map[uint32]*dataKey
	unsaved []WrappedKey // made since the last TakeNew
}

// NewRing returns a ring without keys. Its first Seal makes one, so every process start has its own.
func NewRing(root *Root) *Ring {
	return &Ring{root: root, keys: map[uint32]*dataKey{}, index: newIndexer(root)}
}

// Beside returns a ring without keys under the same root, to open what another store sealed: its data keys, restored
// there, cannot be taken for this store's.
func (r *Ring) Beside() *Ring { return NewRing(r.root) }

// Seal appends the sealed form of plaintext to dst and returns the longer slice. aad is the record's identity: Open
// demands the same. plaintext and aad must not overlap dst's spare room. It allocates only where dst must grow
// (Overhead tells by how much). A record may be the first under a new data key, whose wrapped form must be durable
// before or together with the record: see TakeNew.
func (r *Ring) Seal(dst, plaintext, aad []byte) []byte {
	k, n := r.next(len(plaintext))
	at := len(dst)
	dst = slices.Grow(dst, len(plaintext)+Overhead)[:at+headerSize]
	header := dst[at:]
	header[0] = sealVersion
	nonce := header[1:]
	binary.BigEndian.PutUint32(nonce, k.id)
	binary.BigEndian.PutUint64(nonce[4:], n)
	return k.aead.Seal(dst, nonce, plaintext, aad)
}

// Open appends the plaintext of sealed to dst. On any error it returns dst as it was: no unverified byte leaves.
func (r *Ring) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != sealVersion {
		return dst, ErrFormat
	}
	nonce := sealed[1:headerSize]
	k := r.find(binary.BigEndian.Uint32(nonce))
	if k == nil {
		return dst, ErrNoKey
	}
	out, err := k.aead.Open(dst, nonce, sealed[headerSize:], aad)
	if err != nil {
		return dst, ErrTampered
	}
	return out, nil
}

// TakeNew returns the data keys made since the last call, wrapped. A committer calls it once per batch, after the
// batch's records were sealed, and writes what it returns in the same batch. Nearly always there is nothing to take,
// and it costs one atomic load. A batch that fails after TakeNew loses its keys: the store must then count as failed.
func (r *Ring) TakeNew() []WrappedKey {
	if !r.fresh.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.unsaved
	r.unsaved = nil
	r.fresh.Store(false)
	return taken
}

// Restore adds a data key that an earlier process made, so that its records open; it never seals again. Restoring the
// same key twice is allowed. ErrWrappedKey tells of a key that is damaged, or wrapped under another root.
func (r *Ring) Restore(w WrappedKey) error {
	aead, err := r.unwrap(w)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, held := r.keys[w.ID]; !held {
		r.keys[w.ID] = &dataKey{id: w.ID, aead: aead}
	}
	return nil
}

// Forget drops a data key. With its wrapped form deleted too, whatever it sealed is unreadable for good, remnants on
// the disk included. The key in use is never dropped.
func (r *Ring) Forget(id uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cur := r.current.Load(); cur == nil || cur.id != id {
		delete(r.keys, id)
	}
}

// Spent tells whether a data key seals nothing any more, and has not for an hour: whatever it sealed is on disk by now, or
// never will be. A key that the ring does not hold is none that it seals with.
func (r *Ring) Spent(id uint32) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k := r.keys[id]
	switch cur := r.current.Load(); {
	case k == nil:
		return true
	case cur != nil && cur.id == id:
		return false
	}
	return k.made.IsZero() || clock.Since(k.made) > 2*maxKeyAge
}

// Rewrap returns w wrapped under the root in use, and whether that is another form than it has. ErrWrappedKey tells of
// a key that no root this one knows of wrapped.
func (r *Ring) Rewrap(w WrappedKey) (WrappedKey, bool, error) {
	key, which, err := r.root.opens(w)
	defer clear(key)
	switch {
	case err != nil || w.ID == 0:
		return w, false, fmt.Errorf("%w: key %08x", ErrWrappedKey, w.ID)
	case which == 0:
		return w, false, nil
	}
	return r.wrap(w.ID, key), true, nil
}

// Retire has the next record sealed under a fresh data key. After Root.Enforce: who has the former root and an old copy of
// the disk has the data keys of then.
func (r *Ring) Retire() {
	if k := r.current.Load(); k != nil {
		k.old.Store(true)
	}
}

// Settle returns when no data key is being made any more under the root key that was present before the call: all such
// keys wait for TakeNew, or were taken.
func (r *Ring) Settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.unsaved) > 0 {
		r.fresh.Store(true)
	}
}

// KeyID tells which data key sealed a record, so that a store can count what still needs a key before it is forgotten.
// It reads the header only and verifies nothing; 0 stands for a malformed record.
func KeyID(sealed []byte) uint32 {
	if len(sealed) < Overhead || sealed[0] != sealVersion {
		return 0
	}
	return binary.BigEndian.Uint32(sealed[1:])
}

// next returns a key that may seal size more bytes and the counter to seal them under.
func (r *Ring) next(size int) (*dataKey, uint64) {
	for {
		k := r.current.Load()
		if k != nil && !k.old.Load() {
			// The counter is taken before the limits are looked at: a number is never handed out twice, and the few
			// that racing sealers take beyond the limit are simply not used.
			n := k.records.Add(1)
			if (n <= maxKeyRecords && k.bytes.Add(uint64(size)) <= maxKeyBytes) || n == 1 {
				return k, n
			}
		}
		r.rotate(k)
	}
}

// rotate makes a new current key unless another goroutine replaced used meanwhile.
func (r *Ring) rotate(used *dataKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current.Load() != used {
		return
	}
	id := r.freeID()
	var key [KeySize]byte
	rand.Read(key[:])
	k := &dataKey{id: id, aead: newGCM(key[:]), made: clock.Wall()}
	r.unsaved = append(r.unsaved, r.wrap(id, key[:]))
	clear(key[:])
	r.keys[id] = k
	r.fresh.Store(true)
	// Last: whoever sees the key in use finds its wrapped form waiting for TakeNew.
	r.current.Store(k)
	time.AfterFunc(maxKeyAge, func() { k.old.Store(true) })
}

// freeID draws an id that no key of the ring has. Ids are random, not counted: a process that starts before the keys
// of earlier ones are restored must not take their numbers.
func (r *Ring) freeID() uint32 {
	for {
		var raw [4]byte
		rand.Read(raw[:])
		id := binary.BigEndian.Uint32(raw[:])
		if _, taken := r.keys[id]; id != 0 && !taken {
			return id
		}
	}
}

func (r *Ring) find(id uint32) *dataKey {
	if k := r.current.Load(); k != nil && k.id == id {
		return k // nearly every record of the hot path
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.keys[id]
}

// wrap seals a data key under HKDF(root in use, "queue"). The wrapping key is derived anew each time: once an hour, and it
// need not lie on the heap in between.
func (r *Ring) wrap(id uint32, key []byte) WrappedKey {
	keys := r.root.wrappingKeys()
	defer wipe(keys)
	return WrappedKey{ID: id, Blob: wrapKey(keys[0], key, dataKeyIdentity(id))}
}

func (r *Ring) unwrap(w WrappedKey) (cipher.AEAD, error) {
	key, _, err := r.root.opens(w)
	defer clear(key)
	if err != nil || w.ID == 0 {
		return nil, fmt.Errorf("%w: key %08x", ErrWrappedKey, w.ID)
	}
	return newGCM(key), nil
}

func dataKeyIdentity(id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte("ekiden data key "), id)
}

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("seal: aes: " + err.Error()) // only for a key of the wrong length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("seal: gcm: " + err.Error()) // only for a block size other than 16
	}
	return aead
}
