package wire

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/internal/socket"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Verb is a command that a Policy is asked about.
type Verb uint8

// The verbs.
const (
	VerbNone Verb = iota
	VerbHelo
	VerbEhlo
	VerbMail
	VerbRcpt
	VerbData
	VerbBdat
	VerbAuth
	VerbRset
	VerbQuit
	verbGreeting // go-smtp's first words
)

// Policy decides what the connection may do. One method is called at a time: from the connection's goroutine, or from a reactor's
// while that has the connection. So Allow, Mail, Rcpt, Begin, End and Reset must not wait.
type Policy interface {
	// Admit is asked once, as soon as the peer's address is known: before the greeting and before a TLS handshake, during
	// which a peer can be silent. A reply refuses the connection.
	Admit(*Conn) smtp.Reply
	// Open is asked once, before the greeting. A reply refuses the connection.
	Open(*Conn) smtp.Reply
	// Allow is asked before each of EHLO, HELO, MAIL, RCPT, DATA, BDAT and AUTH. A reply refuses the command.
	Allow(*Conn, Verb) smtp.Reply
	// Size is the largest body in octets, for the SIZE keyword.
	Size() int
	// Mechanisms is the AUTH keyword's list, "" = AUTH is not offered now.
	Mechanisms(*Conn) string
	// Mail begins a transaction with the sender of Conn.Mail. A reply refuses it.
	Mail(*Conn) smtp.Reply
	// Rcpt adds the recipient of Conn.Rcpt. A reply refuses it.
	Rcpt(*Conn) smtp.Reply
	// Data hands over the message of Conn.Body. Without a reply it is accepted: kept for good, under the id returned.
	Data(*Conn) (id string, refusal smtp.Reply)
	// Begin is Data where nobody may wait: it hands the message over, and Conn.Answered is called later. False = nothing was done,
	// and Data will be called.
	Begin(*Conn) bool
	// End tells after Conn.Answered what Data would have returned.
	End(*Conn) (id string, refusal smtp.Reply)
	// Reset forgets the transaction, also after Data, and where there is none.
	Reset()
	// Closed is called once when the connection is gone for good.
	Closed()
}

// What the connection is doing, for the sweeper.
const (
	phaseBusy  uint32 = iota // the server's turn
	phaseOpen                // PROXY header or TLS handshake
	phaseIdle                // waiting for a command to begin, no transaction open
	phaseWait                // the same inside a transaction
	phaseLine                // inside a command
	phaseData                // inside a body
	phaseWrite               // waiting for the peer to take a reply
	phaseClosed
)

// Conn is one strict SMTP connection; go-smtp drives it as a net.Conn. All but the methods said to be safe belong to
// the connection's goroutine, or to the reactor's while it sits there.
type Conn struct {
	env    *Env
	opts   *Options
	policy Policy
	below  net.Conn        // TCP, or TLS above it
	tcp    net.Conn        // the TCP connection, for deadlines
	raw    syscall.RawConn // nil above TLS and on anything but TCP
	remote netip.AddrPort
	proxy  bool // a PROXY header comes first
	local  bool // the PROXY header named nobody: not to be trusted for its address

	buf   []byte         // octets read and not taken
	big   *[bigSize]byte // what buf lies in, nil = in small
	small []byte         // keeps an unfinished line while waiting; the read buffer above TLS
	read  func(uintptr) bool
	readN int
	readE error

	out  []byte    // replies not yet written
	to   io.Writer // where they go: the socket itself where below is one
	feed []byte    // octets for go-smtp
	verb Verb      // the command go-smtp is working on

	opened   bool // the greeting is decided
	upgraded bool // carries on after STARTTLS: no greeting
	moved    bool // another Conn carries on after STARTTLS
	ending   bool // close behind the reply to the command at hand
	closing  bool // no further reads
	closed   bool
	secure   bool // TLS is on
	hello    bool // EHLO or HELO was accepted
	esmtp    bool
	mail     bool // a transaction is open
	chunked  bool // with BDAT
	authLine bool // the next line answers an AUTH challenge

	rcpts, over           int // recipients accepted, and refused as too many
	junk, idles, commands int // since the last accepted message
	discarded             int64
	helo                  string
	mailArgs              smtp.MailArgs
	rcptPath              []byte
	utf8                  bool
	limit                 int // octets of this transaction's body
	body                  bodyReader
	taking                taking
	seat                  seat

	phase atomic.Uint32
	txAt  atomic.Int64 // env.now when the open transaction began, 0 = none is open
	since atomic.Int64 // env.now when the phase began or octets came last
	begun atomic.Int64 // env.now when the command or body began
	got   atomic.Int64 // octets of the body
	cut   atomic.Pointer[string]
}

