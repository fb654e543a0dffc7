package report

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Failure is a delivery that ended badly, to be told to somebody.
type Failure struct {
	To       mail.Address // the recipient that failed, as the customer wrote it
	Domain   mail.Domain  // of To
	Notify   mail.Address // who is told
	Host     string       // name of this node
	From     string       // domain of the sender of a classic bounce; "" = Domain (requirements R85, E-18)
	Reason   string       // second line of a classic bounce (requirement R86)
	ID       string       // local part of the Message-ID
	At       time.Time    // now
	Accepted time.Time    // when the message was taken
	Status   smtp.EnhancedCode
	Reply    smtp.Reply // the receiver's words; Code 0 = none
	Detail   string     // ours
	MX       string     // who replied
	Header   []byte     // header section of the message that failed, CRLF line ends; nil = not returned
}

// Bounds of what a notification repeats of others.
const (
	maxDiagnostic = 900      // octets of a receiver's reply
	maxHeader     = 32 << 10 // octets of the returned header section
	lineWidth     = 76
)

// Subject of both forms.
const Subject = "Mail System Error Bounce Mail"

// Classic is the bounce mail of two lines: the failed address and the reason (requirements R85, R86). It is US-ASCII.
func (f *Failure) Classic() []byte {
	from := f.From
	if from == "" {
		from = string(f.Domain)
	}
	b := f.head(make([]byte, 0, 512), "postmaster@"+from)
	b = append(b, "\r\n"...)
	b = f.address(b)
	b = append(b, "\r\n"...)
	b = append(b, f.Reason...)
	return append(b, "\r\n"...)
}

// head is what both forms begin with.
func (f *Failure) head(b []byte, from string) []byte {
	b = append(append(append(b, "From: "...), from...), "\r\nTo: "...)
	b = appendASCII(b, string(f.Notify))
	b = append(b, "\r\nSubject: "+Subject+"\r\nDate: "...)
	b = f.At.AppendFormat(b, time.RFC1123Z)
	b = append(append(append(b, "\r\nMessage-ID: <"...), f.ID...), '@')
	b = append(append(b, f.Host...), ">\r\nAuto-Submitted: auto-replied\r\n"...)
	return b
}

// address appends what failed, cut where the line would be longer than mail may have (RFC 5322 §2.1.1): a list may hold
// anything.
func (f *Failure) address(b []byte) []byte {
	const most = 900
	begin := len(b)
	if b = appendASCII(b, string(f.To)); len(b) > begin+most {
		b = append(b[:begin+most], "..."...)
	}
	return b
}

// Notification is the multipart/report of RFC 3464: words, fields, and the header section that came in.
func (f *Failure) Notification() []byte {
	boundary := "=_" + f.ID
	part := "\r\n--" + boundary + "\r\n"
	b := f.head(make([]byte, 0, 2048+len(f.Header)), "Mail Delivery System <postmaster@"+f.Host+">")
	b = append(b, "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\""+
		boundary+"\"\r\n"...)
	b = append(b, part+"Content-Type: text/plain; charset=us-ascii\r\n\r\nYour message could not be delivered to\r\n\r\n    "...)
	b = f.address(b)
	b = append(b, "\r\n\r\n"...)
	b = appendFolded(b, "", f.diagnostic())
	b = append(b, part+"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; "+f.Host+"\r\nArrival-Date: "...)
	b = f.Accepted.AppendFormat(b, time.RFC1123Z)
	b = append(b, "\r\n\r\nFinal-Recipient: rfc822; "...)
	b = f.address(b)
	b = append(b, "\r\nAction: failed\r\nStatus: "+f.Status.String()+"\r\n"...)
	if f.MX != "" {
		b = append(appendASCII(append(b, "Remote-MTA: dns; "...), f.MX), "\r\n"...)
	}
	if f.Reply.Code != 0 {
		b = appendFolded(b, "Diagnostic-Code: smtp; ", f.Reply.String())
	} else if f.Detail != "" {
		b = appendFolded(b, "Diagnostic-Code: x-ekiden; ", f.Detail)
	}
	b = append(append(b, "Last-Attempt-Date: "...), f.At.Format(time.RFC1123Z)+"\r\n"...)
	if len(f.Header) > 0 {
		b = append(b, part+"Content-Type: text/rfc822-headers; charset=us-ascii\r\n\r\n"...)
		b = appendHeader(b, f.Header)
	}
	return append(b, "\r\n--"+boundary+"--\r\n"...)
}

// diagnostic is what a reader wants to know: the receiver's words, else ours.
func (f *Failure) diagnostic() string {
	switch {
	case f.Reply.Code != 0 && f.MX != "":
		return f.MX + " said: " + f.Reply.String()
	case f.Reply.Code != 0:
		return f.Reply.String()
	}
	return f.Detail
}

// appendASCII appends foreign text so that it can be no more than text: printable US-ASCII as it is, all else as \x{NN}
// per octet (threat T13; after RFC 6533 §3).
func appendASCII(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= ' ' && c < 0x7f {
			b = append(b, c)
			continue
		}
		b = append(append(append(b, `\x{`...), strings.ToUpper(strconv.FormatUint(uint64(s[i]), 16))...), '}')
	}
	return b
}

// appendFolded appends a field, or a paragraph where name is "", folded at blanks. Lines of a reply become one.
func appendFolded(b []byte, name, text string) []byte {
	if len(text) > maxDiagnostic {
		text = text[:maxDiagnostic]
	}
	column := len(name)
	b = append(b, name...)
	for i, w := range strings.Fields(text) {
		word := appendASCII(nil, w)
		for first := true; len(word) > 0; first = false {
			n := min(len(word), lineWidth*8) // a word without end is cut: no line may exceed 998 octets
			switch {
			case first && i == 0:
			case column+1+n > lineWidth || !first:
				b, column = append(b, "\r\n "...), 1
			default:
				b, column = append(b, ' '), column+1
			}
			b, column = append(b, word[:n]...), column+n
			word = word[n:]
		}
	}
	return append(b, "\r\n"...)
}

// appendHeader appends a header section, cut at a line's end where it is too long, its octets above 127 as "?".
func appendHeader(b, header []byte) []byte {
	if len(header) > maxHeader {
		header = header[:maxHeader]
		header = header[:bytes.LastIndexByte(header, '\n')+1]
	}
	from := len(b)
	b = append(b, header...)
	for i := from; i < len(b); i++ {
		if b[i] >= 0x80 {
			b[i] = '?'
		}
	}
	return b
}
