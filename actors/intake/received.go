package intake

import (
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// receivedMax is an upper bound of what appendReceived adds, in octets.
func (in *Intake) receivedMax(mode string, s *mail.Submission) int {
	if !addsReceived(mode) {
		return 0
	}
	const words = 220 // the fixed words, two addresses and the date
	return words + 2*min(len(s.Helo), maxName) + 2*len(in.Hostname)
}

// appendReceived adds the header that says where s came from, in the form the composition chose (R58):
//
//	short   Received: from HELO by HOST; date
//	normal  Received: from HELO (HELO [IP]) by HOST (HOST [IP]); date
//	keep    nothing
//	strip   nothing (the existing ones go, too)
//
// One line of less than 998 octets (RFC 5322 §2.1.1): both names are bounded.
func (in *Intake) appendReceived(b []byte, mode string, s *mail.Submission, now time.Time) []byte {
	if !addsReceived(mode) {
		return b
	}
	b = append(b, "Received: from "...)
	b = appendName(b, s.Helo)
	if mode == "normal" {
		b = append(b, " ("...)
		b = appendName(b, s.Helo)
		b = appendAddr(b, s.Client)
		b = append(b, ')')
	}
	b = append(b, " by "...)
	b = append(b, in.Hostname...)
	if mode == "normal" {
		b = append(b, " ("...)
		b = append(b, in.Hostname...)
		b = appendAddr(b, s.Local)
		b = append(b, ')')
	}
	b = append(b, "; "...)
	b = now.AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 -0700") // RFC 5322 §3.3
	return append(b, "\r\n"...)
}

// maxName bounds a host name in a header (RFC 1035 §2.3.4).
const maxName = 255

// appendName appends a foreign host name with everything else than names and address literals hold replaced, so that
// it can neither end the line nor open a comment.
func appendName(b []byte, name string) []byte {
	if name == "" {
		return append(b, "unknown"...)
	}
	for i := range min(len(name), maxName) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '.', c == '-', c == '_', c == ':', c == '[', c == ']':
		default:
			c = '?'
		}
		b = append(b, c)
	}
	return b
}

func cleanName(name string) string { return string(appendName(nil, name)) }

// appendAddr appends " [IP]" (RFC 5321 §4.1.3), nothing where there is no address.
func appendAddr(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return b
	}
	a = a.Unmap().WithZone("")
	b = append(b, " ["...)
	if a.Is6() {
		b = append(b, "IPv6:"...)
	}
	b = a.AppendTo(b)
	return append(b, ']')
}
