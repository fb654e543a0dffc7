package smtpd

import (
	"errors"
	"net/netip"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/internal/secret"
)

// One text for every failure: neither words nor time tell whether a user exists (threat T6).
var (
	replyAuthFailed = temporary(535, 5, 7, 8, "Authentication failed")
	replyAuthBusy   = temporary(454, 4, 7, 0, "Too many failures, try again later")
	replyAuthOther  = temporary(504, 5, 5, 4, "Unknown mechanism")
	replyAuthBroken = temporary(501, 5, 5, 2, "Malformed AUTH exchange")
)

// exchange begins an exchange.
func (s *session) exchange(mech string) (sasl.Server, error) {
	switch mech {
	case sasl.Plain:
		return exchange{sasl.NewPlainServer(func(identity, user, guess string) error {
			if identity != "" && identity != user {
				user = "" // nobody may act for another
			}
			return s.login(user, guess)
		})}, nil
	case sasl.Login:
		return exchange{&loginServer{check: s.login}}, nil
	}
	return nil, told(replyAuthOther)
}

// exchange answers 501 where a mechanism finds the client's words malformed.
type exchange struct{ sasl.Server }

func (e exchange) Next(response []byte) ([]byte, bool, error) {
	challenge, done, err := e.Server.Next(response)
	var said *gosmtp.SMTPError
	if err != nil && !errors.As(err, &said) {
		err = told(replyAuthBroken)
	}
	return challenge, done, err
}

// loginServer is the LOGIN mechanism (draft-murchison-sasl-login): user name and secret, each asked for.
type loginServer struct {
	check  func(user, guess string) error
	user   string
	asking int // 0 = nothing yet, 1 = user name, 2 = secret
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	switch {
	case l.asking == 0 && response == nil:
		l.asking = 1
		return []byte("Username:"), false, nil
	case l.asking <= 1:
		l.user, l.asking = string(response), 2
		return []byte("Password:"), false, nil
	case l.asking == 2:
		l.asking = 3
		return nil, true, l.check(l.user, string(response))
	}
	return nil, false, sasl.ErrUnexpectedClientResponse
}

// login checks one guess. From the third failure on each takes longer; after the last the connection ends.
func (s *session) login(user, guess string) error {
	g, verdict := s.srv.auth.check(s.remote, user, guess)
	if verdict == secret.Good {
		if !s.srv.peers.claim(s, composition{g.Tenant, g.Composition}, g.Sessions) {
			return told(replyCrowded)
		}
		s.user, s.byUser, s.decided = user, g, false
		s.srv.stats.Logins.Add(1)
		return nil
	}
	s.srv.stats.AuthFailures.Add(1)
	s.failures++
	limits := s.srv.cfg.Auth
	if s.failures >= 3 {
		s.wait(limits.Delay << min(s.failures-3, 6))
	}
	if s.failures >= limits.Failures {
		s.conn.EndAfterReply()
	}
	s.srv.cfg.Log.Info("smtp auth failed", "client", s.remote, "failures", s.failures)
	if verdict == secret.Busy {
		return told(replyAuthBusy)
	}
	return told(replyAuthFailed)
}

// authenticator verifies secrets of users who may use SMTP.
type authenticator struct {
	directory Directory
	checker   *secret.Checker
}

func newAuthenticator(d Directory, l AuthLimits) *authenticator {
	return &authenticator{directory: d,
		checker: secret.NewChecker(secret.Limits{Burst: l.Burst, Every: l.Every, Concurrent: l.Concurrent})}
}

// check verifies a guess in a time that does not depend on whether the user exists.
func (a *authenticator) check(ip netip.Addr, user, guess string) (g Grant, v secret.Verdict) {
	v = a.checker.Check(clock.Wall(), secret.Household(ip).String(), user, guess, func(name string) (hash string, found bool) {
		g, hash, found = a.directory.ByUser(name)
		return hash, found
	})
	if v != secret.Good {
		g = Grant{}
	}
	return g, v
}
