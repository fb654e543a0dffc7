package smtp

import (
	"bytes"
	"math"
)

// MailArgs is a MAIL command taken apart. Path is a window into the line that was parsed.
type MailArgs struct {
	Path     []byte // between the angle brackets, as the client wrote it; empty = null reverse-path
	Size     int64  // SIZE parameter, 0 = none (RFC 1870)
	EightBit bool   // BODY=8BITMIME (RFC 6152)
	UTF8     bool   // SMTPUTF8 (RFC 6531)
}

// RcptArgs is a RCPT command taken apart. Path is a window into the line that was parsed.
type RcptArgs struct {
	Path []byte // between the angle brackets, as the client wrote it
}

// Bits of the parameters seen, to find repeated ones.
const (
	seenSize = 1 << iota
	seenBody
	seenUTF8
	seenAuth
	seenRet
	seenEnvID
	seenNotify
	seenOrcpt
)

// ParseMail parses the line of a MAIL command without its CRLF: "MAIL FROM:<path> parameters". Parameters of RFC
// 3461 (RET, ENVID) are checked and, where well formed, answered ErrUnsupported: the extension is not offered.
func ParseMail(line []byte) (MailArgs, error) {
	var m MailArgs
	rest, ok := cutFold(line, "MAIL FROM:")
	if !ok {
		return m, ErrSyntax
	}
	path, rest, err := cutPath(rest)
	if err != nil {
		return m, err
	}
	m.Path = path
	seen := 0
	var later error // a malformed parameter outweighs one that is merely not supported
	for {
		var key, value []byte
		if key, value, rest = nextParam(rest); key == nil {
			break
		}
		bit, err := m.param(key, value)
		if seen&bit != 0 || err != nil && err != ErrUnsupported {
			return m, ErrParameter
		}
		if err != nil {
			later = err
		}
		seen |= bit
	}
	if later != nil {
		return m, later
	}
	return m, checkText(path, m.UTF8)
}

func (m *MailArgs) param(key, value []byte) (bit int, err error) {
	switch {
	case EqualFold(key, "SIZE"):
		m.Size, err = parseSize(value)
		return seenSize, err
	case EqualFold(key, "BODY"):
		m.EightBit = EqualFold(value, "8BITMIME")
		if !m.EightBit && !EqualFold(value, "7BIT") {
			return seenBody, ErrParameter
		}
		return seenBody, nil
	case EqualFold(key, "SMTPUTF8"):
		if value != nil {
			return seenUTF8, ErrParameter
		}
		m.UTF8 = true
		return seenUTF8, nil
	case EqualFold(key, "AUTH"): // RFC 4954 §5: the original submitter; checked, then of no use to a relay that bills by AUTH
		text, ok := DecodeXtext(value)
		if !ok || len(text) == 0 || (string(text) != "<>" && bytes.IndexByte(text, '@') < 1) {
			return seenAuth, ErrParameter
		}
		return seenAuth, nil
	case EqualFold(key, "RET"):
		if !EqualFold(value, "FULL") && !EqualFold(value, "HDRS") {
			return seenRet, ErrParameter
		}
		return seenRet, ErrUnsupported
	case EqualFold(key, "ENVID"):
		if text, ok := DecodeXtext(value); !ok || len(text) == 0 {
			return seenEnvID, ErrParameter
		}
		return seenEnvID, ErrUnsupported
	}
	return 0, unknownParam(key, value)
}

// ParseRcpt parses the line of a RCPT command without its CRLF: "RCPT TO:<path> parameters". utf8OK tells that the
// transaction has SMTPUTF8. A path without any "@" is ErrNoAt; other address errors pass (requirement E-41).
func ParseRcpt(line []byte, utf8OK bool) (RcptArgs, error) {
	var r RcptArgs
	rest, ok := cutFold(line, "RCPT TO:")
	if !ok {
		return r, ErrSyntax
	}
	path, rest, err := cutPath(rest)
	if err != nil {
		return r, err
	}
	r.Path = path
	seen := 0
	var later error
	for {
		var key, value []byte
		if key, value, rest = nextParam(rest); key == nil {
			break
		}
		bit, err := rcptParam(key, value)
		if seen&bit != 0 || err != nil && err != ErrUnsupported {
			return r, ErrParameter
		}
		if err != nil {
			later = err
		}
		seen |= bit
	}
	if later != nil {
		return r, later
	}
	if err := checkText(path, utf8OK); err != nil {
		return r, err
	}
	if bytes.IndexByte(path, '@') < 0 {
		return r, ErrNoAt
	}
	return r, nil
}

