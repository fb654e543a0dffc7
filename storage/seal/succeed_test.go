package seal

import (
	"bytes"
	"errors"
	"testing"
)

// two returns two members of one cluster, with the recovery code of both.
func two(t *testing.T) (a, b *Vault, code string) {
	t.Helper()
	a, b = mustVault(t, t.TempDir(), Config{}), mustVault(t, t.TempDir(), Config{})
	code = mustInit(t, a)
	share, err := a.Share()
	if err == nil {
		err = b.Receive(t.Context(), share)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a, b, code
}

// staged gives v another root key, which is not in force.
func staged(t *testing.T, v *Vault) (code string) {
	t.Helper()
	d, err := v.Draw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Wipe()
	if code, err = v.Take(d); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d.Fingerprint, v.Root().Fingerprint()) || !v.Root().Staged() {
		t.Fatal("the key drawn is not the one that was taken")
	}
	return code
}

// handOver gives b the root key of a.
func handOver(t *testing.T, a, b *Vault) error {
	t.Helper()
	share, err := a.ShareFor(b.Root().InUse())
	if err != nil {
		t.Fatal(err)
	}
	key := a.Root().copyKey()
	if bytes.Contains(share.Key, key) {
		t.Fatal("the key travels in the clear")
	}
	return b.Succeed(t.Context(), share)
}

// TestSucceed is a rotation over two members as the vaults see it: whoever is not through yet opens what the other seals.
func TestSucceed(t *testing.T) {
	a, b, former := two(t)
	dir := b.dir[:len(b.dir)-len("/keys")]
	boxA, boxB := NewBox(a.Root(), BoxAgreed), NewBox(b.Root(), BoxAgreed)
	ringA := NewRing(a.Root())
	both := func(when string) {
		t.Helper()
		boxA.Renew(a.Root())
		boxB.Renew(b.Root())
		for i, way := range [][2]*Box{{boxA, boxB}, {boxB, boxA}} {
			if got, err := way[1].Open(nil, way[0].Seal(nil, []byte("entry"), nil), nil); err != nil || string(got) != "entry" {
				t.Fatalf("%s, way %d: %q, %v", when, i, got, err)
			}
		}
		ringA.Retire()
		ringA.Seal(nil, []byte("body"), nil)
		for _, k := range ringA.TakeNew() { // what a standby holds and may have to open
			if err := NewRing(b.Root()).Restore(k); err != nil {
				t.Fatalf("%s: data key: %v", when, err)
			}
		}
	}
	code := staged(t, a)
	if a.Root().InUse() != 1 || a.Root().Version() != 2 {
		t.Fatalf("version %d, in use %d", a.Root().Version(), a.Root().InUse())
	}
	both("one holds the new key")
	if err := a.DropOlder(); err == nil {
		t.Fatal("the former key was dropped while it seals")
	}
	if err := handOver(t, a, b); err != nil {
		t.Fatal(err)
	}
	both("both hold it")
	useA, otherA := a.Root().GossipKeys()
	useB, otherB := b.Root().GossipKeys()
	if useA != useB || otherA != otherB || useA == otherA {
		t.Fatal("members do not understand each other's gossip")
	}
	a.Root().Enforce()
	both("one seals under it")
	if useA, _ = a.Root().GossipKeys(); useA != otherB {
		t.Fatal("who is behind does not understand the gossip of who is not")
	}
	b.Root().Enforce()
	both("both seal under it")
	if err := handOver(t, a, b); err != nil || b.Root().Staged() {
		t.Fatalf("the same key again: %v", err)
	}

	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = mustVault(t, dir, Config{})
	if err := b.Unseal(t.Context(), rotateNow, former); !errors.Is(err, ErrWrongCode) {
		t.Fatalf("the former code at the other member: %v", err)
	}
	b = reopened(t, b, dir, code)
	both("opened by the code")
}

// TestSucceedLockedOut: who holds the former key and is given no other opens nothing that is sealed afterwards, and who
// has a member's files only is given nothing it can open.
func TestSucceedLockedOut(t *testing.T) {
	a, removed, _ := two(t)
	ring := NewRing(a.Root())
	ring.Seal(nil, []byte("before"), nil)
	before := ring.TakeNew()
	staged(t, a)
	a.Root().Enforce()
	ring.Retire()
	record := ring.Seal(nil, []byte("after"), nil)
	after := ring.TakeNew()
	if len(after) == 0 {
		t.Fatal("the data key of before is used on")
	}
	theirs := NewRing(removed.Root())
	for _, k := range before {
		if err := theirs.Restore(k); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range after {
		if err := theirs.Restore(k); !errors.Is(err, ErrWrappedKey) {
			t.Fatalf("data key of afterwards: %v", err)
		}
	}
	if _, err := theirs.Open(nil, record, nil); !errors.Is(err, ErrNoKey) {
		t.Fatalf("record of afterwards: %v", err)
	}
	boxed := NewBox(a.Root(), BoxAgreed).Seal(nil, []byte("entry"), nil)
	if _, err := NewBox(removed.Root(), BoxAgreed).Open(nil, boxed, nil); err == nil {
		t.Fatal("entry of afterwards opens")
	}

	stranger := mustVault(t, t.TempDir(), Config{})
	mustInit(t, stranger)
	stranger.store = bytes.Clone(a.store) // as if it had the member's files
	if err := handOver(t, a, stranger); err == nil {
		t.Fatal("the key was taken without the former one")
	}
}

// TestSucceedOther: a key that nobody else took yet gives way to another of its version, one in force does not; and a
// sealed member takes the later key, never the earlier one.
func TestSucceedOther(t *testing.T) {
	a, b, _ := two(t)
	c := mustVault(t, t.TempDir(), Config{})
	early, err := a.Share()
	if err != nil {
		t.Fatal(err)
	}
	again := *early
	again.Key = bytes.Clone(early.Key)
	if err := c.Receive(t.Context(), &again); err != nil {
		t.Fatal(err)
	}
	staged(t, a)
	staged(t, b)
	if err := handOver(t, a, b); err != nil || !bytes.Equal(a.Root().Fingerprint(), b.Root().Fingerprint()) {
		t.Fatalf("two that drew at once: %v", err)
	}
	b.Root().Enforce()
	staged(t, b) // version 3
	if err := handOver(t, a, b); !errors.Is(err, ErrOutdated) {
		t.Fatalf("an earlier key: %v", err)
	}

	dir := c.dir[:len(c.dir)-len("/keys")]
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = mustVault(t, dir, Config{})
	late, err := a.Share()
	if err == nil {
		err = c.Receive(t.Context(), late)
	}
	if err != nil || c.Root().Version() != 2 || !c.Root().Staged() {
		t.Fatalf("a sealed member: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = mustVault(t, dir, Config{})
	if err := c.Receive(t.Context(), early); !errors.Is(err, ErrOutdated) {
		t.Fatalf("a sealed member is given an earlier key: %v", err)
	}
	if a.Root().Enforce(); a.Root().Staged() {
		t.Fatal("staged for ever")
	}
	if late, err = a.Share(); err == nil {
		err = c.Receive(t.Context(), late)
	}
	if err != nil || c.Root().Staged() {
		t.Fatalf("a key in force is taken as one: %v", err)
	}
}
