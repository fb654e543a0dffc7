// Package smtp holds the RFC 5321 wire words both sides of SMTP share: Reply, EnhancedCode, path and line grammar,
// dot-stuffing. It is pure functions over bytes and must never open a connection or keep state between calls.
package smtp

import "strconv"

// EnhancedCode is the status code of RFC 3463, class.subject.detail. The zero value means the reply had none.
type EnhancedCode struct{ Class, Subject, Detail uint16 }

// IsZero tells whether there is no enhanced code.
func (e EnhancedCode) IsZero() bool { return e == EnhancedCode{} }

func (e EnhancedCode) String() string {
	if e.IsZero() {
		return ""
	}
	return strconv.Itoa(int(e.Class)) + "." + strconv.Itoa(int(e.Subject)) + "." + strconv.Itoa(int(e.Detail))
}

// Reply is one SMTP reply. Text joins the lines with LF, without code and enhanced code; it is foreign text and may
// hold anything but LF inside a line, so escape it before it reaches a terminal or a page.
type Reply struct {
	Code     int // 200-599, 0 = no reply
	Enhanced EnhancedCode
	Text     string
}

// IsZero tells whether there was no reply.
func (r Reply) IsZero() bool { return r.Code == 0 }

// Positive, Transient and Permanent tell the class of the reply (RFC 5321 §4.2.1).
func (r Reply) Positive() bool  { return r.Code >= 200 && r.Code < 400 }
func (r Reply) Transient() bool { return r.Code >= 400 && r.Code < 500 }
func (r Reply) Permanent() bool { return r.Code >= 500 && r.Code < 600 }

func (r Reply) String() string {
	if r.Code == 0 {
		return ""
	}
	s := strconv.Itoa(r.Code)
	if !r.Enhanced.IsZero() {
		s += " " + r.Enhanced.String()
	}
	if r.Text != "" {
		s += " " + r.Text
	}
	return s
}
