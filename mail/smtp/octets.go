package smtp

import "encoding/binary"

// HasEightBit tells whether b holds octets above 127.
func HasEightBit(b []byte) bool {
	const high = 0x8080808080808080
	for len(b) >= 32 {
		w := binary.NativeEndian.Uint64(b) | binary.NativeEndian.Uint64(b[8:]) |
			binary.NativeEndian.Uint64(b[16:]) | binary.NativeEndian.Uint64(b[24:])
		if w&high != 0 {
			return true
		}
		b = b[32:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// EqualFold compares without regard to ASCII case; upper is upper case.
func EqualFold(s []byte, upper string) bool {
	if len(s) != len(upper) {
		return false
	}
	for i, c := range s {
		if c >= 'a' && c <= 'z' {
			c -= 0x20
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}
