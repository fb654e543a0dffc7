package smtpd

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

// grantAge is how long an answer of the Directory holds inside a session.
const grantAge = time.Second

// session is one client's connection: wire's Policy. Its fields belong to the connection's goroutine, but for those under peers.mu.
type session struct {
	srv  *Server
	role Role
	at   *Listener
	conn *wire.Conn
	wire atomic.Pointer[wire.Conn] // for the sweeper

	// Under peers.mu.
	claimed  composition
	counted  netip.Addr
	stranger bool
	evicted  bool

	remote   netip.Addr
	local    netip.Addr
	network  []Grant // of the client's address
	user     string
	byUser   Grant
	asked    time.Duration // when network and byUser were looked up, on the coarse clock
	failures int

	from      mail.Address // also the last one, while decided
	to        []mail.Address
	grant     Grant // of this transaction
	decided   bool  // grant holds for from until the next look-up
	began     time.Time
	submitted mail.Submission

	// The answer to the last message.
	done   func(mail.MessageID, error) // fills it in, for who does not wait; bound once
	id     mail.MessageID
	err    error
	octets int64 // of the message
}

var (
	replyRelayDenied = temporary(550, 5, 7, 1, "Relaying denied: your address is not registered here")
	replyAuthFirst   = temporary(530, 5, 7, 0, "Authentication required")
	replySenderWrong = temporary(501, 5, 1, 7, "Sender address is malformed")
	replySenderNot   = temporary(553, 5, 7, 1, "This FROM domain is not registered")
	replySourceRoute = temporary(553, 5, 1, 3, "Source routes are not supported")
	replyTooLarge    = temporary(552, 5, 3, 4, "Message too large")
	replyNotOurs     = temporary(550, 5, 7, 1, "No mail is received for this domain")
	replyOneTenant   = temporary(452, 4, 5, 3, "Send this recipient in a transaction of its own")
	replyTrouble     = temporary(451, 4, 3, 0, "Local trouble, try again")
	replyEncrypt     = temporary(538, 5, 7, 11, "AUTH needs STARTTLS here")
)

// Admit counts the connection by its client's address.
func (s *session) Admit(c *wire.Conn) smtp.Reply {
	s.remote, s.local = c.Remote(), c.Local()
	s.lookUp(c)
	if !s.srv.peers.admit(s, s.remote, len(s.network) > 0) {
		s.srv.stats.TurnedAway.Add(1)
		return replyFull
	}
	return smtp.Reply{}
}

// Open is asked before the greeting.
func (s *session) Open(c *wire.Conn) smtp.Reply {
	if ok, r := s.srv.gate.Ready(); !ok && r.Code == 421 {
		s.srv.stats.TurnedAway.Add(1)
		return r
	}
	if c.Secure() {
		s.srv.stats.TLS.Add(1)
	}
	if len(s.network) > 0 && s.role == RoleRelay && !s.claimAny() {
		s.srv.stats.TurnedAway.Add(1)
		return replyCrowded
	}
	if s.role == RoleBounce && s.at.Sessions > 0 && !s.srv.peers.claim(s, composition{"", "listener " + s.at.Address}, s.at.Sessions) {
		s.srv.stats.TurnedAway.Add(1)
		return replyCrowded
	}
	return smtp.Reply{}
}

// claimAny counts the session for the first composition of its network that has room; MAIL corrects the choice.
func (s *session) claimAny() bool {
	for i := range s.network {
		g := &s.network[i]
		if s.srv.peers.claim(s, composition{g.Tenant, g.Composition}, g.Sessions) {
			return true
		}
	}
	return false
}

// Size is the largest message announced.
func (s *session) Size() int {
	switch {
	case s.role == RoleBounce:
		return (&Grant{SizeKB: s.at.SizeKB}).size()
	case s.user != "":
		return s.byUser.size()
	case len(s.network) > 0:
		most := 0
		for i := range s.network {
			most = max(most, s.network[i].size())
		}
		return most
	}
	return (&Grant{}).size()
}

func (g *Grant) size() int {
	if g.SizeKB <= 0 {
		return 10240 << 10
	}
	return g.SizeKB << 10
}

// Mechanisms lists what AUTH may use now: nothing in the clear where the listener has TLS.
func (s *session) Mechanisms(c *wire.Conn) string {
	if s.role == RoleBounce || !c.Secure() && c.TLSMode() != wire.TLSNone {
		return ""
	}
	return "PLAIN LOGIN"
}

// Closed forgets the connection.
func (s *session) Closed() {
	if s.srv.peers.leave(s) {
		s.srv.stats.Open.Add(-1)
	}
}

// forget is what STARTTLS does to a session (RFC 3207 §4.2): all that was said in the clear is gone.
func (s *session) forget() {
	s.user, s.byUser, s.decided = "", Grant{}, false
	s.Reset()
	s.srv.stats.TLS.Add(1)
}

// Reset drops the transaction.
func (s *session) Reset() { s.to = nil }

// Mail begins a transaction.
func (s *session) Mail(c *wire.Conn) smtp.Reply {
	args := c.Mail()
	if string(args.Path) != string(s.from) || !s.decided {
		if r := s.sender(mail.Address(args.Path)); !r.IsZero() {
			return r
		}
	}
	limit := s.grant.size()
	if args.Size > int64(limit) {
		return replyTooLarge
	}
	c.Limit(limit)
	if s.grant.Interval > 0 {
		s.began = clock.Wall()
	}
	return smtp.Reply{}
}