func rcptParam(key, value []byte) (bit int, err error) {
	switch {
	case EqualFold(key, "NOTIFY"):
		if !validNotify(value) {
			return seenNotify, ErrParameter
		}
		return seenNotify, ErrUnsupported
	case EqualFold(key, "ORCPT"):
		kind, addr, ok := bytes.Cut(value, []byte{';'})
		if !ok || len(kind) == 0 {
			return seenOrcpt, ErrParameter
		}
		if text, ok := DecodeXtext(addr); !ok || len(text) == 0 {
			return seenOrcpt, ErrParameter
		}
		return seenOrcpt, ErrUnsupported
	}
	return 0, unknownParam(key, value)
}

// validNotify checks RFC 3461 §4.1: NEVER alone, or a list of SUCCESS, FAILURE, DELAY without repeats.
func validNotify(value []byte) bool {
	if EqualFold(value, "NEVER") {
		return true
	}
	seen := 0
	for {
		word, rest, more := bytes.Cut(value, []byte{','})
		bit := 0
		for i, w := range [...]string{"SUCCESS", "FAILURE", "DELAY"} {
			if EqualFold(word, w) {
				bit = 1 << i
			}
		}
		if bit == 0 || seen&bit != 0 {
			return false
		}
		seen |= bit
		if !more {
			return true
		}
		value = rest
	}
}

// unknownParam tells a parameter that is well formed (RFC 5321 §4.1.2 esmtp-param) from one that is not.
func unknownParam(key, value []byte) error {
	if len(key) == 0 {
		return ErrParameter
	}
	for i, c := range key {
		alnum := c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !alnum && (c != '-' || i == 0) {
			return ErrParameter
		}
	}
	for _, c := range value {
		if c <= 0x20 || c == '=' || c == 0x7f {
			return ErrParameter
		}
	}
	if value != nil && len(value) == 0 {
		return ErrParameter
	}
	return ErrUnsupported
}

// nextParam cuts the next parameter off s. value is nil where there is no "=". key is nil at the end.
func nextParam(s []byte) (key, value, rest []byte) {
	s = bytes.TrimLeft(s, " ")
	if len(s) == 0 {
		return nil, nil, nil
	}
	word, rest, _ := bytes.Cut(s, []byte{' '})
	key, value, ok := bytes.Cut(word, []byte{'='})
	if ok && value == nil {
		value = word[len(word):]
	}
	if !ok {
		value = nil
	}
	if key == nil {
		key = word[:0]
	}
	return key, value, rest
}

// parseSize reads the number of RFC 1870 §3: 1-20 digits. A number too large for int64 is the largest one.
func parseSize(s []byte) (int64, error) {
	if len(s) == 0 || len(s) > 20 {
		return 0, ErrParameter
	}
	var n int64
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, ErrParameter
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}

// ParseChunk parses the argument of BDAT (RFC 3030 §2): "size" or "size LAST". sized tells that size can be believed
// though the rest is wrong, so that the chunk can be skipped; ok that everything is right.
func ParseChunk(arg []byte) (size int64, last, sized, ok bool) {
	number, rest, more := bytes.Cut(arg, []byte{' '})
	size, err := parseSize(number)
	if err != nil || size > math.MaxUint32 {
		return 0, false, false, false
	}
	if !more {
		return size, false, true, true
	}
	last = EqualFold(rest, "LAST")
	return size, last, true, last
}

// DecodeXtext decodes RFC 3461 §4 xtext strictly: printable ASCII without "+" and "=", or "+" and two upper-case hex
// digits. ok is false on anything else, and where the decoded text would hold a control character or an octet above 127.
func DecodeXtext(s []byte) (text []byte, ok bool) {
	text = make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			if i+2 >= len(s) {
				return nil, false
			}
			hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
			if hi < 0 || lo < 0 {
				return nil, false
			}
			c = byte(hi<<4 | lo)
			if c < 0x20 || c >= 0x7f {
				return nil, false
			}
			i += 2
		case c <= 0x20 || c >= 0x7f || c == '=':
			return nil, false
		}
		text = append(text, c)
	}
	return text, true
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// cutFold is CutPrefix without regard to ASCII case; prefix is upper case.
func cutFold(s []byte, prefix string) (rest []byte, ok bool) {
	if len(s) < len(prefix) || !EqualFold(s[:len(prefix)], prefix) {
		return nil, false
	}
	return s[len(prefix):], true
}
