package seal

import (
	"bytes"
	"testing"
)

func TestBox(t *testing.T) {
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, KeySize) }
	mustBox := func(key []byte, purpose string) *Box {
		root, err := RootFrom(key)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		return NewBox(root, purpose)
	}
	own := mustBox(key(1), "ledger")
	plain, aad := []byte("user@example.jp"), []byte("entry 7")
	sealed := own.Seal([]byte("kept"), plain, aad)[4:]
	if bytes.Contains(sealed, plain) {
		t.Fatal("the plaintext shows")
	}
	if bytes.Equal(sealed, own.Seal(nil, plain, aad)) {
		t.Fatal("two records of the same plaintext are the same: the nonce was used twice")
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)/2] ^= 1
	for _, row := range []struct {
		name   string
		box    *Box
		sealed []byte
		aad    []byte
		err    error
	}{
		{"another member with the same root", mustBox(key(1), "ledger"), sealed, aad, nil},
		{"another purpose", mustBox(key(1), "wire"), sealed, aad, ErrTampered},
		{"another root", mustBox(key(2), "ledger"), sealed, aad, ErrTampered},
		{"another identity", own, sealed, []byte("entry 8"), ErrTampered},
		{"a flipped bit", own, flipped, aad, ErrTampered},
		{"cut short", own, sealed[:BoxOverhead-1], aad, ErrFormat},
		{"another version", own, append([]byte{9}, sealed[1:]...), aad, ErrFormat},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := row.box.Open([]byte("kept"), row.sealed, row.aad)
			if err != row.err {
				t.Fatalf("error %v, want %v", err, row.err)
			}
			if want := "kept" + string(plain); err == nil && string(got) != want {
				t.Fatalf("opened %q, want %q", got, want)
			}
			if err != nil && string(got) != "kept" {
				t.Fatalf("bytes left the box with an error: %q", got)
			}
		})
	}
	if own.Index("address", plain) != mustBox(key(1), "wire").Index("address", plain) {
		t.Fatal("members name the same address differently")
	}
}
