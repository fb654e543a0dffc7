package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/crypto/argon2"
)

// ErrDamaged is reported for a key file whose bytes are not those that were written: restore it from a backup.
var ErrDamaged = errors.New("key file is damaged")

// hexBytes is binary in a file that people may look at.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// slot is a file of DIR/keys: the root key wrapped under one thing that opens it. It is as good as public, but for the
// work it spares who wants to guess a weak provider key.
type slot struct {
	Version int      `json:"version"`        // 1
	Store   hexBytes `json:"store"`          // identity of the store, 16 random bytes, the same in all slots
	Opener  string   `json:"opener"`         // "recovery-code" or "provider"
	Root    byte     `json:"root,omitempty"` // version of the root key, 0 = 1
	KDF     *argon   `json:"argon2id,omitempty"`
	Check   hexBytes `json:"check"` // Root.check
	Wrapped hexBytes `json:"wrapped"`
	// Heritage is what the root key carries over from earlier ones, sealed under it; in the recovery file only.
	Heritage hexBytes `json:"heritage,omitempty"`
	Sum      hexBytes `json:"sum"` // SHA-256 of the file with this field empty: tells rot from a wrong code
}

// argon holds the parameters of Argon2id (RFC 9106). A code of 160 bits needs no stretching; they cost a guesser
// something all the same, and a node 30 ms at an unseal.
type argon struct {
	Salt      hexBytes `json:"salt"`
	Time      uint32   `json:"time"`
	MemoryKiB uint32   `json:"memory_kib"`
	Threads   uint8    `json:"threads"`
}

const (
	openerCode     = "recovery-code"
	openerProvider = "provider"
	recoveryFile   = "recovery.json"
	// maxSlotFile bounds what is read of a key file, in bytes; one is about 500, and each rotation adds 80.
	maxSlotFile = 32 << 10
	storeIDSize = 16
)

// newArgon returns the parameters for a new slot: OWASP's first choice, with a fresh salt.
func newArgon() *argon {
	a := &argon{Salt: make([]byte, 16), Time: 2, MemoryKiB: 19 << 10, Threads: 1}
	rand.Read(a.Salt)
	return a
}

// bounded keeps a tampered file from taking the machine's memory or time.
func (a *argon) bounded() bool {
	return a != nil && len(a.Salt) == 16 && a.Time >= 1 && a.Time <= 16 &&
		a.MemoryKiB >= 8 && a.MemoryKiB <= 256<<10 && a.Threads >= 1 && a.Threads <= 8
}

func (a *argon) key(code [codeSize]byte) []byte {
	return argon2.IDKey(code[:], a.Salt, a.Time, a.MemoryKiB, a.Threads, KeySize)
}

// providerKeys derives from a provider's key the name of its slot's file and the key that wraps. The name gives nothing of the key
// away, and finds the slot also when the operator renamed the file or changed the command that gives the key.
func providerKeys(key []byte) (file string, kek []byte) {
	name, err := hkdf.Key(sha256.New, key, nil, "ekiden/1/provider slot", 8)
	if err != nil {
		panic("seal: hkdf: " + err.Error()) // only for absurd lengths, or a FIPS mode without SHA-256
	}
	kek, err = hkdf.Key(sha256.New, key, nil, "ekiden/1/provider key", KeySize)
	if err != nil {
		panic("seal: hkdf: " + err.Error())
	}
	return "provider-" + hex.EncodeToString(name) + ".json", kek
}

func (s *slot) identity() []byte {
	id := append([]byte("ekiden root key "+s.Opener+" "), s.Store...)
	if s.Root != 0 { // or a later root could be passed off as a first one, which has no heritage
		id = append(id, s.Root)
	}
	return id
}

// wrap puts root into s under kek, which is wiped.
func (s *slot) wrap(kek, root, check []byte) *slot {
	defer clear(kek)
	s.Version, s.Check = 1, check
	s.Wrapped = wrapKey(kek, root, s.identity())
	s.Sum = s.sum()
	return s
}

// unwrap returns the root key, or errUnwrap when kek, which is wiped, is not the one s was wrapped under.
func (s *slot) unwrap(kek []byte) ([]byte, error) {
	defer clear(kek)
	return unwrapKey(kek, s.Wrapped, s.identity())
}

func (s *slot) sum() []byte {
	bare := *s
	bare.Sum = nil
	sum := sha256.Sum256(bare.encode())
	return sum[:]
}

func (s *slot) encode() []byte {
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("seal: " + err.Error()) // plain values only
	}
	return append(out, '\n')
}

// decodeSlot reads a slot and verifies all that can be verified without a key.
func decodeSlot(data []byte) (*slot, error) {
	var s slot
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, ErrDamaged
	}
	ok := s.Version == 1 && s.Root != 1 && len(s.Store) == storeIDSize && bytes.Equal(s.Sum, s.sum()) && bytes.Equal(data, s.encode())
	switch s.Opener {
	case openerCode:
		ok = ok && s.KDF.bounded() && (s.Root != 0) == (len(s.Heritage) > 0)
	case openerProvider:
		ok = ok && s.KDF == nil && len(s.Heritage) == 0
	default:
		ok = false
	}
	if !ok {
		return nil, ErrDamaged
	}
	return &s, nil
}

// readSlot reads one key file. A missing file is os.ErrNotExist.
func readSlot(path string) (*slot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSlotFile))
	if err != nil {
		return nil, err
	}
	s, err := decodeSlot(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, path)
	}
	return s, nil
}

// writeSlot writes a key file so that after a crash it is there whole or not at all.
func writeSlot(dir, name string, s *slot) error {
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing once renamed
	_, err = f.Write(s.encode())
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
