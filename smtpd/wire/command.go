package wire

import (
	"bytes"
	"encoding/base64"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// maxWaste is how much of an endless command line is read before the connection ends.
const maxWaste = 64 << 10

// next makes the next octets for go-smtp: it takes commands, answers those that go-smtp does not see, and returns at the
// first one that it does. It returns false when the connection is over.
func (c *Conn) next() bool {
	for {
		if c.closing {
			return false
		}
		if len(c.buf) == 0 && c.hello && !c.authLine {
			c.sit()
			if c.taking != takingNone { // also where the client is gone: it is counted
				c.takeBody()
				continue
			}
			if c.closing {
				return false
			}
		}
		whole, line, ok := c.line()
		if !ok {
			return false
		}
		if c.authLine {
			c.authLine = false
			if !validBase64(line) {
				whole = cancelLine // go-smtp answers 501 to a cancelled exchange
			}
			c.feed = whole
			return true
		}
		c.command(whole, line)
		if len(c.feed) > 0 {
			return true
		}
	}
}

var (
	cancelLine = []byte("*\r\n")
	ehloLine   = []byte("EHLO x\r\n")
	heloLine   = []byte("HELO x\r\n")
	quitLine   = []byte("QUIT\r\n")
)

// line takes the next line off the input. whole is the line with its end, line without. Inside AUTH a line that is too long
// becomes one that cancels the exchange.
func (c *Conn) line() (whole, line []byte, ok bool) {
	for {
		i := bytes.IndexByte(c.buf, '\n')
		limit := smtp.MaxPathCommand
		if c.authLine || len(c.buf) >= 4 && smtp.EqualFold(c.buf[:4], "AUTH") {
			limit = smtp.MaxAuthLine
		}
		if i >= limit || i < 0 && len(c.buf) >= limit {
			if !c.waste() {
				return nil, nil, false
			}
			if c.authLine {
				c.phase.Store(phaseBusy)
				return cancelLine, cancelLine[:1], true
			}
			continue
		}
		if i < 0 {
			if !c.fill() {
				return nil, nil, false
			}
			continue
		}
		whole, line = c.buf[:i+1], c.buf[:i]
		if i > 0 && line[i-1] == '\r' {
			line = line[:i-1]
		} else if !c.opts.Normalize {
			c.end(replyBareLF)
			return nil, nil, false
		}
		c.buf = c.buf[i+1:]
		c.phase.Store(phaseBusy)
		return whole, line, true
	}
}

// waste reads to the end of a line that is too long and refuses it, but inside AUTH, where go-smtp waits for a line and
// answers it.
func (c *Conn) waste() bool {
	reply := replyLong
	if smtp.EqualFold(c.buf[:4], "MAIL") || smtp.EqualFold(c.buf[:4], "RCPT") {
		reply = replyLongPath
	}
	if !c.authLine && isBdat(c.buf) {
		c.end(reply)
		return false
	}
	for n := 0; n < maxWaste; {
		if i := bytes.IndexByte(c.buf, '\n'); i >= 0 {
			c.buf = c.buf[i+1:]
			if !c.authLine {
				c.refuse(reply)
			}
			return true
		}
		n += len(c.buf)
		c.buf = c.buf[len(c.buf)-1:] // one octet stays, so that waiting counts as being inside a command
		if !c.fill() {
			return false
		}
	}
	c.end(reply)
	return false
}

// reject refuses a line that is not understood. How many octets of a message follow a BDAT of that kind is anybody's guess,
// and none of them may be taken for a command, so the connection ends there (threat G10).
func (c *Conn) reject(line []byte, reply string) {
	if isBdat(line) {
		c.end(reply)
		return
	}
	c.refuse(reply)
}

func isBdat(line []byte) bool { return len(line) >= 4 && smtp.EqualFold(line[:4], "BDAT") }

// command checks one command and sees to it, or leaves a plain form of it in feed for go-smtp.
func (c *Conn) command(whole, line []byte) {
	if c.commands++; c.commands > c.env.limits.Commands {
		c.end(replyTooMany)
		return
	}
	line = bytes.TrimRight(line, " \t") // RFC 5321 §4.1.1 tolerates trailing white space
	word, arg, hasArg := bytes.Cut(line, []byte{' '})
	verb, ok := c.verbOf(word, line)
	if !ok {
		return
	}
	if len(line)+2 > smtp.MaxCommandLine && verb != VerbMail && verb != VerbRcpt && verb != VerbAuth {
		c.reject(line, replyLong)
		return
	}
	if verb == VerbNone {
		c.other(word, hasArg)
		return
	}
	if c.opts.TLS == TLSRequired && !c.secure && verb > VerbEhlo && verb != VerbQuit {
		if verb == VerbBdat {
			c.chunk(arg, replyTLSFirst)
			return
		}
		c.refuse(replyTLSFirst)
		return
	}
	if verb != VerbRset && verb != VerbQuit {
		if r := c.policy.Allow(c, verb); !r.IsZero() {
			c.deny(verb, arg, r)
			return
		}
	}
	c.pass(verb, whole, line, arg, hasArg)
}

// deny refuses a command by order of the policy. A refused BDAT still takes its chunk away (threat G10).
func (c *Conn) deny(verb Verb, arg []byte, r smtp.Reply) {
	text := string(AppendReply(nil, r))
	switch {
	case r.Code == 421:
		c.end(text)
	case verb == VerbBdat:
		c.chunk(arg, text)
	case r.Transient():
		c.say(text)
	case verb == VerbRcpt && c.mail:
		c.refuseRcpt(text)
	default:
		c.refuse(text)
	}
}

// pass brings a known command into the order of RFC 5321 §4.1.4.
func (c *Conn) pass(verb Verb, whole, line, arg []byte, hasArg bool) {
	switch verb {
	case VerbHelo, VerbEhlo:
		c.greet(verb, arg)
	case VerbMail:
		c.mailCommand(line)
	case VerbRcpt:
		c.rcptCommand(line)
	case VerbData:
		switch {
		case hasArg:
			c.refuse(replyArgument)
		case c.chunked:
			c.refuse(replyInChunks)
		case !c.mail:
			c.refuse(replyMailFirst)
		case c.rcpts == 0:
			c.refuse(replyRcptFirst)
		default:
			c.say(replyGoAhead)
			c.startBody(true)
			c.enterData()
			c.taking = takingBody
			if !c.seat.taken {
				c.takeBody()
			}
		}
	case VerbBdat:
		c.chunk(arg, "")
	case VerbAuth:
		c.authCommand(whole, arg)
	case VerbRset, VerbQuit:
		if hasArg {
			c.refuse(replyArgument)
			return
		}
		if verb == VerbQuit {
			c.give(verb, quitLine)
		} else if c.idle() {
			c.resetTransaction()
			c.say(replyReset)
		}
	}
}

// give hands a command to go-smtp.
func (c *Conn) give(verb Verb, plain []byte) { c.verb, c.feed = verb, plain }

// verbOf names the command. It refuses lines that hold what no command may hold.
func (c *Conn) verbOf(word, line []byte) (Verb, bool) {
	eightBit := false
	for _, b := range line {
		if b < 0x20 || b == 0x7f {
			c.reject(line, replyControl)
			return 0, false
		}
		eightBit = eightBit || b >= 0x80
	}
	verb := verbNamed(word)
	if eightBit && verb != VerbMail && verb != VerbRcpt {
		c.reject(line, replyEightBit)
		return 0, false
	}
	return verb, true
}

// verbNamed is the verb that word is, in whatever case; VerbNone where it is none that a Policy is asked about.
func verbNamed(word []byte) Verb {
	if len(word) != 4 {
		return VerbNone
	}
	switch string([]byte{word[0] &^ 0x20, word[1] &^ 0x20, word[2] &^ 0x20, word[3] &^ 0x20}) {
	case "HELO":
		return VerbHelo
	case "EHLO":
		return VerbEhlo
	case "MAIL":
		return VerbMail
	case "RCPT":
		return VerbRcpt
	case "DATA":
		return VerbData
	case "BDAT":
		return VerbBdat
	case "AUTH":
		return VerbAuth
	case "RSET":
		return VerbRset
	case "QUIT":
		return VerbQuit
	}
	return VerbNone
}

// other answers commands that go-smtp need not know.
func (c *Conn) other(word []byte, hasArg bool) {
	switch {
	case smtp.EqualFold(word, "NOOP"):
		if c.idle() {
			c.say(replyNoop)
		}
	case smtp.EqualFold(word, "VRFY"):
		if c.idle() {
			c.say(replyVrfy)
		}
	case smtp.EqualFold(word, "HELP"):
		if c.idle() {
			c.say(replyHelp)
		}
	case smtp.EqualFold(word, "STARTTLS"):
		c.startTLS(hasArg)
	case smtp.EqualFold(word, "EXPN"), smtp.EqualFold(word, "ETRN"), smtp.EqualFold(word, "TURN"), smtp.EqualFold(word, "SEND"),
		smtp.EqualFold(word, "SOML"), smtp.EqualFold(word, "SAML"):
		c.refuse(replyNotHere)
	case smtp.EqualFold(word, "PROXY"), smtp.EqualFold(word, "GET"), smtp.EqualFold(word, "POST"), smtp.EqualFold(word, "CONNECT"),
		smtp.EqualFold(word, "PUT"), smtp.EqualFold(word, "HEAD"), smtp.EqualFold(word, "OPTIONS"):
		c.end(replyForbidden) // a browser's or a balancer's bytes: what follows is not SMTP (threat T17)
	default:
		c.reject(word, replySyntax)
	}
}

// idle counts commands that do nothing.
func (c *Conn) idle() bool {
	if c.idles++; c.idles > c.env.limits.Idles {
		c.end(replyTooMany)
		return false
	}
	return true
}

func (c *Conn) greet(verb Verb, arg []byte) {
	if len(arg) == 0 || len(arg) > 255 || bytes.IndexByte(arg, ' ') >= 0 {
		c.refuse(replyHeloArg)
		return
	}
	if c.hello && !c.idle() {
		return
	}
	if string(arg) != c.helo {
		c.helo = string(arg)
	}
	if verb == VerbEhlo {
		c.give(verb, ehloLine)
	} else {
		c.give(verb, heloLine)
	}
}

func (c *Conn) mailCommand(line []byte) {
	if !c.hello {
		c.refuse(replyHelloFirst)
		return
	}
	if c.mail {
		c.refuse(replyMailTwice)
		return
	}
	args, err := smtp.ParseMail(line)
	if err != nil {
		c.refuse(pathReply(err, false))
		return
	}
	c.mailArgs = args
	if r := c.policy.Mail(c); !r.IsZero() {
		c.deny(VerbMail, nil, r)
		return
	}
	c.mail, c.utf8 = true, args.UTF8
	c.txAt.Store(max(1, c.env.now.Load()))
	c.say(replySender)
}

func (c *Conn) rcptCommand(line []byte) {
	switch {
	case !c.mail:
		c.refuse(replyMailFirst)
		return
	case c.chunked:
		c.refuse(replyInChunks)
		return
	case c.rcpts >= c.env.limits.Recipients:
		if c.over++; c.over > c.env.limits.Recipients {
			c.end(replyTooMany)
			return
		}
		c.say(replyTooManyRcpt)
		return
	}
	args, err := smtp.ParseRcpt(line, c.utf8)
	if err != nil {
		c.refuseRcpt(pathReply(err, true))
		return
	}
	c.rcptPath = args.Path
	if r := c.policy.Rcpt(c); !r.IsZero() {
		c.deny(VerbRcpt, nil, r)
		return
	}
	c.rcpts++
	c.say(replyRecipient)
}

func (c *Conn) authCommand(whole, arg []byte) {
	_, initial, ok := bytes.Cut(arg, []byte{' '})
	switch {
	case !c.hello:
		c.refuse(replyHelloFirst)
	case c.mail:
		c.refuse(replyAuthInMail)
	case c.policy.Mechanisms(c) == "":
		c.refuse(replyAuthNone)
	case len(arg) == 0, ok && !validBase64(initial):
		c.refuse(replyAuthSyntax)
	default:
		c.give(VerbAuth, whole)
	}
}

// validBase64 accepts what RFC 4954 §4 allows a client to send: base64, "=" for the empty string, "*" to cancel.
func validBase64(s []byte) bool {
	if len(s) == 1 && (s[0] == '=' || s[0] == '*') {
		return true
	}
	dst := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	_, err := base64.StdEncoding.Strict().Decode(dst, s)
	clear(dst)
	return err == nil && bytes.IndexByte(s, '\r') < 0
}
