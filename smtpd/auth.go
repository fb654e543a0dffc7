package smtpd

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"golang.org/x/crypto/argon2"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// One text for every failure: neither words nor time tell whether a user exists (threat T6).
var (
	replyAuthFailed = temporary(535, 5, 7, 8, "Authentication failed")
	replyAuthBusy   = temporary(454, 4, 7, 0, "Too many failures, try again later")
	replyAuthOther  = temporary(504, 5, 5, 4, "Unknown mechanism")
	replyAuthBroken = temporary(501, 5, 5, 2, "Malformed AUTH exchange")
)

// AuthMechanisms belongs to go-smtp's AuthSession; the EHLO keyword is written by package wire.
func (s *session) AuthMechanisms() []string { return nil }

// Auth begins an exchange.
func (s *session) Auth(mech string) (sasl.Server, error) {
	switch mech {
	case sasl.Plain:
		return exchange{sasl.NewPlainServer(func(identity, user, secret string) error {
			if identity != "" && identity != user {
				user = "" // nobody may act for another
			}
			return s.login(user, secret)
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
	check  func(user, secret string) error
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
func (s *session) login(user, secret string) error {
	g, verdict := s.srv.auth.check(s.remote, user, secret)
	if verdict == authOK {
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
	if verdict == authBusy {
		return told(replyAuthBusy)
	}
	return told(replyAuthFailed)
}

type authVerdict uint8

const (
	authOK authVerdict = iota
	authBad
	authBusy // not looked at: too many failures lately, or too many guesses at once
)

// cached is how long a verified secret needs no further verification, so that a client that connects for every
// message does not pay for it each time.
const (
	cached    = 10 * time.Minute
	mostKnown = 4096
	mostTries = 1 << 16
)

// authenticator verifies secrets, a few at a time, and remembers failures by address and by user name.
type authenticator struct {
	directory Directory
	limits    AuthLimits
	key       [32]byte      // of this process; keeps what is remembered useless elsewhere
	slots     chan struct{} // held while verifying
	dummy     atomic.Pointer[secretHash]

	mu    sync.Mutex
	known map[[32]byte]time.Time // HMAC of user, hash and secret: verified until then
	tries map[string]*tries
}

// tries is a token bucket of failures.
type tries struct {
	left float64
	at   time.Time
}

func newAuthenticator(d Directory, l AuthLimits) *authenticator {
	a := &authenticator{
		directory: d, limits: l, slots: make(chan struct{}, l.Concurrent),
		known: map[[32]byte]time.Time{}, tries: map[string]*tries{},
	}
	_, _ = rand.Read(a.key[:])
	a.dummy.Store(&secretHash{memory: 19456, time: 2, threads: 1, salt: a.key[:16], sum: a.key[:]})
	return a
}

// check verifies a guess in a time that does not depend on whether the user exists.
func (a *authenticator) check(ip netip.Addr, user, secret string) (Grant, authVerdict) {
	g, text, found := Grant{}, "", false
	if user != "" && len(user) <= 255 && len(secret) <= 1024 {
		g, text, found = a.directory.ByUser(user)
	}
	now := clock.Wall()
	token := a.token(user, text, secret)
	if found && a.isKnown(token, now) {
		return g, authOK
	}
	from, to := "ip "+household(ip).String(), "user "+user
	if len(user) > 255 {
		to = "user" // nobody's
	}
	if !a.take(now, from, to) {
		return Grant{}, authBusy
	}
	h := a.dummy.Load()
	if found {
		var err error
		if h, err = parseSecretHash(text); err != nil {
			h, found = a.dummy.Load(), false
		} else {
			a.dummy.Store(&secretHash{memory: h.memory, time: h.time, threads: h.threads, salt: a.key[:16], sum: a.key[:]})
		}
	}
	wait := time.NewTimer(5 * time.Second)
	defer wait.Stop()
	select {
	case a.slots <- struct{}{}:
	case <-wait.C:
		return Grant{}, authBusy
	}
	match := h.matches(secret)
	<-a.slots
	if !match || !found {
		return Grant{}, authBad
	}
	a.succeeded(token, now, from, to)
	return g, authOK
}

func (a *authenticator) token(user, hash, secret string) (t [32]byte) {
	m := hmac.New(sha256.New, a.key[:])
	fmt.Fprintf(m, "%d:%s%d:%s%s", len(user), user, len(hash), hash, secret)
	m.Sum(t[:0])
	return t
}

func (a *authenticator) isKnown(token [32]byte, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, ok := a.known[token]
	return ok && now.Before(until)
}

// take takes one try from every bucket named, or tells that one is empty.
func (a *authenticator) take(now time.Time, names ...string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	ok := true
	for _, n := range names {
		t := a.tries[n]
		if t == nil {
			if len(a.tries) >= mostTries {
				a.forget(now)
			}
			t = &tries{left: float64(a.limits.Burst), at: now}
			a.tries[n] = t
		}
		t.left = min(float64(a.limits.Burst), t.left+now.Sub(t.at).Seconds()/a.limits.Every.Seconds())
		t.at = now
		if t.left < 1 {
			ok = false
			continue
		}
		t.left--
	}
	return ok
}

// forget makes room: buckets that are full again first, then any.
func (a *authenticator) forget(now time.Time) {
	full := time.Duration(a.limits.Burst) * a.limits.Every
	for n, t := range a.tries {
		if now.Sub(t.at) > full {
			delete(a.tries, n)
		}
	}
	for n := range a.tries {
		if len(a.tries) < mostTries*3/4 {
			return
		}
		delete(a.tries, n)
	}
}

// succeeded remembers a verified secret and gives the tries back.
func (a *authenticator) succeeded(token [32]byte, now time.Time, names ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= mostKnown {
		clear(a.known)
	}
	a.known[token] = now.Add(cached)
	for _, n := range names {
		if t := a.tries[n]; t != nil {
			t.left = min(float64(a.limits.Burst), t.left+1)
		}
	}
}

// secretHash is an argon2id hash taken apart.
type secretHash struct {
	memory, time uint32 // KiB, passes
	threads      uint8
	salt, sum    []byte
}

var errSecretHash = errors.New("malformed argon2id hash")

// parseSecretHash reads "argon2id:$argon2id$v=19$m=…,t=…,p=…$salt$hash" (contract 11). Memory is at most 256 MiB.
func parseSecretHash(s string) (*secretHash, error) {
	s, ok := strings.CutPrefix(s, "argon2id:")
	f := strings.Split(s, "$")
	if !ok || len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v=19" {
		return nil, errSecretHash
	}
	h := &secretHash{}
	if n, err := fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil || n != 3 {
		return nil, errSecretHash
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(f[4])
	h.sum, err2 = base64.RawStdEncoding.DecodeString(f[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.sum) < 16 || len(h.sum) > 128 ||
		h.memory < 8 || h.memory > 256<<10 || h.time < 1 || h.time > 64 || h.threads < 1 {
		return nil, errSecretHash
	}
	return h, nil
}

func (h *secretHash) matches(secret string) bool {
	sum := argon2.IDKey([]byte(secret), h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}
