package smtpd

import (
	"slices"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

// lookUp asks the Directory again what this client may do.
func (s *session) lookUp(c *wire.Conn) {
	s.asked = s.srv.env.Now()
	s.decided = false
	s.network = nil
	if c.Trusted() { // a balancer that names no client vouches for nobody
		s.network = s.srv.directory.ByNetwork(s.remote)
	}
	if s.user != "" {
		g, _, ok := s.srv.directory.ByUser(s.user)
		if s.byUser = g; !ok {
			s.user = "" // removed meanwhile
		}
	}
}

// Allow is asked before every command that could do something.
func (s *session) Allow(c *wire.Conn, v wire.Verb) smtp.Reply {
	switch v {
	case wire.VerbHelo, wire.VerbEhlo:
		if ok, r := s.srv.gate.Ready(); !ok && r.Code == 421 {
			return r
		}
	case wire.VerbMail:
		if ok, r := s.srv.gate.Ready(); !ok {
			return r
		}
		if s.srv.env.Now()-s.asked > grantAge {
			s.lookUp(c)
		}
		return s.barred()
	case wire.VerbRcpt, wire.VerbData, wire.VerbBdat:
		if !c.InMail() {
			return s.barred()
		}
	case wire.VerbAuth:
		if s.role == RoleBounce {
			return smtp.Reply{}
		}
		if s.Mechanisms(c) == "" {
			return replyEncrypt
		}
	}
	return smtp.Reply{}
}

// barred refuses whoever can have no right to send whatever the sender address (requirements R1, R4, R5).
func (s *session) barred() smtp.Reply {
	switch {
	case s.role == RoleBounce:
		return smtp.Reply{}
	case s.user != "":
		if s.byUser.Access == "network" || s.byUser.Access == "both" {
			if !s.inNetworkOf(&s.byUser) {
				return replyRelayDenied
			}
		}
		return smtp.Reply{}
	case s.role == RoleSubmission:
		return replyAuthFirst
	case len(s.network) == 0:
		return replyRelayDenied
	}
	for i := range s.network {
		if s.network[i].Access != "both" {
			return smtp.Reply{}
		}
	}
	return replyAuthFirst
}

func (s *session) inNetworkOf(g *Grant) bool {
	for i := range s.network {
		if s.network[i].Tenant == g.Tenant && s.network[i].Composition == g.Composition {
			return true
		}
	}
	return false
}

// choose finds the composition for a sender: the AUTH user's; else the first of the network's that admits the
// sender's domain (requirement R2). The null sender is admitted everywhere.
func (s *session) choose(from mail.Address) (Grant, smtp.Reply) {
	domain := from.Domain()
	admits := func(g *Grant) bool {
		return from.IsNull() || len(g.FromDomains) == 0 || slices.Contains(g.FromDomains, domain)
	}
	if s.user != "" {
		if !admits(&s.byUser) {
			return Grant{}, replySenderNot
		}
		return s.byUser, smtp.Reply{}
	}
	refusal := replySenderNot
	for i := range s.network {
		switch g := &s.network[i]; {
		case !admits(g):
		case g.Access == "both":
			refusal = replyAuthFirst
		default:
			return *g, smtp.Reply{}
		}
	}
	return Grant{}, refusal
}
