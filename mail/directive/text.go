package directive

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// Bounds of what is read from a field for logs.
const (
	MaxText  = 512  // characters
	maxInput = 4096 // octets before decoding
)

// Text is the readable form of a field's value: unfolded, RFC 2047 words decoded (ISO-2022-JP and other charsets
// included), valid UTF-8 without control characters, at most MaxText characters.
func Text(value []byte) string { return Clean(Decoded(value)) }

// Decoded is the whole of what Text tells of the first 4 KiB of a field, as it was written: what patterns are held against
// (requirement R114).
func Decoded(value []byte) string {
	value = bytes.TrimSpace(unfold(value[:min(len(value), maxInput)]))
	if len(value) == 0 {
		return ""
	}
	s := string(value)
	if strings.Contains(s, "=?") {
		dec := mime.WordDecoder{CharsetReader: charsetReader}
		if t, err := dec.DecodeHeader(s); err == nil {
			s = t
		}
	}
	return s
}

// Trim is a field's value on one line without white space around it, at most MaxText octets.
func Trim(value []byte) []byte {
	return limit(bytes.TrimSpace(unfold(value[:min(len(value), maxInput)])))
}

func charsetReader(charset string, input io.Reader) (io.Reader, error) {
	enc, err := htmlindex.Get(charset)
	if err != nil {
		return nil, fmt.Errorf("charset %q: %w", charset, err)
	}
	return enc.NewDecoder().Reader(input), nil
}

// Clean returns s as valid UTF-8 without control characters, at most MaxText characters: s itself where nothing is
// wrong with it, which is nearly always.
func Clean(s string) string {
	ok := len(s) <= MaxText
	for i := 0; ok && i < len(s); i++ {
		ok = s[i] >= ' ' && s[i] < 0x7f
	}
	if ok {
		return s
	}
	var b strings.Builder
	n := 0
	for _, r := range s { // invalid octets come as U+FFFD
		if n++; n > MaxText {
			break
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			r = ' '
		}
		if r == utf8.RuneError {
			r = '\uFFFD'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Mailbox is the address of the first mailbox in a From field, without display name and comments (R112) and else as
// it is written, at most MaxText octets.
func Mailbox(value []byte) []byte {
	value = bytes.TrimSpace(unfold(value[:min(len(value), maxInput)]))
	quoted, depth, start := false, 0, -1
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\':
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth = max(0, depth-1)
		case depth > 0:
		case c == '<':
			start = i + 1
		case c == '>' && start >= 0:
			return limit(bytes.TrimSpace(value[start:i]))
		case c == ',' && start < 0:
			return limit(uncomment(value[:i]))
		}
	}
	return limit(uncomment(value))
}

// uncomment is b without comments (RFC 5322 §3.2.2) and the white space around it. One that is left open ends b.
func uncomment(b []byte) []byte {
	if bytes.IndexByte(b, '(') < 0 {
		return bytes.TrimSpace(b)
	}
	out := make([]byte, 0, len(b))
	quoted, depth := false, 0
	for i := 0; i < len(b); i++ {
		c, n := b[i], 1
		switch {
		case c == '\\' && i+1 < len(b):
			n = 2
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
		case c == ')' && !quoted && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			out = append(out, b[i:i+n]...)
		}
		i += n - 1
	}
	return bytes.TrimSpace(out)
}

func limit(b []byte) []byte { return b[:min(len(b), MaxText)] }
