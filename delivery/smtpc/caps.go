package smtpc

import (
	"strings"
)

// Caps is what a receiver offered in its reply to EHLO (RFC 5321 §4.1.1.1).
type Caps struct {
	Pipelining bool // RFC 2920
	EightBit   bool // 8BITMIME, RFC 6152
	UTF8       bool // SMTPUTF8, RFC 6531
	Chunking   bool // BDAT, RFC 3030
	StartTLS   bool // RFC 3207
	HasSize    bool // SIZE, RFC 1870
	Size       int  // largest message in octets; 0 = not said
	MailMax    int  // transactions per connection (LIMITS, RFC 9422); 0 = not said
}

// ParseCaps reads the text of a reply to EHLO: a line of greeting, then one extension a line. What it does not know,
// or what is malformed, it passes over.
func ParseCaps(text string) (c Caps) {
	_, rest, more := strings.Cut(text, "\n")
	for more {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		word, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(word) {
		case "PIPELINING":
			c.Pipelining = true
		case "8BITMIME":
			c.EightBit = true
		case "SMTPUTF8":
			c.UTF8 = true
		case "CHUNKING":
			c.Chunking = true
		case "STARTTLS":
			c.StartTLS = true
		case "SIZE":
			c.HasSize = true
			c.Size = number(strings.TrimSpace(args))
		case "LIMITS":
			for _, arg := range strings.Fields(args) {
				if name, value, _ := strings.Cut(arg, "="); strings.EqualFold(name, "MAILMAX") {
					c.MailMax = number(value)
				}
			}
		}
	}
	return c
}

// number reads up to 15 decimal digits; anything else is 0, which means "not said".
func number(s string) int {
	if len(s) == 0 || len(s) > 15 {
		return 0
	}
	n := 0
	for _, d := range []byte(s) {
		if d < '0' || d > '9' {
			return 0
		}
		n = n*10 + int(d-'0')
	}
	return n
}
