// Package smtpd takes mail in over SMTP: it listens, greets, authenticates, decides by address, user and FROM domain
// which server composition a session belongs to, and hands complete messages to a Submitter. go-smtp drives the
// sessions; package wire below it owns the bytes.
//
// It must never store, change or route a message, and never answer 250 to a message that the Submitter has not made
// durable. Read Config first, then session.go (who may send) and wire (what may be sent).
package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

// Role says whom a listener serves (contract 3).
type Role uint8

// The roles.
const (
	RoleRelay      Role = iota // registered networks, or AUTH (requirements R1, R5)
	RoleSubmission             // AUTH required (requirement R4)
	RoleBounce                 // anybody, for our own domains (requirement R93)
)

// Listener is one address to listen on.
type Listener struct {
	Address   string // host:port, port 0 = the system chooses
	Role      Role
	TLS       wire.TLSMode
	Normalize bool // repair bare CR, LF and NUL instead of refusing them
	MaxLine   int  // longest body line in octets without CRLF; 0 = 998

	// Of a bounce listener: bounds of their own, as compositions have them (requirement R93).
	Sessions int           // at once; 0 = no limit
	Interval time.Duration // one mail takes at least this long
	SizeKB   int           // largest message in units of 1024 octets; 0 = as the composition whose domain it is
}

// Grant is the right to hand mail to one server composition.
type Grant struct {
	Tenant, Composition string
	FromDomains         []mail.Domain // of MAIL FROM; empty = any (requirement R2)
	Access              string        // either, network or both (requirement R5); "" = either
	Sessions            int           // at once; 0 = no limit (requirement R8)
	Interval            time.Duration // one mail takes at least this long (requirement R9)
	SizeKB              int           // largest message in units of 1024 octets; 0 = 10240 (requirement R10)
}

// Directory knows who may hand mail to which composition. Its answers are immutable. It is asked at connect, at AUTH,
// and again at MAIL where the last answer is older than a second. Safe for concurrent use.
type Directory interface {
	// ByNetwork returns the grants of the compositions that list ip among their networks, in order of preference.
	ByNetwork(ip netip.Addr) []Grant
	// ByUser returns a user who may use SMTP: the composition, and the secret's hash ("argon2id:" and a PHC string).
	ByUser(name string) (g Grant, secretHash string, ok bool)
}

// Inbound is what a Directory also is where there are bounce listeners: it tells whose mail a domain's is.
type Inbound interface {
	ByRecipientDomain(mail.Domain) (Grant, bool)
}

// Submitter takes a complete message. It returns once the message is durable, or an error: a *Refusal is told to the
// client, anything else becomes 451 4.3.0. The Submission's Data is the caller's again when Submit returns.
type Submitter interface {
	Submit(context.Context, *mail.Submission) (mail.MessageID, error)
	// SubmitAsync is Submit that answers by calling done once, from any goroutine; done must not block. The Submission is the
	// caller's again when SubmitAsync returns.
	SubmitAsync(ctx context.Context, m *mail.Submission, done func(mail.MessageID, error))
	// Crowded tells that SubmitAsync might have to wait at present.
	Crowded() bool
}

// Gate tells whether this node takes mail now. It is asked at connect, EHLO and MAIL; a reply of 421 ends the
// connection, any other refuses the MAIL. Safe for concurrent use, and cheap.
type Gate interface {
	Ready() (ok bool, r smtp.Reply)
}

// Refusal is an error that says to the client what it holds.
type Refusal struct{ Reply smtp.Reply }

func (r *Refusal) Error() string { return "refused: " + r.Reply.String() }

// Config is what a Server needs to know. Zero limits take the defaults named.
type Config struct {
	Hostname  string
	Listeners []Listener
	ProxyFrom []netip.Prefix // whose PROXY header is believed, and required
	TLS       *tls.Config    // certificates; cloned for each listener

	Connections int // in all; default 20000. The last quarter is kept for registered addresses
	PerAddress  int // from one address that is not registered; default 500. One more ends the most silent one
	Limits      wire.Limits
	Auth        AuthLimits

	Log   *slog.Logger
	Clock *clock.Clock // product time, for Submission.At
}

// AuthLimits bounds guessing (threat T6).
type AuthLimits struct {
	Delay      time.Duration // after the third failure of a connection, doubled by each further one; default 1 s
	Failures   int           // of one connection, until it ends; default 5
	Burst      int           // failures that one address, or one user name, may have at once; default 50
	Every      time.Duration // until one of them is forgiven; default 6 s
	Concurrent int           // verifications at once, each of 19 MiB or more; default 2
}

// Validate reports the first thing that is wrong, and fills in the defaults.
func (c *Config) Validate() error {
	if c.Hostname == "" {
		return errors.New("smtpd: no host name")
	}
	for _, l := range c.Listeners {
		if l.TLS != wire.TLSNone && c.TLS == nil {
			return fmt.Errorf("smtpd: listener %s needs a certificate", l.Address)
		}
	}
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.Connections, 20000)
	def(&c.PerAddress, 500)
	def(&c.Auth.Failures, 5)
	def(&c.Auth.Burst, 50)
	def(&c.Auth.Concurrent, 2)
	if c.Auth.Delay <= 0 {
		c.Auth.Delay = time.Second
	}
	if c.Auth.Every <= 0 {
		c.Auth.Every = 6 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = &clock.Clock{}
	}
	return nil
}
