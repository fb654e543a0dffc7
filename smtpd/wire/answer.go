package wire

import (
	"strconv"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Write takes go-smtp's reply to the command at hand. Its code decides what happens; its words are mostly replaced,
// because they repeat what the client sent or offer what only this side knows.
func (c *Conn) Write(b []byte) (n int, err error) {
	defer c.guard(&err)
	if c.verb == verbGreeting {
		c.verb = VerbNone
		c.open()
		return len(b), nil
	}
	if len(b) < 4 || c.closing { // the last words are said
		return len(b), nil
	}
	if b[3] != ' ' { // a line of a longer reply
		if c.verb != VerbEhlo {
			c.out = append(c.out, b...)
		}
		return len(b), nil
	}
	c.reply(b, string(b[:3]))
	if c.ending {
		c.closing = true
	}
	return len(b), nil
}

func (c *Conn) reply(b []byte, code string) {
	verb := c.verb
	switch {
	case code == "421":
		c.ending = true
	case verb == VerbEhlo && code == "250", verb == VerbHelo && code == "250":
		c.hello, c.esmtp = true, verb == VerbEhlo
		c.resetTransaction()
		c.keywords()
		return
	case verb == VerbQuit:
		b = []byte(replyBye)
	case verb == VerbAuth && code == "334":
		c.authLine = true
	case verb == VerbAuth && code == "235":
		b = []byte(replyAuthOK)
	}
	c.out = append(c.out, b...)
}

// message has the body handed over and answers it, which ends the transaction.
func (c *Conn) message() {
	c.conclude(c.policy.Data(c))
}

// conclude says what became of the message.
func (c *Conn) conclude(id string, refusal smtp.Reply) {
	c.taking = takingNone
	switch {
	case c.closing: // the last words are said
		return
	case refusal.IsZero():
		c.out = append(append(append(c.out, "250 2.0.0 OK id="...), id...), '\r', '\n')
		c.junk, c.idles, c.commands = 0, 0, 0
	default:
		c.sayReply(refusal)
		c.closing = c.ending || refusal.Code == 421
	}
	c.resetTransaction()
}

// resetTransaction forgets MAIL and what followed.
func (c *Conn) resetTransaction() {
	c.mail, c.chunked, c.utf8 = false, false, false
	c.txAt.Store(0)
	c.rcpts, c.over = 0, 0
	c.ReleaseBody()
	c.policy.Reset()
}

// keywords answers EHLO or HELO.
func (c *Conn) keywords() {
	if !c.esmtp {
		c.out = append(append(append(c.out, "250 "...), c.env.Hostname...), '\r', '\n')
		return
	}
	c.out = append(append(append(c.out, "250-"...), c.env.Hostname...), "\r\n250-PIPELINING\r\n250-SIZE "...)
	c.out = strconv.AppendInt(c.out, int64(c.policy.Size()), 10)
	c.out = append(c.out, "\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"...)
	if c.offersTLS() {
		c.out = append(c.out, "250-STARTTLS\r\n"...)
	}
	if c.opts.TLS != TLSRequired || c.secure {
		if m := c.policy.Mechanisms(c); m != "" {
			c.out = append(append(append(c.out, "250-AUTH "...), m...), '\r', '\n')
		}
	}
	c.out = append(c.out, "250 CHUNKING\r\n"...)
}
