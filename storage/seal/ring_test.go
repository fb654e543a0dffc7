package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func mustRoot(t testing.TB) *Root {
	t.Helper()
	root, err := NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func mustRing(t testing.TB) *Ring {
	t.Helper()
	return NewRing(mustRoot(t))
}

func TestRootFromWipesItsArgument(t *testing.T) {
	key := bytes.Repeat([]byte{7}, KeySize)
	root, err := RootFrom(key)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(key, make([]byte, KeySize)) {
		t.Error("the caller still holds the key")
	}
	again, err := RootFrom(bytes.Repeat([]byte{7}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	if root.Derive("a") != again.Derive("a") || root.Derive("a") == root.Derive("b") {
		t.Error("derived keys must follow from root and purpose, and from both")
	}
	short := []byte{1, 2, 3}
	if _, err := RootFrom(short); !errors.Is(err, ErrKeySize) || short[0] != 0 {
		t.Errorf("short key: err %v, argument %v", err, short)
	}
	for range 2 {
		if err := root.Close(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a closed root must not derive")
		}
	}()
	root.Derive("a")
}

func TestSealOpen(t *testing.T) {
	ring := mustRing(t)
	for _, plain := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("mail "), 5000)} {
		sealed := ring.Seal([]byte("prefix"), plain, []byte("id 1"))
		if !bytes.HasPrefix(sealed, []byte("prefix")) || len(sealed) != 6+len(plain)+Overhead {
			t.Fatalf("sealed %d bytes into %d", len(plain), len(sealed))
		}
		if len(plain) > 8 && bytes.Contains(sealed, plain[:8]) {
			t.Fatal("plaintext shows")
		}
		got, err := ring.Open([]byte("out:"), sealed[6:], []byte("id 1"))
		if err != nil || !bytes.Equal(got, append([]byte("out:"), plain...)) {
			t.Fatalf("opened %d bytes, err %v", len(got), err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	ring := mustRing(t)
	plain, aad := []byte("a body that nobody may change"), []byte("delivery 1")
	sealed := ring.Seal(nil, plain, aad)
	other := ring.Seal(nil, plain, []byte("delivery 2"))
	cut := func(n int) []byte { return sealed[:n] }
	splice := func(head, tail []byte, at int) []byte { return append(bytes.Clone(head[:at]), tail[at:]...) }
	rows := []struct {
		name   string
		sealed []byte
		aad    []byte
		want   error
	}{
		{"nothing", nil, aad, ErrFormat},
		{"header only", cut(headerSize), aad, ErrFormat},
		{"one byte short of empty", cut(Overhead - 1), aad, ErrFormat},
		{"truncated", cut(len(sealed) - 1), aad, ErrTampered},
		{"truncated to no body", cut(Overhead), aad, ErrTampered},
		{"longer", append(bytes.Clone(sealed), 0), aad, ErrTampered},
		{"other identity", sealed, []byte("delivery 2"), ErrTampered},
		{"no identity", sealed, nil, ErrTampered},
		{"swapped with another record", other, aad, ErrTampered},
		{"another record's body", splice(sealed, other, headerSize), aad, ErrTampered},
		{"another record's tag", splice(sealed, other, len(sealed)-tagSize), aad, ErrTampered},
		{"key of another ring", mustRing(t).Seal(nil, plain, aad), aad, ErrNoKey},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			dst := []byte("kept")
			got, err := ring.Open(dst, row.sealed, row.aad)
			if !errors.Is(err, row.want) || string(got) != "kept" {
				t.Errorf("got %q, %v; want %v", got, err, row.want)
			}
		})
	}
	for i := range len(sealed) * 8 {
		bad := bytes.Clone(sealed)
		bad[i/8] ^= 1 << (i % 8)
		if got, err := ring.Open(nil, bad, aad); err == nil || len(got) != 0 {
			t.Fatalf("bit %d flipped: got %q, %v", i, got, err)
		}
	}
}

func TestRestore(t *testing.T) {
	root := mustRoot(t)
	first := NewRing(root)
	if first.TakeNew() != nil {
		t.Fatal("a ring that sealed nothing made a key")
	}
	sealed := first.Seal(nil, []byte("body"), []byte("id"))
	keys := first.TakeNew()
	if len(keys) != 1 || first.TakeNew() != nil || keys[0].ID != KeyID(sealed) {
		t.Fatalf("keys %v for a record of key %d", keys, KeyID(sealed))
	}

	second := NewRing(root)
	for range 2 {
		if err := second.Restore(keys[0]); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := second.Open(nil, sealed, []byte("id")); err != nil || string(got) != "body" {
		t.Fatalf("got %q, %v", got, err)
	}
	if own := second.Seal(nil, nil, nil); KeyID(own) == keys[0].ID {
		t.Error("a restored key sealed: its counters may repeat")
	}

	foreign := NewRing(mustRoot(t))
	flipped := WrappedKey{ID: keys[0].ID, Blob: bytes.Clone(keys[0].Blob)}
	flipped.Blob[20] ^= 1
	for name, err := range map[string]error{
		"other root":  foreign.Restore(keys[0]),
		"other id":    second.Restore(WrappedKey{ID: keys[0].ID + 1, Blob: keys[0].Blob}),
		"bit flipped": second.Restore(flipped),
		"truncated":   second.Restore(WrappedKey{ID: keys[0].ID, Blob: keys[0].Blob[:40]}),
		"empty":       second.Restore(WrappedKey{}),
	} {
		if !errors.Is(err, ErrWrappedKey) {
			t.Errorf("%s: %v", name, err)
		}
	}

	second.Forget(keys[0].ID)
	if _, err := second.Open(nil, sealed, []byte("id")); !errors.Is(err, ErrNoKey) {
		t.Errorf("after Forget: %v", err)
	}
	first.Forget(keys[0].ID)
	if _, err := first.Open(nil, sealed, []byte("id")); err != nil {
		t.Errorf("the key in use was forgotten: %v", err)
	}
}

func TestNonceNeverRepeats(t *testing.T) {
	ring := mustRing(t)
	const sealers, each = 8, 4000
	seen := make([]map[[nonceSize]byte]bool, sealers)
	var wg sync.WaitGroup
	for i := range sealers {
		wg.Go(func() {
			seen[i] = map[[nonceSize]byte]bool{}
			for range each {
				sealed := ring.Seal(nil, []byte("x"), nil)
				seen[i][[nonceSize]byte(sealed[1:])] = true
				if cur := ring.current.Load(); i == 0 && len(seen[i])%100 == 0 {
					cur.old.Store(true) // rotation in the middle of it
				}
			}
		})
	}
	wg.Wait()
	all := map[[nonceSize]byte]bool{}
	for _, m := range seen {
		for n := range m {
			all[n] = true
		}
	}
	if len(all) != sealers*each {
		t.Errorf("%d records shared %d nonces", sealers*each, len(all))
	}
	if made := len(ring.TakeNew()); made < each/100 {
		t.Errorf("only %d keys made", made)
	}
}

func TestRotation(t *testing.T) {
	t.Run("by size", func(t *testing.T) {
		ring := mustRing(t)
		first := KeyID(ring.Seal(nil, nil, nil))
		ring.current.Load().bytes.Store(maxKeyBytes - 10)
		if id := KeyID(ring.Seal(nil, make([]byte, 10), nil)); id != first {
			t.Error("rotated before the limit")
		}
		if id := KeyID(ring.Seal(nil, []byte{1}, nil)); id == first {
			t.Error("not rotated beyond 1 GiB")
		}
	})
	t.Run("by records", func(t *testing.T) {
		ring := mustRing(t)
		first := KeyID(ring.Seal(nil, nil, nil))
		ring.current.Load().records.Store(maxKeyRecords - 1)
		last := ring.Seal(nil, nil, nil)
		if KeyID(last) != first || binary.BigEndian.Uint64(last[5:]) != maxKeyRecords {
			t.Error("the last allowed record was not sealed under the key")
		}
		if id := KeyID(ring.Seal(nil, nil, nil)); id == first {
			t.Error("not rotated after 2^32 records")
		}
	})
	t.Run("by age", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ring := mustRing(t)
			first := KeyID(ring.Seal(nil, nil, nil))
			time.Sleep(maxKeyAge - time.Second)
			if KeyID(ring.Seal(nil, nil, nil)) != first {
				t.Error("rotated within the hour")
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if KeyID(ring.Seal(nil, nil, nil)) == first {
				t.Error("not rotated after an hour")
			}
		})
	})
}

func TestIndex(t *testing.T) {
	root := mustRoot(t)
	ring, again, other := NewRing(root), NewRing(root), mustRing(t)
	base := ring.Index("domain", []byte("docomo.ne.jp"))
	if base != again.Index("domain", []byte("docomo.ne.jp")) || base != ring.Index("domain", []byte("docomo.ne.jp")) {
		t.Error("the same data must have the same name under one root")
	}
	for name, got := range map[string][16]byte{
		"other root":    other.Index("domain", []byte("docomo.ne.jp")),
		"other purpose": ring.Index("rcpt", []byte("docomo.ne.jp")),
		"other data":    ring.Index("domain", []byte("docomo.ne.jq")),
		"other border":  ring.Index("domaind", []byte("ocomo.ne.jp")),
	} {
		if got == base {
			t.Errorf("%s: same name", name)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				if ring.Index("domain", []byte("docomo.ne.jp")) != base {
					t.Error("concurrent callers disagree")
				}
			}
		})
	}
	wg.Wait()
}

