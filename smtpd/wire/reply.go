package wire

import (
	"strconv"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Replies that need no composing.
const (
	replySyntax      = "500 5.5.2 Command not recognized\r\n"
	replyControl     = "501 5.5.2 Control characters are not allowed\r\n"
	replyEightBit    = "501 5.5.2 Only ASCII is allowed here\r\n"
	replyLong        = "500 5.5.2 Line too long\r\n"
	replyLongPath    = "501 5.5.2 Line too long\r\n"
	replyBareLF      = "500 5.5.2 Lines must end with CR LF\r\n"
	replyForbidden   = "421 4.7.0 This is an SMTP server\r\n"
	replyArgument    = "501 5.5.4 No argument is allowed here\r\n"
	replyHeloArg     = "501 5.5.4 Want the name of your host\r\n"
	replyHelloFirst  = "503 5.5.1 Say EHLO first\r\n"
	replyMailTwice   = "503 5.5.1 A transaction is already open\r\n"
	replyMailFirst   = "503 5.5.1 MAIL comes first\r\n"
	replyRcptFirst   = "503 5.5.1 RCPT comes first\r\n"
	replyInChunks    = "503 5.5.1 Not between BDAT chunks\r\n"
	replyTLSFirst    = "530 5.7.0 Must issue a STARTTLS command first\r\n"
	replyTLSOn       = "503 5.5.1 TLS is already on\r\n"
	replyTLSNone     = "502 5.5.1 STARTTLS is not offered\r\n"
	replyTLSPipe     = "503 5.5.1 Nothing may follow STARTTLS before the handshake\r\n"
	replyTLSGo       = "220 2.0.0 Ready to start TLS\r\n"
	replyAuthInMail  = "503 5.5.1 AUTH is not allowed inside a transaction\r\n"
	replyAuthNone    = "502 5.5.1 AUTH is not offered here\r\n"
	replyAuthSyntax  = "501 5.5.2 Malformed AUTH exchange\r\n"
	replyTooManyRcpt = "452 4.5.3 Too many recipients\r\n"
	replyTooMany     = "421 4.7.0 Too many errors or idle commands\r\n"
	replyIdle        = "421 4.4.2 Timeout\r\n"
	replySlow        = "421 4.4.2 Too slow\r\n"
	replyShutdown    = "421 4.3.2 Service is shutting down\r\n"
	replyChunk       = "250 2.0.0 Chunk received\r\n"
	replyBadChunk    = "501 5.5.4 Malformed BDAT argument\r\n"
	replyDiscard     = "552 5.3.4 Message too large, giving up\r\n"
	replySender      = "250 2.1.0 Sender OK\r\n"
	replyRecipient   = "250 2.1.5 Recipient OK\r\n"
	replyGoAhead     = "354 End data with <CR><LF>.<CR><LF>\r\n"
	replyNoop        = "250 2.0.0 OK\r\n"
	replyVrfy        = "252 2.5.0 Cannot verify, send and see\r\n"
	replyHelp        = "214 2.0.0 See RFC 5321\r\n"
	replyNotHere     = "502 5.5.1 Command not implemented\r\n"
	replyReset       = "250 2.0.0 Reset\r\n"
	replyEvicted     = "421 4.4.5 Too many connections, the most silent one ends\r\n"
	replyBye         = "221 2.0.0 Bye\r\n"
	replyBroken      = "421 4.0.0 Internal server error\r\n"
	replyAuthOK      = "235 2.7.0 Authentication successful\r\n"
)

// Reply turns a fault into what the client is told.
func (f Fault) Reply() smtp.Reply {
	code := func(subject, detail uint16) smtp.EnhancedCode {
		return smtp.EnhancedCode{Class: 5, Subject: subject, Detail: detail}
	}
	switch f {
	case FaultTooLarge:
		return smtp.Reply{Code: 552, Enhanced: code(3, 4), Text: "Message too large"}
	case FaultHeader:
		return smtp.Reply{Code: 552, Enhanced: code(3, 4), Text: "Header section too large"}
	case FaultLine:
		return smtp.Reply{Code: 554, Enhanced: code(6, 0), Text: "Message has a line longer than allowed"}
	case FaultBytes:
		return smtp.Reply{Code: 550, Enhanced: code(6, 11), Text: "Message has a bare CR, bare LF or NUL"}
	case FaultMemory:
		return smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 1},
			Text: "Too much mail at once, try again"}
	}
	return smtp.Reply{}
}

// pathReply turns an error of the command grammar into a reply (threats T4, T10; requirement E-41).
func pathReply(err error, rcpt bool) string {
	switch err {
	case smtp.ErrNeedsUTF8:
		if rcpt {
			return "553 5.6.7 Address needs SMTPUTF8\r\n"
		}
		return "550 5.6.7 Address needs SMTPUTF8\r\n"
	case smtp.ErrUTF8:
		return "553 5.6.7 Address holds characters that are not allowed\r\n"
	case smtp.ErrNoAt:
		return "501 5.1.3 Address has no domain\r\n"
	case smtp.ErrParameter:
		return "501 5.5.4 Malformed parameter\r\n"
	case smtp.ErrUnsupported:
		return "555 5.5.4 Parameter is not supported\r\n"
	case smtp.ErrControl:
		return replyControl
	}
	return "501 5.5.2 Want the address in angle brackets\r\n"
}

// AppendReply appends r as it goes on the wire. Whatever could end a line or steer a terminal becomes "?".
func AppendReply(dst []byte, r smtp.Reply) []byte {
	text := r.Text
	for {
		line, more := text, false
		for i := 0; i < len(text); i++ {
			if text[i] == '\n' {
				line, text, more = text[:i], text[i+1:], true
				break
			}
		}
		dst = strconv.AppendInt(dst, int64(r.Code), 10)
		if more {
			dst = append(dst, '-')
		} else {
			dst = append(dst, ' ')
		}
		if !r.Enhanced.IsZero() {
			dst = append(append(dst, r.Enhanced.String()...), ' ')
		}
		dst = append(append(dst, Printable(line, 400)...), '\r', '\n')
		if !more {
			return dst
		}
	}
}

// Printable returns s with everything but printable ASCII as "?", cut to most octets.
func Printable(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] >= 0x7f {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if b[j] < 0x20 || b[j] >= 0x7f {
					b[j] = '?'
				}
			}
			return string(b)
		}
	}
	return s
}
