package sink

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// The kinds of violations the oracle knows (threats.md 2). The first six concern the bytes between the 354 and the
// final dot, the others the commands around them.
const (
	bareLF       = iota // a line end without CR
	bareCR              // a CR without LF
	nul                 // a NUL octet
	longLine            // more than 998 octets before CRLF (RFC 5322 §2.1.1)
	unstuffed           // a line starting with one dot that is not the end (RFC 5321 §4.5.2)
	earlyData           // message bytes sent before the 354 (RFC 2920 §3.1)
	commandLF           // a command line ended by a bare LF
	commandLong         // a command line above 2048 octets
	earlyCommand        // commands sent behind EHLO or STARTTLS before its reply
	violationKinds
)

var violationNames = [violationKinds]string{
	"bare_lf", "bare_cr", "nul", "long_line", "dot_stuffing", "early_data",
	"command_bare_lf", "command_long", "early_command",
}

const (
	maxText  = 998 // octets of a text line without CRLF
	maxToken = 128 // octets of a token kept
)

// content digests a message as it streams by: sums, token, size and violations. Nothing of the text is kept but the
// token. It is reused from message to message.
type content struct {
	whole      hash.Hash // every octet of the message, dots unstuffed
	inner      hash.Hash // the same without the trace fields a relay put on top
	size       int64
	trace      int64 // octets of those trace fields
	violations [violationKinds]int
	token      []byte
	messageID  []byte

	lineLen  int  // octets of the current line seen so far
	header   bool // still in the header
	tracing  bool // still in the leading trace fields
	inTrace  bool // the current field is one of them
	received bool // one Received field was taken as the relay's own
	lastCR   bool // the last octet fed was CR
}

func newContent() *content {
	return &content{whole: sha256.New(), inner: sha256.New(), token: make([]byte, 0, maxToken), messageID: make([]byte, 0, maxToken)}
}

func (c *content) reset() {
	c.whole.Reset()
	c.inner.Reset()
	*c = content{whole: c.whole, inner: c.inner, token: c.token[:0], messageID: c.messageID[:0], header: true, tracing: true}
}

// dotted feeds bytes of a DATA phase. It returns how many were used and whether the final dot was among them; bytes
// of an unfinished line stay with the caller unless the line is longer than full octets.
func (c *content) dotted(p []byte, full int) (used int, done bool) {
	start := 0 // begin of the run not yet hashed
	pos := 0
	for {
		i := bytes.IndexByte(p[pos:], '\n')
		if i < 0 {
			break
		}
		end := pos + i + 1
		line := p[pos:end]
		if c.lineLen == 0 && line[0] == '.' {
			if len(line) == 3 && line[1] == '\r' {
				c.hash(p[start:pos])
				return end, true
			}
			// A stuffed dot leaves, whatever stands behind it; one dot alone should have been two.
			if line[1] != '.' {
				c.violations[unstuffed]++
			}
			c.hash(p[start:pos])
			pos++
			start, line = pos, p[pos:end]
		}
		start = c.line(p, start, pos, end, line)
		pos = end
	}
	c.hash(p[start:pos])
	if rest := p[pos:]; len(rest) >= full { // a line without end: feed it in pieces
		if c.lineLen == 0 && rest[0] == '.' {
			rest = rest[1:]
		}
		c.piece(rest)
		pos = len(p)
	}
	return pos, false
}

// line looks at one complete line (or the end of one) and keeps the run of hashed bytes; it returns the new begin of
// that run.
func (c *content) line(p []byte, start, pos, end int, line []byte) int {
	whole := c.lineLen == 0
	text := len(line) - 1
	if (text > 0 && line[text-1] == '\r') || (text == 0 && c.lastCR) {
		text--
	} else {
		c.violations[bareLF]++
	}
	if c.lineLen+text > maxText { // text is -1 where the CR came with the piece before
		c.violations[longLine]++
	}
	if c.lastCR && text >= 0 {
		c.violations[bareCR]++
	}
	c.octets(line[:max(text, 0)])
	c.lineLen, c.lastCR = 0, false
	if !c.header || !whole {
		return start
	}
	wasTrace := c.inTrace
	c.field(line[:max(text, 0)])
	if c.inTrace != wasTrace {
		c.hashAs(p[start:pos], wasTrace)
		return pos
	}
	return start
}

// octets counts what may stand in no line.
func (c *content) octets(text []byte) {
	if bytes.IndexByte(text, 0) >= 0 {
		c.violations[nul] += bytes.Count(text, []byte{0})
	}
	if bytes.IndexByte(text, '\r') >= 0 {
		c.violations[bareCR] += bytes.Count(text, []byte{'\r'})
	}
}

// field reads one header line.
func (c *content) field(text []byte) {
	if len(text) == 0 {
		c.header, c.tracing, c.inTrace = false, false, false
		return
	}
	folded := text[0] == ' ' || text[0] == '\t'
	if c.tracing && !folded {
		switch {
		case !c.received && hasFold(text, "received:"):
			c.received, c.inTrace = true, true
		case hasFold(text, "dkim-signature:"):
			c.inTrace = true
		default:
			c.tracing, c.inTrace = false, false
		}
	}
	switch {
	case c.inTrace:
	case len(c.token) == 0 && hasFold(text, "x-bench-token:"):
		c.token = appendTrimmed(c.token, text[len("x-bench-token:"):])
	case len(c.messageID) == 0 && hasFold(text, "message-id:"):
		c.messageID = appendTrimmed(c.messageID, text[len("message-id:"):])
	}
}

func appendTrimmed(dst, value []byte) []byte {
	value = bytes.Trim(value, " \t<>")
	return append(dst, value[:min(len(value), maxToken)]...)
}

// raw feeds bytes of a BDAT chunk, where dots mean nothing and lines may be cut anywhere (RFC 3030).
func (c *content) raw(p []byte) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.piece(p)
			return
		}
		start := c.line(p, 0, 0, i+1, p[:i+1])
		c.hash(p[start : i+1])
		p = p[i+1:]
	}
}

// piece feeds a part of a line whose end has not come.
func (c *content) piece(p []byte) {
	if len(p) == 0 {
		return
	}
	if c.lastCR {
		c.violations[bareCR]++
	}
	c.octets(p[:len(p)-1])
	c.lastCR = p[len(p)-1] == '\r'
	c.lineLen += len(p)
	c.hash(p)
}

func (c *content) hash(p []byte) { c.hashAs(p, c.inTrace) }

func (c *content) hashAs(p []byte, trace bool) {
	if len(p) == 0 {
		return
	}
	c.size += int64(len(p))
	c.whole.Write(p)
	if trace {
		c.trace += int64(len(p))
		return
	}
	c.inner.Write(p)
}

// key is what names the message: its token, or its Message-ID where it has none.
func (c *content) key() []byte {
	if len(c.token) > 0 {
		return c.token
	}
	return c.messageID
}

func (c *content) violated() int {
	n := 0
	for _, v := range c.violations {
		n += v
	}
	return n
}

// hasFold tells whether p starts with the lower-case ASCII word.
func hasFold(p []byte, word string) bool {
	if len(p) < len(word) {
		return false
	}
	for i := 0; i < len(word); i++ {
		b := p[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != word[i] {
			return false
		}
	}
	return true
}
