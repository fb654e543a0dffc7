package ledger

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"
)

// testBox seals with AES-GCM under random nonces.
type testBox struct {
	aead cipher.AEAD
	key  []byte
}

func newTestBox(t testing.TB, secret string) *testBox {
	t.Helper()
	key := sha256.Sum256([]byte(secret))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return &testBox{aead: aead, key: key[:]}
}

func (b *testBox) Seal(dst, plain, aad []byte) []byte {
	var nonce [12]byte
	rand.Read(nonce[:])
	return b.aead.Seal(append(dst, nonce[:]...), nonce[:], plain, aad)
}

func (b *testBox) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < 12 {
		return dst, errors.New("too short")
	}
	return b.aead.Open(dst, sealed[:12], sealed[12:], aad)
}

func (b *testBox) Index(purpose string, data []byte) [16]byte {
	mac := hmac.New(sha256.New, b.key)
	fmt.Fprintf(mac, "%d:%s", len(purpose), purpose)
	mac.Write(data)
	return [16]byte(mac.Sum(nil))
}

// rig is a store under test that can be closed and opened again.
type rig struct {
	t   testing.TB
	cfg Config
	*Store
	next uint64
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, cfg: Config{Dir: t.TempDir(), Box: newTestBox(t, "root"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}}
	r.open()
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

func (r *rig) open() {
	r.t.Helper()
	s, err := Open(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Store, r.next = s, s.AppliedIndex()+1
}

func (r *rig) reopen() {
	r.t.Helper()
	if err := r.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

// entries makes entries of commands, with the numbers that follow.
func (r *rig) entries(cmds ...Command) []Entry {
	r.t.Helper()
	var list []Entry
	for _, cmd := range cmds {
		data, err := EncodeSealed(r.cfg.Box, cmd)
		if err != nil {
			r.t.Fatal(err)
		}
		list = append(list, Entry{Index: r.next, Term: 1, Data: data})
		r.next++
	}
	return list
}

// must applies commands in one batch.
func (r *rig) must(cmds ...Command) []Result {
	r.t.Helper()
	results, err := r.ApplyBatch(r.entries(cmds...))
	if err != nil || len(results) != len(cmds) {
		r.t.Fatalf("%d results of %d commands: %v", len(results), len(cmds), err)
	}
	return results
}

func moment(s int) time.Time { return time.Unix(1_800_000_000+int64(s), 0).UTC() }

func black(address string) Suppression {
	return Suppression{Suppressed: Suppressed{Scope{List: Blackbox}, address}, Reason: "user unknown",
		Evidence: "550 5.1.1 no such user", Since: moment(0)}
}

func (r *rig) suppressed(address string, now time.Time, scopes ...Scope) bool {
	r.t.Helper()
	if len(scopes) == 0 {
		scopes = []Scope{{List: Blackbox}}
	}
	_, yes, err := r.Suppressed(address, now, scopes...)
	if err != nil {
		r.t.Fatal(err)
	}
	return yes
}

// snapshot returns the stream of the book as it is.
func (r *rig) snapshot() []byte {
	r.t.Helper()
	n, err := r.Snapshot()
	if err != nil {
		r.t.Fatal(err)
	}
	defer n.Release()
	var b bytes.Buffer
	if err := n.Write(&b); err != nil {
		r.t.Fatal(err)
	}
	return b.Bytes()
}