func TestHotPathAllocatesNothing(t *testing.T) {
	ring := mustRing(t)
	plain, aad := make([]byte, 1200), []byte("identity of the record")
	dst, out := make([]byte, 0, 2048), make([]byte, 0, 2048)
	ring.Seal(dst, plain, aad)
	ring.TakeNew()
	ring.Index("domain", aad)
	if n := testing.AllocsPerRun(200, func() {
		sealed := ring.Seal(dst, plain, aad)
		if _, err := ring.Open(out, sealed, aad); err != nil {
			t.Fatal(err)
		}
		ring.TakeNew()
	}); n != 0 {
		t.Errorf("%v allocations to seal and open", n)
	}
	if raceEnabled {
		return // the race detector makes sync.Pool drop items at random
	}
	if n := testing.AllocsPerRun(200, func() { ring.Index("domain", aad) }); n != 0 {
		t.Errorf("%v allocations to index", n)
	}
}

func FuzzOpen(f *testing.F) {
	ring := mustRing(f)
	sealed := ring.Seal(nil, []byte("body"), []byte("id"))
	f.Add(sealed, []byte("id"))
	f.Add(sealed[:Overhead], []byte{})
	f.Add([]byte{}, []byte("id"))
	f.Fuzz(func(t *testing.T, record, aad []byte) {
		got, err := ring.Open(nil, record, aad)
		if err == nil && !(bytes.Equal(record, sealed) && string(aad) == "id") {
			t.Errorf("opened %x as %q", record, got)
		}
		if err != nil && len(got) != 0 {
			t.Errorf("%d bytes leaked with %v", len(got), err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	ring := mustRing(b)
	for _, size := range []struct {
		name string
		n    int
	}{{"128", 128}, {"1200", 1200}, {"16384", 16384}} {
		b.Run(size.name, func(b *testing.B) {
			plain, aad, dst := make([]byte, size.n), make([]byte, 20), make([]byte, 0, size.n+Overhead)
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				ring.Seal(dst, plain, aad)
			}
		})
	}
}

func BenchmarkIndex(b *testing.B) {
	ring := mustRing(b)
	data := []byte("someone@docomo.ne.jp")
	b.ReportAllocs()
	for b.Loop() {
		ring.Index("rcpt", data)
	}
}
