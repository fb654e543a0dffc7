package smtp

import (
	"bytes"
	"testing"
)

func TestHasEightBit(t *testing.T) {
	for n := range 100 {
		b := bytes.Repeat([]byte{0x7f}, n)
		if HasEightBit(b) {
			t.Fatalf("%d octets of ASCII", n)
		}
		for i := range b {
			b[i] = 0x80
			if !HasEightBit(b) {
				t.Fatalf("octet %d of %d", i, n)
			}
			b[i] = 0x7f
		}
	}
}
