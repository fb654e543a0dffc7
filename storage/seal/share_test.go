package seal

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestShare(t *testing.T) {
	founder := mustVault(t, t.TempDir(), Config{})
	code := mustInit(t, founder)
	mustShare := func() *Share {
		s, err := founder.Share()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	foreign := mustVault(t, t.TempDir(), Config{})
	mustInit(t, foreign)
	if err := foreign.Close(); err != nil {
		t.Fatal(err)
	}
	if err := foreign.Receive(t.Context(), mustShare()); !errors.Is(err, ErrForeign) {
		t.Fatalf("keys of another cluster: %v", err)
	}

	dir := t.TempDir()
	joiner := mustVault(t, dir, Config{})
	share := mustShare()
	if err := joiner.Receive(t.Context(), share); err != nil || joiner.State() != Unsealed {
		t.Fatalf("receive: %v, state %s", err, joiner.State())
	}
	if !bytes.Equal(share.Key, make([]byte, KeySize)) {
		t.Fatal("the key was not wiped")
	}
	if joiner.Identity() != founder.Identity() {
		t.Fatal("members have different identities")
	}
	box := NewBox(founder.Root(), "x").Seal(nil, []byte("plain"), nil)
	if got, err := NewBox(joiner.Root(), "x").Open(nil, box, nil); err != nil || string(got) != "plain" {
		t.Fatalf("members do not open each other's records: %v", err)
	}

	t.Run("the code opens every member after a reboot", func(t *testing.T) {
		again := mustVault(t, dir, Config{})
		if again.State() != Sealed {
			t.Fatalf("state %s", again.State())
		}
		if _, err := again.Share(); !errors.Is(err, ErrSealed) {
			t.Fatalf("a sealed vault shares: %v", err)
		}
		if err := again.Unseal(t.Context(), time.Now(), code); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a sealed member receives again", func(t *testing.T) {
		again := mustVault(t, dir, Config{})
		if err := again.Receive(t.Context(), mustShare()); err != nil || again.State() != Unsealed {
			t.Fatalf("receive: %v", err)
		}
	})
	t.Run("a wrong key changes nothing", func(t *testing.T) {
		again := mustVault(t, dir, Config{})
		bad := mustShare()
		bad.Key[0] ^= 1
		if err := again.Receive(t.Context(), bad); err == nil || again.State() != Sealed {
			t.Fatalf("accepted a wrong key: state %s", again.State())
		}
	})
	t.Run("enrolled without the key, opened by the code", func(t *testing.T) {
		fresh := mustVault(t, t.TempDir(), Config{})
		file, _, err := founder.Recovery()
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Replace(file, []byte(`"version": 1`), []byte(`"version": 2`), 1)
		if err := fresh.Enrol(damaged); !errors.Is(err, ErrDamaged) || fresh.State() != New {
			t.Fatalf("damaged file: %v, state %s", err, fresh.State())
		}
		if err := fresh.Enrol(file); err != nil || fresh.State() != Sealed {
			t.Fatalf("enrol: %v, state %s", err, fresh.State())
		}
		if err := fresh.Unseal(t.Context(), time.Now(), code); err != nil {
			t.Fatal(err)
		}
		if err := fresh.Enrol(file); !errors.Is(err, ErrNotNew) {
			t.Fatalf("enrolled twice: %v", err)
		}
	})
}
