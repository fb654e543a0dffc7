package events

import (
	"encoding/binary"
	"math/bits"

	"github.com/ekiden-mta/ekiden/mail"
)

// printKey is the key of the fingerprints, derived from the root key: without it a fingerprint says nothing, not even
// whether two stores know the same address.
type printKey struct{ k0, k1 uint64 }

func newPrintKey(k [16]byte) printKey {
	return printKey{binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:])}
}

// ofMessage and ofAddress return the four bytes by which the index knows a message and a recipient (folded, so that
// case does not matter). Two things may share a fingerprint; whoever finds one looks into the block.
func (k printKey) ofMessage(m mail.MessageID) uint32 {
	var raw [13]byte
	raw[0] = 'm'
	binary.BigEndian.PutUint32(raw[1:], uint32(m.Lineage))
	binary.BigEndian.PutUint64(raw[5:], uint64(m.Seq))
	return uint32(k.sum(raw[:]))
}

func (k printKey) ofAddress(a mail.Address) uint32 {
	var buf [128]byte
	raw := append(append(buf[:0], 'a'), a...)
	for i := 1; i < len(raw); i++ {
		c := raw[i]
		if c >= 0x80 { // beyond ASCII the rules of Fold are not a matter of one byte
			raw = append(append(raw[:0], 'a'), a.Fold()...)
			break
		}
		if c >= 'A' && c <= 'Z' {
			raw[i] = c + 'a' - 'A'
		}
	}
	return uint32(k.sum(raw))
}

// sum is SipHash-2-4 (Aumasson, Bernstein 2012): a short keyed hash that a reader of the disk cannot invert or collide.
func (k printKey) sum(p []byte) uint64 {
	v0, v1 := k.k0^0x736f6d6570736575, k.k1^0x646f72616e646f6d
	v2, v3 := k.k0^0x6c7967656e657261, k.k1^0x7465646279746573
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	last := uint64(len(p)) << 56
	for ; len(p) >= 8; p = p[8:] {
		m := binary.LittleEndian.Uint64(p)
		v3 ^= m
		round()
		round()
		v0 ^= m
	}
	for i, b := range p {
		last |= uint64(b) << (8 * i)
	}
	v3 ^= last
	round()
	round()
	v0 ^= last
	v2 ^= 0xff
	for range 4 {
		round()
	}
	return v0 ^ v1 ^ v2 ^ v3
}