// sender checks a sender address and decides what composition its mail belongs to.
func (s *session) sender(from mail.Address) smtp.Reply {
	s.decided = false
	if !from.IsNull() {
		if from[0] == '@' {
			return replySourceRoute
		}
		if from.Check() != nil {
			return replySenderWrong
		}
	}
	if s.role == RoleBounce {
		s.from, s.grant = from, Grant{Interval: s.at.Interval, SizeKB: s.at.SizeKB}
		return smtp.Reply{}
	}
	g, r := s.choose(from)
	if !r.IsZero() {
		return r
	}
	if !s.srv.peers.claim(s, composition{g.Tenant, g.Composition}, g.Sessions) {
		return replyCrowded
	}
	s.from, s.grant, s.decided = from, g, true
	return smtp.Reply{}
}

// Rcpt adds a recipient as the client wrote it (requirements E-36, E-41).
func (s *session) Rcpt(c *wire.Conn) smtp.Reply {
	path := c.Rcpt()
	if path[0] == '@' {
		return replySourceRoute
	}
	to := mail.Address(path)
	if s.role == RoleBounce {
		if r := s.inbound(c, to); !r.IsZero() {
			return r
		}
	}
	s.to = append(s.to, to)
	return smtp.Reply{}
}

// inbound decides whose a recipient of the bounce listener is.
func (s *session) inbound(c *wire.Conn, to mail.Address) smtp.Reply {
	in, ok := s.srv.directory.(Inbound)
	if !ok {
		return replyNotOurs
	}
	g, ok := in.ByRecipientDomain(to.Domain())
	switch {
	case !ok:
		return replyNotOurs
	case len(s.to) == 0:
		g.Interval = s.at.Interval
		if s.at.SizeKB > 0 {
			g.SizeKB = s.at.SizeKB
		}
		s.grant = g
		c.Limit(g.size())
	case g.Tenant != s.grant.Tenant || g.Composition != s.grant.Composition:
		return replyOneTenant
	}
	return smtp.Reply{}
}

// Data hands over the message and waits for its answer.
func (s *session) Data(c *wire.Conn) (string, smtp.Reply) {
	body, refusal := c.Body()
	if !refusal.IsZero() {
		s.count(refusal.Code)
		return "", refusal
	}
	s.submit(c, body, func(sub *mail.Submission) { s.id, s.err = s.srv.submitter.Submit(s.srv.ctx, sub) })
	s.pace()
	return s.End(c)
}

// mostAtOnce is how many recipients a message may have that others wait for the splitting of.
const mostAtOnce = 32

// Begin hands over the message, unless others would have to wait for longer than a moment.
func (s *session) Begin(c *wire.Conn) bool {
	body, refusal := c.Body()
	if !refusal.IsZero() || s.grant.Interval > 0 || s.role == RoleBounce || len(s.to) > mostAtOnce || s.srv.submitter.Crowded() {
		return false
	}
	if s.done == nil {
		s.done = func(id mail.MessageID, err error) {
			s.id, s.err = id, err
			c.Answered()
		}
	}
	s.submit(c, body, func(sub *mail.Submission) { s.srv.submitter.SubmitAsync(s.srv.ctx, sub, s.done) })
	return true
}

// submit makes a submission of the message, and gives its memory back once to has returned.
func (s *session) submit(c *wire.Conn, body []byte, to func(*mail.Submission)) {
	sub := &s.submitted
	*sub = mail.Submission{
		Tenant: s.grant.Tenant, Composition: s.grant.Composition, User: s.user, Client: s.remote, Local: s.local,
		Helo: c.Helo(), Protocol: s.protocol(c), From: s.from, To: s.to,
		EightBit: c.EightBit(), UTF8: c.Mail().UTF8, Data: body, At: s.srv.cfg.Clock.Now(),
		Inbound: s.role == RoleBounce,
	}
	s.octets = int64(len(body))
	to(sub)
	c.ReleaseBody()
	sub.Data, sub.To = nil, nil
}

// End tells what became of the message.
func (s *session) End(*wire.Conn) (string, smtp.Reply) {
	if s.err != nil {
		return "", s.submitError(s.err)
	}
	s.srv.stats.Messages.Add(1)
	s.srv.stats.Octets.Add(s.octets)
	return s.id.String(), smtp.Reply{}
}

// submitError turns a Submitter's error into a reply. Details stay here.
func (s *session) submitError(err error) smtp.Reply {
	var r *Refusal
	if errors.As(err, &r) && r.Reply.Code >= 400 {
		s.count(r.Reply.Code)
		reply := r.Reply
		reply.Text = wire.Printable(reply.Text, 400)
		if reply.Enhanced.IsZero() {
			reply.Enhanced.Class = uint16(reply.Code / 100) // whoever reads enhanced codes expects one in each reply (RFC 2034 §4)
		}
		return reply
	}
	s.srv.cfg.Log.Error("smtp submit", "client", s.remote, "tenant", s.grant.Tenant, "error", err)
	s.count(451)
	return replyTrouble
}

func (s *session) count(code int) {
	if code >= 500 {
		s.srv.stats.Refused.Add(1)
	} else {
		s.srv.stats.Deferred.Add(1)
	}
}

// pace makes a mail take as long as its composition wants (requirement R9).
func (s *session) pace() {
	if s.grant.Interval > 0 {
		s.wait(s.grant.Interval - clock.Since(s.began))
	}
}

// wait waits, or until the server closes.
func (s *session) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.srv.ctx.Done():
	}
}

// protocol is the word of RFC 3848 for the Received header.
func (s *session) protocol(c *wire.Conn) string {
	switch {
	case !c.ESMTP():
		return "SMTP"
	case c.Secure() && s.user != "":
		return "ESMTPSA"
	case c.Secure():
		return "ESMTPS"
	case s.user != "":
		return "ESMTPA"
	}
	return "ESMTP"
}
