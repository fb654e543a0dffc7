package wire

import (
	"crypto/tls"
	"net"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// open makes the connection ready for SMTP, in its own goroutine: PROXY header, the policy's leave for the address, TLS
// handshake, its leave for the session.
func (c *Conn) open() {
	c.opened = true
	if c.proxy && !c.readProxy() {
		c.closing = true
		return
	}
	if !c.upgraded {
		if r := c.policy.Admit(c); !r.IsZero() {
			if c.opts.TLS != TLSImplicit { // who waits for a handshake cannot read words
				c.sayReply(r)
			}
			c.closing = true
			return
		}
	}
	if c.opts.TLS == TLSImplicit && !c.secure {
		below := c.below
		if len(c.buf) > 0 {
			below = &prefixed{Conn: below, front: append([]byte(nil), c.buf...)}
			c.drop()
		}
		c.below, c.secure = tls.Server(below, c.opts.Config), true
	}
	if t, ok := c.below.(*tls.Conn); ok {
		c.attach()
		c.begun.Store(c.env.now.Load())
		c.enter(phaseOpen)
		if err := t.Handshake(); err != nil {
			c.closing = true
			return
		}
	}
	c.enter(phaseBusy)
	if c.upgraded {
		return
	}
	if r := c.policy.Open(c); !r.IsZero() {
		c.sayReply(r)
		c.closing = true
		return
	}
	c.out = append(append(append(c.out, "220 "...), c.env.Hostname...), " ESMTP ekiden\r\n"...)
}

func (c *Conn) offersTLS() bool {
	return !c.secure && c.opts.Config != nil && (c.opts.TLS == TLSOptional || c.opts.TLS == TLSRequired)
}

// startTLS hands the connection over to a new Conn above TLS, served by a new go-smtp session, so that nothing said
// in the clear outlives the handshake (RFC 3207 §4.2).
func (c *Conn) startTLS(hasArg bool) {
	switch {
	case hasArg:
		c.refuse(replyArgument)
		return
	case c.secure:
		c.refuse(replyTLSOn)
		return
	case !c.offersTLS():
		c.refuse(replyTLSNone)
		return
	case c.mail:
		c.refuse(replyMailTwice)
		return
	case len(c.buf) > 0: // commands put behind STARTTLS in the clear (threat T1)
		c.buf = nil
		c.end(replyTLSPipe)
		return
	}
	c.say(replyTLSGo)
	if !c.flush() {
		return
	}
	c.drop()
	c.leave()
	n := &Conn{
		env: c.env, opts: c.opts, policy: c.policy, below: tls.Server(c.tcp, c.opts.Config), tcp: c.tcp,
		remote: c.remote, local: c.local, verb: verbGreeting, upgraded: true, secure: true,
		junk: c.junk, idles: c.idles, commands: c.commands, discarded: c.discarded,
	}
	n.enter(phaseOpen)
	n.begun.Store(c.env.now.Load())
	c.moved, c.closing = true, true
	c.phase.Store(phaseClosed)
	c.env.handover(n)
}

// readProxy reads the PROXY header that a trusted balancer puts first (threat T17).
func (c *Conn) readProxy() bool {
	for {
		h, n, err := parseProxy(c.buf)
		if err == nil {
			c.buf = c.buf[n:]
			if h.addr.IsValid() {
				c.remote = h.addr
			} else {
				c.local = true
			}
			return true
		}
		if err != errShort || !c.fill() {
			return false
		}
	}
}

// prefixed gives back octets that were read too early.
type prefixed struct {
	net.Conn
	front []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.front) > 0 {
		n := copy(b, p.front)
		p.front = p.front[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// Body is the message that followed DATA, or that BDAT brought, for the policy's Data. A reply says why it cannot be taken. The
// octets belong to the connection until ReleaseBody.
func (c *Conn) Body() ([]byte, smtp.Reply) {
	if c.closing && c.body.fault == FaultNone {
		return nil, smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 4, Detail: 2}, Text: "Connection lost"}
	}
	return c.body.buf, c.verdict()
}

// EightBit tells whether the body holds octets above 127.
func (c *Conn) EightBit() bool { return smtp.HasEightBit(c.body.buf) }

// ReleaseBody gives the body's memory back.
func (c *Conn) ReleaseBody() {
	if c.body.buf != nil {
		c.env.release(c.body.buf)
		c.body.buf, c.body.tail = nil, 0
	}
}

// Limit sets the largest body of this transaction, in octets.
func (c *Conn) Limit(octets int) { c.limit = octets }

// verdict is the reply to a body that cannot be taken; one with octets that smuggle also ends the connection.
func (c *Conn) verdict() smtp.Reply {
	if c.body.fault == FaultBytes {
		c.ending = true
	}
	return c.body.fault.Reply()
}

func (c *Conn) startBody(dots bool) {
	o := *c.opts
	if o.MaxLine <= 0 {
		o.MaxLine = smtp.MaxTextLine
	}
	c.body.reset(c.env, &o, c.limit, dots)
}

func (c *Conn) enterData() {
	c.begun.Store(c.env.now.Load())
	c.got.Store(0)
	c.enter(phaseData)
}

// takeBody reads up to CRLF "." CRLF and has the message handed over, however far that has come.
func (c *Conn) takeBody() {
	for c.taking == takingBody {
		if len(c.buf) == 0 && !c.fill() {
			break
		}
		if !c.feedBody() && c.discardedTooMuch() {
			break
		}
	}
	c.enter(phaseBusy)
	c.message()
}

// feedBody takes what buf holds of the body, and tells whether CRLF "." CRLF was among it.
func (c *Conn) feedBody() (done bool) {
	used, done := c.body.feed(c.buf)
	c.buf = c.buf[used:]
	c.got.Add(int64(used))
	if done {
		c.discard()
		c.taking = takingWhole
		c.enter(phaseBusy)
	}
	return done
}

// discard counts what a body that cannot be taken cost. Where memory is short that is not the client's fault.
func (c *Conn) discard() {
	if c.body.fault != FaultMemory {
		c.discarded += c.body.skipped
	}
}

// discardedTooMuch ends the connection inside a body once more of it, and of others, was for nothing than is borne.
func (c *Conn) discardedTooMuch() bool {
	if c.discarded+c.body.skipped <= c.env.limits.Discard {
		return false
	}
	if c.body.fault == FaultMemory { // it will be taken another time
		c.end(string(AppendReply(nil, FaultMemory.Reply())))
	} else {
		c.end(replyDiscard)
	}
	return true
}

// chunk takes a BDAT command (RFC 3030 §2). Whatever is wrong with it, its octets are taken off the stream before
// the refusal, or the connection ends (threat G10). refusal is set where it is refused already.
func (c *Conn) chunk(arg []byte, refusal string) {
	size, last, sized, ok := smtp.ParseChunk(arg)
	if !sized { // where the next command begins is anybody's guess
		c.end(replyBadChunk)
		return
	}
	switch {
	case refusal != "":
	case !ok:
		refusal = replyBadChunk
	case !c.mail:
		refusal = replyMailFirst
	case c.rcpts == 0:
		refusal = replyRcptFirst
	}
	if refusal != "" {
		if c.skip(size, refusal) {
			c.refuse(refusal)
			c.resetTransaction() // after a failed BDAT nothing of it may be used again (RFC 3030 §2, threat T11)
		}
		return
	}
	if !c.chunked {
		c.startBody(false)
		c.chunked = true
	}
	if !c.takeChunk(size) {
		return
	}
	if last {
		c.body.finish()
	}
	if r := c.verdict(); !r.IsZero() {
		c.sayReply(r)
		c.closing = c.closing || c.ending
		c.discard()
		c.resetTransaction()
		return
	}
	if !last {
		c.say(replyChunk)
		return
	}
	c.message()
}

// takeChunk reads size octets into the body.
func (c *Conn) takeChunk(size int64) bool {
	c.enterData()
	defer c.enter(phaseBusy)
	for size > 0 {
		if len(c.buf) == 0 && !c.fill() {
			return false
		}
		n := int(min(size, int64(len(c.buf))))
		c.body.feed(c.buf[:n])
		c.buf = c.buf[n:]
		c.got.Add(int64(n))
		size -= int64(n)
		if c.discardedTooMuch() {
			return false
		}
	}
	return true
}

// skip takes size octets off the stream. A chunk beyond what may be discarded ends the connection at once.
func (c *Conn) skip(size int64, refusal string) bool {
	c.discarded += size
	if c.discarded > c.env.limits.Discard {
		c.end(refusal)
		return false
	}
	c.enterData()
	defer c.enter(phaseBusy)
	for size > 0 {
		if len(c.buf) == 0 && !c.fill() {
			return false
		}
		n := min(size, int64(len(c.buf)))
		c.buf = c.buf[n:]
		c.got.Add(n)
		size -= n
	}
	return true
}
