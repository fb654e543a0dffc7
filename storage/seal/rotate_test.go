package seal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var rotateNow = time.Unix(1_800_000_000, 0)

// rotate gives v another root key that is in force at once.
func rotate(ctx context.Context, v *Vault) (code string, err error) {
	d, err := v.Draw(ctx)
	if err != nil {
		return "", err
	}
	defer d.Wipe()
	if code, err = v.Take(d); err == nil {
		v.Root().Enforce()
	}
	return code, err
}

// reopened closes v and opens its directory with code.
func reopened(t *testing.T, v *Vault, dir, code string) *Vault {
	t.Helper()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = mustVault(t, dir, Config{})
	if err := v.Unseal(t.Context(), rotateNow, code); err != nil {
		t.Fatalf("unseal: %v", err)
	}
	v.Root().Enforce()
	return v
}

func TestRotate(t *testing.T) {
	dir := t.TempDir()
	v := mustVault(t, dir, Config{})
	if _, err := rotate(t.Context(), v); !errors.Is(err, ErrSealed) {
		t.Fatalf("rotation of a new vault: %v", err)
	}
	first := mustInit(t, v)
	ring, box := NewRing(v.Root()), NewBox(v.Root(), BoxAgreed)
	name := ring.Index("address", []byte("user@example.jp"))
	record := ring.Seal(nil, []byte("body"), []byte("id"))
	keys := ring.TakeNew()
	boxed := [][]byte{box.Seal(nil, []byte("entry"), []byte("1"))}
	var codes []string
	for range 2 {
		code, err := rotate(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, code)
		box.Renew(v.Root())
		boxed = append(boxed, box.Seal(nil, []byte("entry"), []byte("1")))
	}
	if v.Root().Version() != 3 || boxed[2][0] != 3 {
		t.Fatalf("version %d, box seals with %d", v.Root().Version(), boxed[2][0])
	}
	if files, err := filepath.Glob(dir + "/*"); err != nil || len(files) != 1 {
		t.Fatalf("left beside the keys: %v, %v", files, err)
	}
	check := func(when string) {
		t.Helper()
		ring, box := NewRing(v.Root()), NewBox(v.Root(), BoxAgreed)
		if ring.Index("address", []byte("user@example.jp")) != name || box.Index("address", []byte("user@example.jp")) != name {
			t.Errorf("%s: another name in store keys", when)
		}
		for i, b := range boxed {
			if got, err := box.Open(nil, b, []byte("1")); err != nil || string(got) != "entry" {
				t.Errorf("%s: boxed under version %d: %q, %v", when, i+1, got, err)
			}
		}
		for _, k := range keys {
			if err := ring.Restore(k); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		if got, err := ring.Open(nil, record, []byte("id")); err != nil || string(got) != "body" {
			t.Errorf("%s: record: %q, %v", when, got, err)
		}
	}
	check("rotated")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = mustVault(t, dir, Config{})
	for _, code := range []string{first, codes[0]} {
		if err := v.Unseal(t.Context(), rotateNow, code); !errors.Is(err, ErrWrongCode) {
			t.Fatalf("a former code: %v", err)
		}
	}
	v = reopened(t, v, dir, codes[1])
	check("reopened")

	old := keys[0]
	for i, k := range keys {
		fresh, changed, err := NewRing(v.Root()).Rewrap(k)
		if err != nil || !changed {
			t.Fatalf("rewrap: %v, %v", changed, err)
		}
		keys[i] = fresh
	}
	if _, changed, err := NewRing(v.Root()).Rewrap(keys[0]); err != nil || changed {
		t.Fatalf("rewrapped twice: %v, %v", changed, err)
	}
	for range 2 {
		if err := v.DropOlder(); err != nil {
			t.Fatal(err)
		}
		check("dropped")
		if err := NewRing(v.Root()).Restore(old); !errors.Is(err, ErrWrappedKey) {
			t.Fatalf("a key of the former root: %v", err)
		}
		v = reopened(t, v, dir, codes[1])
	}
	check("reopened after the drop")

	// Another member that is given the key carries over the same.
	share, err := v.Share()
	if err != nil {
		t.Fatal(err)
	}
	v = mustVault(t, t.TempDir(), Config{})
	if err := v.Receive(t.Context(), share); err != nil {
		t.Fatal(err)
	}
	v.Root().Enforce()
	check("another member")
}

func TestRotateProviders(t *testing.T) {
	dir, cfg := t.TempDir(), Config{Providers: fileProvider(keyFile(t, 5)), Loopback: true}
	v := mustVault(t, dir, cfg)
	mustInit(t, v)
	if _, err := rotate(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	name := NewRing(v.Root()).Index("a", nil)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = mustVault(t, dir, cfg)
	if by, err := v.AutoUnseal(t.Context()); err != nil || by != KindFile {
		t.Fatalf("opened by %q: %v", by, err)
	}
	if v.Root().Version() != 2 || NewRing(v.Root()).Index("a", nil) != name {
		t.Fatal("the provider opened the keys without their heritage")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "keys", recoveryFile)); err != nil {
		t.Fatal(err)
	}
	v = mustVault(t, dir, cfg)
	if _, err := v.AutoUnseal(t.Context()); !errors.Is(err, ErrSealed) {
		t.Fatalf("opened without the heritage: %v", err)
	}
}

// TestEnrolMissing: a provider that does not answer while the root key changes, here or at another member, opens the node again
// once it was asked later.
func TestEnrolMissing(t *testing.T) {
	key := keyFile(t, 6)
	mustMove := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{Providers: []Provider{{Kind: KindExec, Command: "cat " + key}, {Kind: KindRecovery}}}
	a, b := mustVault(t, t.TempDir(), cfg), mustVault(t, t.TempDir(), cfg)
	mustInit(t, a)
	share, err := a.Share()
	if err == nil {
		err = b.Receive(t.Context(), share)
	}
	if err != nil || a.Unenrolled() || b.Unenrolled() {
		t.Fatalf("%v; a provider that answered is missing: %v %v", err, a.Unenrolled(), b.Unenrolled())
	}
	mustMove(key, key+".down")
	staged(t, a)
	if err := handOver(t, a, b); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]*Vault{"drawn": a, "handed over": b} {
		if !v.Unenrolled() || v.EnrolMissing(t.Context()) == nil || !v.Unenrolled() {
			t.Fatalf("%s: a provider that is down is enrolled", name)
		}
	}
	mustMove(key+".down", key)
	for name, v := range map[string]*Vault{"drawn": a, "handed over": b} {
		if err := v.EnrolMissing(t.Context()); err != nil || v.Unenrolled() {
			t.Fatalf("%s: %v, still missing: %v", name, err, v.Unenrolled())
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		v = mustVault(t, filepath.Dir(v.dir), cfg)
		if v.Unenrolled() {
			t.Errorf("%s: sealed, and a provider is to be enrolled", name)
		}
		if by, err := v.AutoUnseal(t.Context()); by != KindExec || err != nil || v.Root().Version() != 2 || v.Unenrolled() {
			t.Errorf("%s: opened by %q: %v", name, by, err)
		}
	}
}

// TestRotateCut ends a rotation at each step on the disk, as a crash does.
func TestRotateCut(t *testing.T) {
	mv := func(from, to string) func(string) error {
		return func(keys string) error { return os.Rename(keys+from, keys+to) }
	}
	for _, row := range []struct {
		name  string
		steps []func(string) error
		after bool // the new code holds
	}{
		{"new files written", nil, false},
		{"between the renames", []func(string) error{mv("", replacedSuffix)}, false},
		{"both renamed", []func(string) error{mv("", replacedSuffix), mv(freshSuffix, "")}, false},
		{"in force", []func(string) error{mv("", replacedSuffix), mv(freshSuffix, ""), mv(replacedSuffix, spentSuffix)}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			v := mustVault(t, dir, Config{})
			code := mustInit(t, v)
			next := mustRoot(t)
			next.inherit(v.Root().bequeath())
			raw := newCode()
			if _, err := v.writeDir(nil, v.store, next.copyKey(), next, raw); err != nil {
				t.Fatal(err)
			}
			for _, step := range row.steps {
				if err := step(v.dir); err != nil {
					t.Fatal(err)
				}
			}
			if row.after {
				code = codeText(raw)
			}
			v = reopened(t, v, dir, code)
			if _, err := rotate(t.Context(), v); err != nil {
				t.Fatalf("the next rotation: %v", err)
			}
			if files, err := filepath.Glob(dir + "/*"); err != nil || len(files) != 1 {
				t.Fatalf("left beside the keys: %v, %v", files, err)
			}
		})
	}
}

