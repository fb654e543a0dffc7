// Package compliance tells what large receivers refuse or mistrust in a message before it is taken: lines that are too
// long, a Message-ID that is missing or used again and again, a From field that is not one, a one-click unsubscription
// that no signature covers (requirement N19).
//
// It only finds: whether a message is refused for it is the tenant's setting. It must never change a message and never
// read one further than its octets. Read Check first.
package compliance

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/ekiden-mta/ekiden/mail/directive"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// The rules, as metrics and logs call them.
const (
	LineLength = "line_length"
	MessageID  = "message_id"
	Repeated   = "message_id_repeated"
	From       = "from"
	HeaderSize = "header_size"
	OneClick   = "one_click"
)

// maxLine is how many octets a line may have without its CRLF (RFC 5322 §2.1.1).
const maxLine = 998

// maxHeader is how many octets of header section carriers bear (requirements D2).
const maxHeader = 12 << 10

// Finding is one thing that is wrong with a message.
type Finding struct {
	Rule string // one of those above
	Text string // what is wrong, and what to do about it; nothing of the message's own text
	Code smtp.EnhancedCode
}

// Check looks at a message with CRLF line ends. A message without faults costs no allocation.
func Check(msg []byte) (found []Finding) {
	var h header
	h.read(msg)
	fail := func(rule string, code smtp.EnhancedCode, format string, args ...any) {
		found = append(found, Finding{rule, fmt.Sprintf(format, args...), code})
	}
	content, policy := smtp.EnhancedCode{Class: 5, Subject: 6}, smtp.EnhancedCode{Class: 5, Subject: 7, Detail: 1}
	if n, length := longLine(msg); n > 0 {
		fail(LineLength, content, "line %d has %d octets, at most %d are allowed: wrap it, or encode the part as quoted-printable or base64", n, length, maxLine)
	}
	switch {
	case h.ids == 0:
		fail(MessageID, content, "there is no Message-ID: give each message one of its own, such as <unique@your.domain>")
	case h.ids > 1:
		fail(MessageID, content, "Message-ID stands %d times: leave one", h.ids)
	}
	if h.froms != 1 {
		fail(From, content, "From stands %d times: exactly one is needed", h.froms)
	}
	if h.size > maxHeader {
		fail(HeaderSize, content, "the header section has %d octets, above %d mobile carriers have trouble with it: shorten it", h.size, maxHeader)
	}
	if h.post && !h.covered() {
		fail(OneClick, policy, "one-click unsubscription (RFC 8058) is not covered by a DKIM signature: "+
			"sign List-Unsubscribe and List-Unsubscribe-Post, or leave List-Unsubscribe-Post out")
	}
	return found
}

// longLine returns the number, from 1, and the octets of the first line that is too long; 0 where none is.
func longLine(msg []byte) (n, length int) {
	for n = 1; len(msg) > maxLine; n++ {
		i := bytes.IndexByte(msg, '\n')
		line := i
		if i < 0 {
			line, i = len(msg), len(msg)-1
		} else if i > 0 && msg[i-1] == '\r' {
			line--
		}
		if line > maxLine {
			return n, line
		}
		msg = msg[i+1:]
	}
	return 0, 0
}

// header is what the rules look at.
type header struct {
	froms, ids  int
	post        bool // List-Unsubscribe-Post
	unsubscribe bool // List-Unsubscribe
	signed      bool // a signature covers both
	size        int  // octets, without the empty line behind it
}

func (h *header) read(msg []byte) {
	for name, value := range directive.Fields(msg) {
		h.size += len(name) + 1 + len(value)
		switch len(name) { // few names have these lengths
		case len("From"):
			if strings.EqualFold(string(name), "From") {
				h.froms++
			}
		case len("Message-ID"):
			if strings.EqualFold(string(name), "Message-ID") && len(bytes.TrimSpace(value)) > 0 {
				h.ids++
			}
		case len("DKIM-Signature"):
			if strings.EqualFold(string(name), "DKIM-Signature") {
				h.signed = h.signed || covers(value)
			}
		case len("List-Unsubscribe"):
			h.unsubscribe = h.unsubscribe || strings.EqualFold(string(name), "List-Unsubscribe")
		case len("List-Unsubscribe-Post"):
			h.post = h.post || strings.EqualFold(string(name), "List-Unsubscribe-Post")
		}
	}
}

func (h *header) covered() bool { return h.unsubscribe && h.signed }

// covers tells whether the h= of a DKIM-Signature names both fields of RFC 8058 §4.
func covers(value []byte) bool {
	for tag := range bytes.SplitSeq(value, []byte{';'}) {
		name, list, _ := bytes.Cut(tag, []byte{'='})
		if string(bytes.TrimSpace(name)) != "h" {
			continue
		}
		both := 0
		for f := range bytes.SplitSeq(list, []byte{':'}) {
			switch f := string(bytes.TrimSpace(f)); {
			case strings.EqualFold(f, "List-Unsubscribe"):
				both |= 1
			case strings.EqualFold(f, "List-Unsubscribe-Post"):
				both |= 2
			}
		}
		return both == 3
	}
	return false
}
