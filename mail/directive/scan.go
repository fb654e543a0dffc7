// Package directive reads the steering headers with which a customer controls one message (contract 5), tells which
// octets have to go before the message is delivered, and picks the header facts that logs need.
//
// It never changes a message: it returns ranges to leave out, and everything else stays as it is to the octet, so
// that an existing signature still verifies. It does no I/O. Read Scan first.
package directive

import (
	"bytes"
	"iter"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Bounds of what a message may carry (R33, contract 5, RFC 5321 §6.3).
const (
	MaxGroup    = 64  // printable ASCII characters
	MaxKey      = 128 // printable ASCII characters
	MaxReceived = 100 // a message that has passed that many hosts is in a loop
)

// Names are the steering headers whose names a composition chooses. Names that start with "X-KAEDE-" match in exactly
// that case, all others in any (E-9). An empty name matches nothing.
type Names struct {
	Group, Cleaning, Appoint string
	SubjectTime              bool // a Subject may begin with "[yyyy/MM/dd HH:mm] " (R31)
}

// DefaultNames are the names without a setting.
var DefaultNames = Names{Group: "X-Relay-Group", Cleaning: "X-KAEDE-Cleaning", Appoint: "X-KAEDE-Appoint"}

// Range is a part of a message: whole fields, line ends included, or the time that a subject begins with.
type Range struct{ Start, End int }

// Directives is what a message asks for. Zero values mean that it asks for nothing.
type Directives struct {
	Cleaning   bool
	Group      string
	Start      time.Time     // reservation; may lie in the past, which means at once
	Lifetime   time.Duration // within R32
	Retry      time.Duration // within R32
	QuietHours string        // HHMM-HHMM
	Key        string        // idempotency key
	Warnings   []string      // for the log: what was malformed and therefore ignored
}

// Header is what Scan saw of the header section. The values are parts of the message, folded and undecoded as they
// stand there; use Text and Mailbox to read them. Of a field that occurs twice the first counts (E-28).
type Header struct {
	End       int // the header section is msg[:End], without the empty line that ends it
	From      []byte
	MessageID []byte
	Subject   []byte
	APIData   []byte // X-Api-Data, kept in the message (R22)
	HasDate   bool
	Signed    bool // it has a DKIM-Signature
	EightBit  bool // octets above 127 in the header section
	Received  int  // how many
	Cut       []Range
}

// Scan reads the header section of msg once. Cut holds the steering headers, and with stripReceived every Received
// (R58), in order. Nothing is allocated when there is nothing to cut.
func Scan(msg []byte, names *Names, stripReceived bool) (d Directives, h Header) {
	pos := 0
	for pos < len(msg) {
		nameLen := fieldName(msg[pos:])
		if nameLen == 0 { // the empty line, or a line that is no field: the body starts here
			break
		}
		end := fieldEnd(msg, pos)
		colon := pos + bytes.IndexByte(msg[pos+nameLen:end], ':') + nameLen
		f := field{name: msg[pos : pos+nameLen], value: msg[colon+1 : end]}
		steers := false
		switch f.name[0] | 0x20 {
		case 'f', 'm', 's', 'd':
			if h.Subject == nil && names.SubjectTime && f.is("Subject") {
				f.value = d.subjectTime(f.value, end, &h)
			}
			h.fact(f)
		case 'r':
			if f.is("Received") {
				h.Received++
				steers = stripReceived
			}
		case 'x':
			steers = d.extension(f, names, &h)
		}
		if !steers && f.name[0]|0x20 != 'x' {
			steers = d.named(f, names)
		}
		if steers {
			h.Cut = append(h.Cut, Range{pos, end})
		}
		pos = end
	}
	h.End = pos
	h.EightBit = smtp.HasEightBit(msg[:pos])
	return d, h
}

// MboxLine is how many octets of msg a line takes in front of the header section that no header has: the "From " line with
// which an mbox file begins a message. Programs that mail what they have in a file leave it there.
func MboxLine(msg []byte) int {
	if !bytes.HasPrefix(msg, []byte("From ")) || fieldName(msg) > 0 {
		return 0
	}
	return bytes.IndexByte(msg, '\n') + 1
}

// fieldName returns the length of the field name that line starts with (RFC 5322 §2.2; white space before the colon
// as in §4.5), 0 where it starts with none.
func fieldName(line []byte) int {
	n := 0
	for n < len(line) && line[n] > ' ' && line[n] < 0x7f && line[n] != ':' {
		n++
	}
	colon := n
	for colon < len(line) && (line[colon] == ' ' || line[colon] == '\t') {
		colon++
	}
	if n == 0 || colon == len(line) || line[colon] != ':' {
		return 0
	}
	return n
}

// fieldEnd returns where the field that starts at pos ends, continuation lines included.
func fieldEnd(msg []byte, pos int) int {
	for {
		i := bytes.IndexByte(msg[pos:], '\n')
		if i < 0 {
			return len(msg)
		}
		pos += i + 1
		if pos == len(msg) || msg[pos] != ' ' && msg[pos] != '\t' {
			return pos
		}
	}
}

// field is one header field as it stands in the message.
type field struct{ name, value []byte }

// is compares names without regard to case.
func (f field) is(name string) bool {
	return len(f.name) == len(name) && strings.EqualFold(string(f.name), name)
}

// isOwn compares with a name that a composition chose: exactly where it is one of the case-sensitive family (E-9).
func (f field) isOwn(name string) bool {
	if strings.HasPrefix(name, "X-KAEDE-") {
		return string(f.name) == name
	}
	return name != "" && f.is(name)
}

func (h *Header) fact(f field) {
	switch {
	case f.is("From"):
		first(&h.From, f.value)
	case f.is("Message-ID"):
		first(&h.MessageID, f.value)
	case f.is("Subject"):
		first(&h.Subject, f.value)
	case f.is("Date"):
		h.HasDate = true
	case f.is("DKIM-Signature"):
		h.Signed = true
	}
}

// first keeps the value of a field's first occurrence.
func first(p *[]byte, value []byte) {
	if *p == nil {
		*p = value
	}
}

// Append appends msg to dst without the ranges of cut, which are in order and do not overlap.
func Append(dst, msg []byte, cut []Range) []byte {
	pos := 0
	for _, c := range cut {
		dst = append(dst, msg[pos:c.Start]...)
		pos = c.End
	}
	return append(dst, msg[pos:]...)
}

// Len is how many octets cut takes away.
func Len(cut []Range) int {
	n := 0
	for _, c := range cut {
		n += c.End - c.Start
	}
	return n
}

// Fields yields name and value of each field of a header section, in order, as they stand there.
func Fields(msg []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for pos := 0; pos < len(msg); {
			n := fieldName(msg[pos:])
			if n == 0 {
				return
			}
			end := fieldEnd(msg, pos)
			colon := pos + n + bytes.IndexByte(msg[pos+n:end], ':')
			if !yield(msg[pos:pos+n], msg[colon+1:end]) {
				return
			}
			pos = end
		}
	}
}

// Find returns the value of the first field of that name in a header section, as it stands there, or nil.
func Find(header []byte, name string) []byte {
	for pos := 0; pos < len(header); {
		n := fieldName(header[pos:])
		if n == 0 {
			return nil
		}
		end := fieldEnd(header, pos)
		if f := (field{name: header[pos : pos+n]}); f.is(name) {
			colon := pos + n + bytes.IndexByte(header[pos+n:end], ':')
			return header[colon+1 : end]
		}
		pos = end
	}
	return nil
}