func TestRotateFails(t *testing.T) {
	dir := t.TempDir()
	v := mustVault(t, dir, Config{})
	code := mustInit(t, v)
	name, check := NewRing(v.Root()).Index("a", nil), string(v.Root().check())
	if err := os.RemoveAll(v.dir + freshSuffix); err != nil {
		t.Fatal(err)
	}
	if err := v.swapDir(v.dir + freshSuffix); err == nil {
		t.Fatal("files that are not there were put in place")
	}
	if string(v.Root().check()) != check {
		t.Fatal("the root changed although the rotation failed")
	}
	v = reopened(t, v, dir, code)
	if NewRing(v.Root()).Index("a", nil) != name {
		t.Fatal("another name in store keys")
	}
}

func TestHeritageDamaged(t *testing.T) {
	dir := t.TempDir()
	v := mustVault(t, dir, Config{})
	mustInit(t, v)
	code, err := rotate(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(v.dir, recoveryFile)
	whole, err := readSlot(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		damage func(*slot)
		open   bool // OpenVault sees it already
	}{
		{"a flipped bit", func(s *slot) { s.Heritage[20] ^= 1 }, false},
		{"cut short", func(s *slot) { s.Heritage = s.Heritage[:5] }, false},
		{"another version", func(s *slot) { s.Root++ }, false},
		{"none", func(s *slot) { s.Heritage = nil }, true},
		{"none, and said to be the first", func(s *slot) { s.Heritage, s.Root = nil, 0 }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := *whole
			s.Heritage = append(hexBytes(nil), whole.Heritage...)
			row.damage(&s)
			s.Sum = s.sum()
			if err := writeSlot(v.dir, recoveryFile, &s); err != nil {
				t.Fatal(err)
			}
			other, err := OpenVault(dir, Config{Providers: codeOnly})
			if row.open {
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("open: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := other.Unseal(t.Context(), rotateNow, code); err == nil {
				t.Fatal("unsealed with a heritage that is not the root's")
			}
		})
	}
}

func FuzzHeritage(f *testing.F) {
	f.Add([]byte{})
	h := &heritage{version: 2, index: make([]byte, KeySize), wrapping: [][]byte{make([]byte, KeySize)},
		boxes: []oldBox{{BoxAgreed, 1, make([]byte, KeySize)}}}
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if h := decodeHeritage(data); h != nil && string(h.encode()) != string(data) {
			t.Fatal("read and written again it is another")
		}
	})
}
