package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"testing"
)

// Derive computes by hand what crypto/hkdf computes: HKDF-Expand of the root key.
func TestDeriveIsHKDF(t *testing.T) {
	key := bytes.Repeat([]byte{0x3c, 7}, KeySize/2)
	root, err := RootFrom(bytes.Clone(key))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, purpose := range []string{"queue", "index", "a purpose that is longer than one block of the hash, 64 bytes that is"} {
		want, err := hkdf.Expand(sha256.New, key, "ekiden/1/"+purpose, KeySize)
		if err != nil {
			t.Fatal(err)
		}
		if got := root.Derive(purpose); !bytes.Equal(got[:], want) {
			t.Errorf("%s: %x, want %x", purpose, got, want)
		}
	}
}
