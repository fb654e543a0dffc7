package load

import (
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"time"
)

// Config says what to send, how fast, and where.
type Config struct {
	Target        string        // host:port
	Messages      int           // how many 250s are wanted
	Sessions      int           // connections at once, default 1
	Size          int           // octets of a message, default 1024; never less than its own header
	Domains       int           // recipients spread over d0.example … dN-1.example, default 1
	DomainList    []string      // instead of Domains: these, in turn
	LocalParts    []string      // local parts in turn, a number is put behind each; default "u"
	Recipients    int           // per message, default 1
	Rate          float64       // messages per second over all sessions, 0 = as fast as answered
	PerConnection int           // messages on one connection, 0 = all
	Pipeline      bool          // one round trip per message (RFC 2920), else one per command
	TLS           bool          // STARTTLS before the first MAIL; the certificate is not looked at
	User          string        // AUTH PLAIN when not empty
	Password      string        //
	From          string        // envelope and header sender, default bench@load.example
	Headers       []Header      // put behind the token
	Steering      []string      // names of headers the relay removes, beside contract 5's
	Ledger        string        // file for a line per 250, "" = none
	Prefix        string        // starts every token; default from the time
	Reconnect     time.Duration // how long to try again when the target is gone; 0 = give up at once
	Timeout       time.Duration // per answer, default 5 minutes
}

// Header is a header field to add.
type Header struct{ Name, Value string }

// ErrConfig is reported for a configuration that cannot be run.
var ErrConfig = errors.New("bad load configuration")

// ParseHeader reads "Name: value".
func ParseHeader(text string) (Header, error) {
	name, value, ok := strings.Cut(text, ":")
	if !ok || name == "" || strings.ContainsAny(text, "\r\n\x00") || strings.ContainsAny(name, " \t") {
		return Header{}, fmt.Errorf("%w: header %q: want NAME:VALUE", ErrConfig, text)
	}
	return Header{Name: name, Value: strings.TrimSpace(value)}, nil
}

func (c Config) withDefaults() (Config, error) {
	c.Sessions, c.Size, c.Domains = orOne(c.Sessions, 1), orOne(c.Size, 1024), orOne(c.Domains, 1)
	c.Recipients = orOne(c.Recipients, 1)
	if c.From == "" {
		c.From = "bench@load.example"
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Minute
	}
	if len(c.LocalParts) == 0 {
		c.LocalParts = []string{"u"}
	}
	switch {
	case c.Target == "":
		return c, fmt.Errorf("%w: target is missing", ErrConfig)
	case c.Messages <= 0 || c.Messages > 1e9:
		return c, fmt.Errorf("%w: messages %d: want 1 to 1000000000", ErrConfig, c.Messages)
	case c.Sessions > 20000:
		return c, fmt.Errorf("%w: sessions %d: want 1 to 20000", ErrConfig, c.Sessions)
	case c.Size > 100<<20:
		return c, fmt.Errorf("%w: size %d: want at most 104857600", ErrConfig, c.Size)
	case c.Recipients > 1000:
		return c, fmt.Errorf("%w: recipients %d: want 1 to 1000", ErrConfig, c.Recipients)
	}
	return c, nil
}

func orOne(n, standard int) int {
	if n <= 0 {
		return standard
	}
	return n
}

// steering are the headers of contract 5 that a relay removes; the first two by exact case (R24, R26).
func (c Config) steers(name string) bool {
	switch name {
	case "X-KAEDE-Cleaning", "X-KAEDE-Appoint":
		return true
	}
	for _, s := range c.Steering {
		if strings.EqualFold(s, name) {
			return true
		}
	}
	switch textproto.CanonicalMIMEHeaderKey(name) {
	case "X-Relay-Group", "X-Relay-Start-Time", "X-Relay-Quiet-Hours", "X-Relay-Lifetime",
		"X-Relay-Retry-Interval", "X-Relay-Idempotency-Key":
		return true
	}
	return false
}
