package queue

import (
	"errors"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// TestRewrap rotates the root key under a store with mail in it, and lets nothing of the former root be left.
func TestRewrap(t *testing.T) {
	keys, store := t.TempDir(), t.TempDir()
	vault, err := seal.OpenVault(keys, seal.Config{Providers: []seal.Provider{{Kind: seal.KindRecovery}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = vault.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	open := func() *Store {
		s, err := Open(Config{Dir: store, Ring: seal.NewRing(vault.Root()), Clock: &clock.Clock{}, MinFree: 1, Ballast: -1})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	ids := map[mail.MessageID]string{}
	put := func(body string) {
		t.Helper()
		a := newMessage(s, time.Unix(1_800_000_000, 0), []byte(body), "user@example.jp")
		if err := wait(func(done func(error)) { s.Put(a, done) }); err != nil {
			t.Fatal(err)
		}
		ids[a.ID] = body
	}
	put("before")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	put("before, under another data key")
	d, err := vault.Draw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	code, err := vault.Take(d)
	if err != nil {
		t.Fatal(err)
	}
	d.Wipe()
	put("staged") // still under the former root
	vault.Root().Enforce()
	put("between")
	for range 2 { // the second finds nothing to do
		if err := s.Rewrap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := vault.DropOlder(); err != nil {
		t.Fatal(err)
	}
	put("after")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Rewrap(t.Context()); !errors.Is(err, ErrClosed) {
		t.Fatalf("on a closed store: %v", err)
	}
	if err := vault.Close(); err != nil {
		t.Fatal(err)
	}
	if vault, err = seal.OpenVault(keys, seal.Config{Providers: []seal.Provider{{Kind: seal.KindRecovery}}}); err != nil {
		t.Fatal(err)
	}
	defer vault.Close()
	if err := vault.Unseal(t.Context(), time.Unix(1_800_000_000, 0), code); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	r := &rig{t: t, Store: s}
	for id, want := range ids {
		if got := r.body(id); got != want {
			t.Errorf("body %q, want %q", got, want)
		}
	}
	if old, err := s.oldKeys(); err != nil || len(old) > 0 {
		t.Fatalf("%d keys of the former root, %v", len(old), err)
	}
}
