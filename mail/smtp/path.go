package smtp

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

// Limits of lines, in octets with their CRLF.
const (
	MaxCommandLine = 512   // RFC 5321 §4.5.3.1.4, of commands without parameters
	MaxPathCommand = 2048  // of MAIL and RCPT, which extensions lengthen (requirement E-41)
	MaxAuthLine    = 12288 // RFC 4954 §4
	MaxTextLine    = 998   // of a message, without CRLF (RFC 5321 §4.5.3.1.6)
)

// Errors of the command grammar. The text is fit for a reply.
var (
	ErrSyntax      = errors.New("syntax: want the address in angle brackets")
	ErrControl     = errors.New("control characters are not allowed")
	ErrNoAt        = errors.New("address has no domain")
	ErrNeedsUTF8   = errors.New("address needs SMTPUTF8")
	ErrUTF8        = errors.New("address holds characters that are not allowed")
	ErrParameter   = errors.New("malformed or repeated parameter")
	ErrUnsupported = errors.New("parameter is not supported")
)

// cutPath takes the path off the front of s, which is what follows "FROM:" or "TO:". It returns what stood between
// the angle brackets, untouched, and what follows them. A quoted local part may hold any angle bracket; anything
// else ends at the first ">". Spaces in front of the path are forgiven.
//
// Addresses that break requirements R107-R110 pass: what becomes of them is decided later, by mail.Address.Check
// (requirement E-41).
func cutPath(s []byte) (path, rest []byte, err error) {
	s = bytes.TrimLeft(s, " ")
	if len(s) < 2 || s[0] != '<' {
		return nil, nil, ErrSyntax
	}
	s = s[1:]
	end := 0
	if s[0] == '"' {
		end = quotedEnd(s)
		if end == 0 { // the quote never closes: an address only if nothing could follow it
			if bytes.IndexByte(s, '>') != len(s)-1 {
				return nil, nil, ErrSyntax
			}
		}
	}
	i := bytes.IndexByte(s[end:], '>')
	if i < 0 {
		return nil, nil, ErrSyntax
	}
	end += i
	path, rest = s[:end], s[end+1:]
	if len(rest) > 0 && rest[0] != ' ' {
		return nil, nil, ErrSyntax
	}
	return path, rest, nil
}

// quotedEnd returns the index behind the quoted string that s starts with, 0 where it does not end.
func quotedEnd(s []byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// checkText refuses octets that no path may hold: controls always, octets above 127 unless utf8OK, and then
// whatever is not plain visible text (invalid sequences, zero-width and direction marks).
func checkText(s []byte, utf8OK bool) error {
	ascii := true
	for _, c := range s {
		if c < 0x20 || c == 0x7f {
			return ErrControl
		}
		if c >= 0x80 {
			ascii = false
		}
	}
	if ascii {
		return nil
	}
	if !utf8OK {
		return ErrNeedsUTF8
	}
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		if (r == utf8.RuneError && n == 1) || invisible(r) {
			return ErrUTF8
		}
		s = s[n:]
	}
	return nil
}

// invisible tells characters that make two addresses look alike: C1 controls, zero-width marks, direction marks and
// overrides, line and paragraph separators, tags.
func invisible(r rune) bool {
	switch {
	case r >= 0x80 && r < 0xa0, r == 0xad, r == 0x61c, r == 0x180e,
		r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f,
		r == 0xfeff, r >= 0xfff9 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe007f:
		return true
	}
	return false
}
