package wire

import "strconv"

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
		if c.verb != VerbEhlo && c.verb != verbSilent {
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
	case verb == verbSilent:
		c.resetTransaction()
		return
	case code == "421":
		c.ending = true
	case verb == VerbEhlo && code == "250", verb == VerbHelo && code == "250":
		c.hello, c.esmtp = true, verb == VerbEhlo
		c.resetTransaction()
		c.keywords()
		return
	case verb == VerbMail && code == "250":
		c.mail, c.utf8 = true, c.mailArgs.UTF8
		c.txAt.Store(max(1, c.env.now.Load()))
		c.say(replySender)
		return
	case verb == VerbRcpt && code == "250":
		c.rcpts++
		c.say(replyRecipient)
		return
	case verb == VerbMail && code[0] == '5':
		c.refuse(string(b))
		return
	case verb == VerbRcpt && code[0] == '5':
		c.refuseRcpt(string(b))
		return
	case verb == VerbData && code == "354":
		c.inBody = true
		if !c.bodyReady {
			c.say(replyGoAhead)
		}
		return
	case verb == VerbData:
		c.dataReply(b, code)
		return
	case verb == VerbRset:
		c.resetTransaction()
		c.say(replyReset)
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

// dataReply ends a transaction.
func (c *Conn) dataReply(b []byte, code string) {
	if len(c.final) > 0 {
		b, code = c.final, string(c.final[:3])
		c.out = append(c.out, b...)
		c.final = c.final[:0]
	} else {
		c.out = append(c.out, b...)
	}
	if code == "250" {
		c.junk, c.idles, c.commands = 0, 0, 0
	}
	c.resetTransaction()
}

// resetTransaction forgets MAIL and what followed.
func (c *Conn) resetTransaction() {
	c.mail, c.chunked, c.bodyReady, c.utf8 = false, false, false, false
	c.txAt.Store(0)
	c.rcpts, c.over = 0, 0
	c.ReleaseBody()
}

// Accepted composes the reply to a body that was taken: 250 with the message's id.
func (c *Conn) Accepted(id string) {
	c.final = append(append(append(c.final[:0], "250 2.0.0 OK id="...), id...), '\r', '\n')
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
