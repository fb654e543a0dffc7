package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
)

// A recovery code is 160 random bits, written as eight groups of five symbols of Crockford's base 32: four symbols of
// the code and one check symbol, which follows from these four and the group's place. A slip of the pen is thus told
// from a wrong code, and the group is named, before any key is tried and without knowing the right code.
const (
	codeSize   = 20
	codeGroups = 8
	groupData  = 4
	groupSize  = groupData + 1
	codeDigits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	// maxCodeText bounds what parseCode looks at: a code with generous white space, in bytes.
	maxCodeText = 256
)

// ErrTypo is reported for a text that cannot be a recovery code; the error's text names the first bad group.
var ErrTypo = errors.New("recovery code is mistyped")

// newCode draws a recovery code. The caller wipes it when it is wrapped.
func newCode() (code [codeSize]byte) {
	rand.Read(code[:])
	return code
}

// codeText returns the form that is shown once: eight groups of five symbols, joined by "-".
func codeText(code [codeSize]byte) string {
	var out strings.Builder
	for g := range codeGroups {
		if g > 0 {
			out.WriteByte('-')
		}
		symbols := groupSymbols(code, g)
		for _, s := range symbols {
			out.WriteByte(codeDigits[s])
		}
		out.WriteByte(codeDigits[checkSymbol(g, symbols)])
	}
	return out.String()
}

// groupSymbols returns the four 5-bit symbols of group g: 20 bits, from bit 20·g on.
func groupSymbols(code [codeSize]byte, g int) (symbols [groupData]byte) {
	for i := range symbols {
		for bit := range 5 {
			at := 20*g + 5*i + bit
			symbols[i] = symbols[i]<<1 | code[at/8]>>(7-at%8)&1
		}
	}
	return symbols
}

// parseCode reads a code as people type it: case, spaces and dashes do not matter, O is 0, I and L are 1.
func parseCode(text string) (code [codeSize]byte, err error) {
	if len(text) > maxCodeText {
		return code, fmt.Errorf("%w: it is longer than a code", ErrTypo)
	}
	var symbols [codeGroups * groupSize]byte
	n := 0
	for _, c := range strings.ToUpper(text) {
		switch c {
		case '-', ' ', '\t', '\r', '\n':
			continue
		case 'O':
			c = '0'
		case 'I', 'L':
			c = '1'
		}
		v := strings.IndexRune(codeDigits, c)
		if v < 0 || n == len(symbols) {
			return code, fmt.Errorf("%w: group %d", ErrTypo, min(n/groupSize+1, codeGroups))
		}
		symbols[n] = byte(v)
		n++
	}
	if n != len(symbols) {
		return code, fmt.Errorf("%w: it has %d symbols, not %d", ErrTypo, n, len(symbols))
	}
	for g := range codeGroups {
		group := symbols[g*groupSize:][:groupSize]
		if checkSymbol(g, [groupData]byte(group)) != group[groupData] {
			return [codeSize]byte{}, fmt.Errorf("%w: group %d", ErrTypo, g+1)
		}
		for i, s := range group[:groupData] {
			for bit := range 5 {
				at := 20*g + 5*i + bit
				code[at/8] |= s >> (4 - bit) & 1 << (7 - at%8)
			}
		}
	}
	return code, nil
}

// checkSymbol returns g + a·s0 + a²·s1 + a³·s2 + a⁴·s3 over GF(32). The weights differ and are not zero or one, so every
// single wrong symbol and every swap of two symbols of a group shows, and the place in front shows swapped groups.
func checkSymbol(g int, symbols [groupData]byte) byte {
	sum := byte(0)
	for i := groupData - 1; i >= 0; i-- {
		sum = timesA(sum ^ symbols[i]) // Horner
	}
	return sum ^ byte(g)
}

// timesA multiplies by a, the root of x⁵+x²+1, in GF(32).
func timesA(v byte) byte {
	v <<= 1
	if v&0x20 != 0 {
		v ^= 0x25
	}
	return v
}
