package smtp

import (
	"bytes"
	"errors"
)

// Bounds of a reply read from a peer (threat T12). A line beyond MaxReplyLine is cut, because a wordy receiver is no
// reason to doubt its answer; one beyond maxReplySkip, or a reply beyond the other two, ends the connection.
const (
	MaxReplyLine  = 512 // octets of one line that are kept, code and CRLF included (RFC 5321 §4.5.3.1.5)
	MaxReplyLines = 100
	MaxReply      = 64 << 10 // octets of one reply in all

	maxReplySkip = 4096 // octets of one line that are read at all
)

// Errors of ScanReply and ParseReply. After either of them the connection is out of step and must be closed.
var (
	ErrReplySyntax  = errors.New("malformed SMTP reply")
	ErrReplyTooLong = errors.New("SMTP reply is too long")
)

// ScanReply finds the reply at the start of b and returns its code (200-599) and its length in octets, all lines
// included. n is 0 without an error while b does not hold the whole reply yet. Lines may end with LF alone.
func ScanReply(b []byte) (code, n int, err error) {
	for lines := 1; ; lines++ {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			if len(b)-n > maxReplySkip || len(b) > MaxReply {
				return 0, 0, ErrReplyTooLong
			}
			return 0, 0, nil
		}
		if lines > MaxReplyLines || i > maxReplySkip || n+i > MaxReply {
			return 0, 0, ErrReplyTooLong
		}
		c, more, ok := replyLine(trimCR(b[n : n+i]))
		if !ok || code != 0 && c != code {
			return 0, 0, ErrReplySyntax // also a code that changes between lines: neither of them can be believed
		}
		code = c
		n += i + 1
		if !more {
			return code, n, nil
		}
	}
}

// ParseReply is ScanReply with the words: it returns the reply at the start of b and its length. The enhanced code is
// the one of this reply's first line, and only if its class agrees with the code (RFC 2034 §4); where it does not,
// it stays part of the text. NUL and bare CR in the text become "?".
func ParseReply(b []byte) (r Reply, n int, err error) {
	code, n, err := ScanReply(b)
	if n == 0 || err != nil {
		return Reply{}, 0, err
	}
	r.Code = code
	var text []byte
	var enhanced []byte // its spelling, which later lines may repeat
	for rest := b[:n]; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		line := trimCR(rest[:i])
		rest = rest[i+1:]
		if len(line) > MaxReplyLine-2 {
			line = line[:MaxReplyLine-2]
		}
		line = line[min(4, len(line)):]
		if text == nil { // first line
			text = make([]byte, 0, n)
			if e, size := parseEnhanced(line); size > 0 && int(e.Class) == code/100 {
				r.Enhanced = e
				enhanced = line[:size]
				line = bytes.TrimLeft(line[size:], " ")
			}
		} else {
			text = append(text, '\n')
			if _, size := parseEnhanced(line); size > 0 && bytes.Equal(line[:size], enhanced) {
				line = bytes.TrimLeft(line[size:], " ")
			}
		}
		text = append(text, line...)
	}
	r.Text = cleanText(text)
	return r, n, nil
}

// replyLine reads code and continuation mark of one line without its line end.
func replyLine(l []byte) (code int, more, ok bool) {
	if len(l) < 3 || l[0] < '2' || l[0] > '5' || l[1] < '0' || l[1] > '9' || l[2] < '0' || l[2] > '9' {
		return 0, false, false
	}
	code = int(l[0]-'0')*100 + int(l[1]-'0')*10 + int(l[2]-'0')
	switch {
	case len(l) == 3, l[3] == ' ':
		return code, false, true
	case l[3] == '-':
		return code, true, true
	}
	return 0, false, false
}

// parseEnhanced reads "class.subject.detail" (RFC 3463 §2) at the start of l, followed by a space or the end. size is
// 0 where there is none.
func parseEnhanced(l []byte) (e EnhancedCode, size int) {
	if len(l) < 5 || l[1] != '.' || l[0] != '2' && l[0] != '4' && l[0] != '5' {
		return EnhancedCode{}, 0
	}
	e.Class = uint16(l[0] - '0')
	subject, i := enhancedNumber(l[2:])
	if i == 0 || 2+i >= len(l) || l[2+i] != '.' {
		return EnhancedCode{}, 0
	}
	detail, j := enhancedNumber(l[3+i:])
	end := 3 + i + j
	if j == 0 || end < len(l) && l[end] != ' ' {
		return EnhancedCode{}, 0
	}
	e.Subject, e.Detail = subject, detail
	return e, end
}

// enhancedNumber reads one to three digits without a leading zero; n is 0 where there are none.
func enhancedNumber(l []byte) (v uint16, n int) {
	for n < len(l) && l[n] >= '0' && l[n] <= '9' {
		if n == 3 || n == 1 && l[0] == '0' {
			return 0, 0
		}
		v = v*10 + uint16(l[n]-'0')
		n++
	}
	return v, n
}

func trimCR(l []byte) []byte {
	if len(l) > 0 && l[len(l)-1] == '\r' {
		return l[:len(l)-1]
	}
	return l
}

// cleanText replaces NUL and CR byte by byte: the text may be in any character set.
func cleanText(b []byte) string {
	for i, c := range b {
		if c == 0 || c == '\r' {
			b[i] = '?'
		}
	}
	return string(b)
}