// New wraps an accepted connection. proxied tells that a PROXY header comes first.
func New(env *Env, c net.Conn, o *Options, p Policy, proxied bool) *Conn {
	w := &Conn{env: env, opts: o, policy: p, below: c, tcp: c, proxy: proxied, verb: verbGreeting}
	w.attach()
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		w.remote = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	w.enter(phaseOpen)
	w.begun.Store(env.now.Load())
	return w
}

// attach prepares reading and writing: straight from the socket where below is one, so that a buffer is needed only once octets
// are there; through a buffer of its own otherwise.
func (c *Conn) attach() {
	c.raw, c.to = nil, c.below
	if sc, ok := c.below.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw, c.read, c.to = raw, c.readSocket, socket.NewWriter(raw)
			return
		}
	}
	if cap(c.small) < 4096 {
		c.small = append(make([]byte, 0, 4096), c.small...)
	}
}

func (c *Conn) enter(phase uint32) {
	c.since.Store(c.env.now.Load())
	c.phase.Store(phase)
}

// Read gives go-smtp its next octets: one command. Transactions before it are seen to here.
func (c *Conn) Read(p []byte) (n int, err error) {
	defer c.guard(&err)
	if len(c.feed) == 0 {
		if !c.next() {
			c.enter(phaseBusy)
			return 0, io.EOF
		}
		c.enter(phaseBusy)
	}
	n = copy(p, c.feed)
	c.feed = c.feed[n:]
	return n, nil
}

// guard keeps a panic of this package or of the policy inside the connection, which ends. go-smtp guards its own calls.
func (c *Conn) guard(err *error) {
	if v := recover(); v != nil {
		if c.phase.Load() == phaseOpen { // no greeting, no words
			c.closing = true
		}
		c.panicked(v)
		*err = io.EOF
	}
}

// panicked ends the connection after a panic, and tells of it.
func (c *Conn) panicked(v any) {
	c.end(replyBroken)
	if c.env.Panicked != nil {
		c.env.Panicked(v)
	}
}

// end says the last words and makes every further read fail.
func (c *Conn) end(reply string) {
	if c.closing {
		return
	}
	c.out = append(c.out, reply...)
	c.closing = true
}

func (c *Conn) endCut() {
	if c.phase.Load() == phaseOpen { // no greeting, no words
		c.closing = true
		return
	}
	// The read deadline that woke us holds for reads only; the last words get a short time of their own.
	_ = c.tcp.SetWriteDeadline(clock.Wall().Add(min(c.env.limits.Write, 2*time.Second)))
	c.end(*c.cut.Load())
}

// flush writes the replies gathered so far.
func (c *Conn) flush() bool {
	if len(c.out) == 0 {
		return !c.closing
	}
	phase := c.phase.Load()
	c.enter(phaseWrite)
	_, err := c.to.Write(c.out)
	c.phase.Store(phase)
	c.out = c.out[:0]
	if cap(c.out) > keptOut {
		c.out = nil
	}
	if err != nil {
		c.closing = true
	}
	return !c.closing
}

// say queues a reply of ours.
func (c *Conn) say(reply string) {
	c.out = append(c.out, reply...)
	if len(c.out) > maxOut && !c.seat.taken { // a client that pipelines much: do not let its replies pile up
		c.flush()
	}
}

// maxOut is how many octets of replies are gathered before they are written although more commands are there.
const maxOut = 16 << 10

// keptOut is how much memory for replies a connection keeps that owes none, in octets.
const keptOut = 4096

