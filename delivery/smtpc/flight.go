package smtpc

import (
	"errors"
	"strconv"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// oneWrite is the largest body, in octets, that travels in one write with its dot. A larger one is written in pieces
// of this size, and always with DATA, so that clearance is asked at its end and not at its begin.
const oneWrite = 64 << 10

// flight is a delivery between Next and its outcome.
type flight struct {
	job      *mail.Job
	from, to string // as they are written between the angle brackets
	from8    bool   // the sender's local part is not ASCII
	dots     int    // lines of the body that begin with a dot
	chunk    bool   // the body goes by BDAT
	reset    bool   // RSET goes in front of MAIL
}

// prepare readies f for j. It returns the outcome of a message that this receiver cannot be given, or none.
func (s *Session) prepare(f *flight, j *mail.Job) mail.Outcome {
	d := &j.Delivery
	*f = flight{job: j}
	var err error
	sender := d.From
	if s.cfg.Sender != nil {
		sender = s.cfg.Sender(d)
	}
	f.from8 = !sender.IsASCII()
	if f.from, err = sender.Wire(); err != nil {
		return s.hopeless(mail.StatusFormat, "5.1.7 sender: "+err.Error())
	}
	if f.to, err = d.To.Wire(); err == nil && d.To.IsNull() {
		err = mail.ErrNoDomain
	}
	if err != nil {
		return s.hopeless(mail.StatusFormat, "5.1.3 recipient: "+err.Error())
	}
	if f.dots, err = smtp.CheckData(j.Body); err != nil {
		return s.hopeless(mail.StatusOther, contentCode(err)+err.Error())
	}
	switch {
	case !s.caps.UTF8 && f.needsUTF8():
		return s.hopeless(mail.StatusOther, "5.6.7 message needs SMTPUTF8, which the receiver does not offer")
	case !s.caps.EightBit && d.EightBit:
		return s.hopeless(mail.StatusOther, "5.6.3 message needs 8BITMIME, which the receiver does not offer")
	case s.caps.Size > 0 && len(j.Body) > s.caps.Size:
		return s.hopeless(mail.StatusSize, "5.3.4 message of "+strconv.Itoa(len(j.Body))+
			" octets exceeds the receiver's limit of "+strconv.Itoa(s.caps.Size))
	}
	f.chunk = s.caps.Chunking && len(j.Body) <= oneWrite
	return mail.Outcome{}
}

func (f *flight) needsUTF8() bool {
	d := &f.job.Delivery
	return d.UTF8 || f.from8 || !d.To.IsASCII()
}

// hopeless is the outcome of a message that we refuse to send.
func (s *Session) hopeless(status mail.Status, detail string) mail.Outcome {
	o := s.outcome(mail.StageNone, smtp.Reply{}, detail)
	o.Result, o.Status, o.Scope = mail.Failed, status, mail.ScopeMessage
	return o
}

func contentCode(err error) string {
	if errors.Is(err, smtp.ErrLongLine) {
		return "5.6.0 "
	}
	return "5.6.11 " // invalid line ends or NUL
}

// appendEnvelope appends the commands in front of f's body, as one group (RFC 2920 §3.1).
func (s *Session) appendEnvelope(out []byte, f *flight) []byte {
	f.reset = s.unclean
	s.unclean = false
	if f.reset {
		out = append(out, "RSET\r\n"...)
	}
	out = s.appendMail(out, f)
	out = appendRcpt(out, f)
	if !f.chunk {
		out = append(out, "DATA\r\n"...)
	}
	return out
}

func (s *Session) appendMail(out []byte, f *flight) []byte {
	out = append(out, "MAIL FROM:<"...)
	out = append(out, f.from...)
	out = append(out, '>')
	if s.caps.HasSize {
		out = append(out, " SIZE="...)
		out = strconv.AppendInt(out, int64(len(f.job.Body)), 10)
	}
	if f.job.Delivery.EightBit {
		out = append(out, " BODY=8BITMIME"...)
	}
	if f.needsUTF8() {
		out = append(out, " SMTPUTF8"...)
	}
	return append(out, "\r\n"...)
}

func appendRcpt(out []byte, f *flight) []byte {
	out = append(out, "RCPT TO:<"...)
	out = append(out, f.to...)
	return append(out, ">\r\n"...)
}

// appendBody appends f's body with what ends it: the lone dot, or BDAT LAST in front.
func appendBody(out []byte, f *flight) []byte {
	if f.chunk {
		out = append(out, "BDAT "...)
		out = strconv.AppendInt(out, int64(len(f.job.Body)), 10)
		out = append(out, " LAST\r\n"...)
		return append(out, f.job.Body...)
	}
	out = smtp.AppendData(out, f.job.Body, f.dots)
	return append(out, ".\r\n"...)
}
