package smtp

import (
	"bytes"
	"errors"
)

// maxDataLine is the longest line of a message in octets without its CRLF (RFC 5321 §4.5.3.1.6).
const maxDataLine = 998

// What CheckData reports: a message that must not be sent as it is, because a receiver could take a part of it for
// something else (threats section 2, SMTP smuggling) or would cut it.
var (
	ErrNUL      = errors.New("message holds a NUL octet")
	ErrBareCR   = errors.New("message holds a CR without LF")
	ErrBareLF   = errors.New("message holds a LF without CR")
	ErrLongLine = errors.New("message holds a line longer than 998 octets")
)

// CheckData is the outbound oracle: it returns nil only if b's lines end with CRLF, hold no NUL, CR or LF and are at
// most maxDataLine long; the last line may lack its CRLF. dots counts the lines that begin with a dot, which
// AppendData has to stuff.
func CheckData(b []byte) (dots int, err error) {
	if bytes.IndexByte(b, 0) >= 0 {
		return 0, ErrNUL
	}
	lines := 0
	for rest := b; len(rest) > 0; {
		if rest[0] == '.' {
			dots++
		}
		i := bytes.IndexByte(rest, '\r')
		if i < 0 {
			if len(rest) > maxDataLine {
				return 0, ErrLongLine
			}
			break
		}
		if i+1 >= len(rest) || rest[i+1] != '\n' {
			return 0, ErrBareCR
		}
		if i > maxDataLine {
			return 0, ErrLongLine
		}
		lines++
		rest = rest[i+2:]
	}
	// Every CR above was followed by its LF, so a further LF stands alone.
	if bytes.Count(b, []byte("\n")) != lines {
		return 0, ErrBareLF
	}
	return dots, nil
}

// AppendData appends b to dst as it goes between the 354 and the final dot (RFC 5321 §4.5.2): every dot that begins a
// line doubled, and a CRLF added if the last line lacks it. b must have passed CheckData, which also gave dots.
// The final ".\r\n" is left to the caller.
func AppendData(dst, b []byte, dots int) []byte {
	open := len(b) > 0 && !EndsLine(b)
	if dots == 0 {
		dst = append(dst, b...)
	} else {
		if b[0] == '.' {
			dst = append(dst, '.')
		}
		for {
			i := bytes.Index(b, []byte("\n."))
			if i < 0 {
				break
			}
			dst = append(dst, b[:i+2]...)
			dst = append(dst, '.')
			b = b[i+2:]
		}
		dst = append(dst, b...)
	}
	if open {
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// EndsLine tells whether b ends with CRLF.
func EndsLine(b []byte) bool { return bytes.HasSuffix(b, []byte("\r\n")) }