// refuse queues a reply to a command that should not have come, and loses patience in the end.
func (c *Conn) refuse(reply string) {
	c.say(reply)
	if c.junk++; c.junk >= c.env.limits.Junk {
		c.end(replyTooMany)
	}
}

// refuseRcpt queues the refusal of a recipient. In the transaction of somebody who may send that is a matter of the list he
// sends to, and ending it would lose the rest of it at each try anew (requirement E-41); others are as good as their first
// recipient that is accepted.
func (c *Conn) refuseRcpt(reply string) {
	if c.opts.Anybody && c.rcpts == 0 {
		c.refuse(reply)
		return
	}
	c.say(reply)
}

// sayReply queues r.
func (c *Conn) sayReply(r smtp.Reply) { c.out = AppendReply(c.out, r) }

// Close ends the connection: replies still owed are written, and what the client still sends is read for a moment, so
// that the last reply is not lost to a reset.
func (c *Conn) Close() error {
	if c.moved || c.closed {
		return nil
	}
	c.closed = true
	forced := c.closing && len(c.out) > 0
	c.closing = false
	c.flush()
	c.drop()
	c.env.release(c.body.buf)
	c.body.buf = nil
	c.phase.Store(phaseClosed)
	if forced {
		c.linger()
	}
	err := c.below.Close()
	c.leave()
	c.policy.Closed()
	return err
}

// linger waits shortly for the client to read our last words and to close.
func (c *Conn) linger() {
	cw, ok := c.below.(interface{ CloseWrite() error })
	if !ok || cw.CloseWrite() != nil {
		return
	}
	_ = c.tcp.SetReadDeadline(clock.Wall().Add(500 * time.Millisecond))
	var waste [1024]byte
	for n := 0; n < 256<<10; {
		m, err := c.tcp.Read(waste[:])
		if err != nil {
			return
		}
		n += m
	}
}

// Remote is the client's address: what the PROXY header said where one was believed. Trusted is false where the header
// named nobody, so that the address is a proxy's.
func (c *Conn) Remote() netip.Addr { return c.remote.Addr() }

// Local is the address the client connected to.
func (c *Conn) Local() netip.Addr {
	if a, ok := c.tcp.LocalAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Trusted tells whether Remote is the client's own address.
func (c *Conn) Trusted() bool { return !c.local }

// Secure tells whether TLS is on.
func (c *Conn) Secure() bool { return c.secure }

// Helo is what the client called itself; ESMTP tells that it said EHLO.
func (c *Conn) Helo() string { return c.helo }

// ESMTP tells whether the client said EHLO.
func (c *Conn) ESMTP() bool { return c.esmtp }

// Policy returns what New was given.
func (c *Conn) Policy() Policy { return c.policy }

// Mail is the MAIL command of the transaction. Its path is valid until the policy's Mail returns.
func (c *Conn) Mail() smtp.MailArgs { return c.mailArgs }

// Rcpt is the path of the RCPT command at hand, valid until the policy's Rcpt returns.
func (c *Conn) Rcpt() []byte { return c.rcptPath }

// LocalAddr, RemoteAddr and the deadlines belong to net.Conn. go-smtp sets no deadlines: the sweeper watches instead.
func (c *Conn) LocalAddr() net.Addr              { return c.tcp.LocalAddr() }
func (c *Conn) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(c.remote) }
func (c *Conn) SetDeadline(time.Time) error      { return nil }
func (c *Conn) SetReadDeadline(time.Time) error  { return nil }
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// ConnectionState returns the TLS state, false where TLS is not on.
func (c *Conn) ConnectionState() (tls.ConnectionState, bool) {
	t, ok := c.below.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return t.ConnectionState(), true
}

// EndAfterReply closes the connection once the reply to the command at hand is out.
func (c *Conn) EndAfterReply() { c.ending = true }

// InMail tells whether a transaction is open.
func (c *Conn) InMail() bool { return c.mail }

// TLSMode is the listener's.
func (c *Conn) TLSMode() TLSMode { return c.opts.TLS }

// Kill closes the socket under whatever goes on. Safe for concurrent use.
func (c *Conn) Kill() {
	_ = c.tcp.Close()
	c.callUp()
}
