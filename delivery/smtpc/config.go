package smtpc

import (
	"crypto/tls"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Timeouts are the longest waits of a session. Zero fields take the default, which is that of RFC 5321 §4.5.3.2
// unless said otherwise.
type Timeouts struct {
	Greeting time.Duration // for the banner: 5 min
	Command  time.Duration // for the reply to EHLO, STARTTLS, MAIL, RCPT, RSET: 5 min
	Data     time.Duration // for the 354: 2 min
	Block    time.Duration // for 64 KiB of a body to leave: 3 min
	Dot      time.Duration // for the reply to the final dot: 10 min
	TLS      time.Duration // for the handshake: 1 min (ours)
	Quit     time.Duration // for the reply to QUIT: 2 s (ours; nothing depends on it)
	Stop     time.Duration // after the context ends, for the open transaction: 8 s (ours)
}

// Config is what all sessions of a node share.
type Config struct {
	Helo     string                                                              // name for EHLO; "" = the address literal of the local end
	Clock    *clock.Clock                                                        // product time, for Outcome.At; nil = the machine's
	TLS      *tls.Config                                                         // nil = TLS 1.2 or later without authentication (RFC 7435, RFC 3207)
	Timeouts Timeouts                                                            // zero fields: defaults
	Classify func(receiver string, o mail.Outcome, to mail.Address) mail.Outcome // nil = Classify
	// Sender is the envelope sender a delivery goes out with; nil = its From. Reports about it come to that address.
	Sender func(*mail.Delivery) mail.Address
}

// Peer is the other end of a connection, and what is demanded of it.
type Peer struct {
	Source   netip.Addr       // source IP that was asked for, invalid = the system chose
	Remote   netip.AddrPort   // address dialled
	Host     string           // its name
	Receiver string           // policy group
	TLS      string           // TLSOpportunistic, TLSRequired, TLSNone; "" = opportunistic
	Greeted  func(smtp.Reply) // told the greeting, whatever it says; nil = nobody
}

// The TLS modes of a receiver.
const (
	TLSOpportunistic = "opportunistic"
	TLSRequired      = "required" // encrypted or not at all; authentication is not asked for
	TLSNone          = "none"
)

// Complete returns c with every zero field set to its default.
func (c Config) Complete() Config {
	t := &c.Timeouts
	for _, d := range []struct {
		at *time.Duration
		by time.Duration
	}{
		{&t.Greeting, 5 * time.Minute}, {&t.Command, 5 * time.Minute}, {&t.Data, 2 * time.Minute},
		{&t.Block, 3 * time.Minute}, {&t.Dot, 10 * time.Minute}, {&t.TLS, time.Minute},
		{&t.Quit, 2 * time.Second}, {&t.Stop, 8 * time.Second},
	} {
		if *d.at <= 0 {
			*d.at = d.by
		}
	}
	if c.Clock == nil {
		c.Clock = &clock.Clock{}
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{
			MinVersion:         tls.VersionTLS12,
			InsecureSkipVerify: true, // opportunistic TLS protects against listeners only (RFC 7435)
			ClientSessionCache: tls.NewLRUClientSessionCache(1024),
		}
	}
	if c.Classify == nil {
		c.Classify = Classify
	}
	return c
}
