package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/internal/secret"
)

// Wrong tokens of one peer: a burst, then one per period. Right tokens are never counted, so a guesser on the same
// machine cannot lock the operator out.
const (
	guessBurst  = 10
	guessPeriod = 6 * time.Second
	maxGuessers = 4096 // peers remembered
)

var (
	errNoToken = errors.New("the admin token is needed: Authorization: Bearer …")
	errGuesses = errors.New("too many wrong tokens: wait a minute")
)

// guard lets only the operator pass.
type guard struct {
	token [sha256.Size]byte // hashed, so that comparing takes the same time for every length
	log   *slog.Logger
	guesses
}

// guesses counts wrong tokens by peer.
type guesses struct {
	mu       sync.Mutex
	guessers map[netip.Addr]guesser // made with the first
}

type guesser struct {
	left float64
	at   time.Time
}

func newGuard(token string, log *slog.Logger) *guard {
	return &guard{token: sha256.Sum256([]byte(token)), log: log}
}

// check returns nil for the operator, else the status to answer and why.
func (g *guard) check(r *http.Request) (int, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1 {
		return http.StatusOK, nil
	}
	if token == "" {
		return http.StatusUnauthorized, errNoToken
	}
	peer := peerOf(r)
	if !g.guess(peer, clock.Wall()) {
		return http.StatusTooManyRequests, errGuesses
	}
	g.log.Warn("wrong admin token", "peer", peer, "path", r.URL.Path)
	return http.StatusUnauthorized, errNoToken
}

// guess counts a wrong token and tells whether the peer may have an honest answer.
func (g *guesses) guess(peer netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	b, known := g.guessers[peer]
	if !known {
		if len(g.guessers) >= maxGuessers {
			g.forget(now)
		}
		b = guesser{left: guessBurst, at: now}
	}
	b.left = min(guessBurst, b.left+float64(now.Sub(b.at))/float64(guessPeriod))
	b.at = now
	ok := b.left >= 1
	if ok {
		b.left--
	}
	if g.guessers == nil {
		g.guessers = map[netip.Addr]guesser{}
	}
	g.guessers[peer] = b
	return ok
}

// forget drops peers whose budget is full again; when there are none, all: the map must stay bounded.
func (g *guesses) forget(now time.Time) {
	for peer, b := range g.guessers {
		if now.Sub(b.at) >= guessBurst*guessPeriod {
			delete(g.guessers, peer)
		}
	}
	if len(g.guessers) >= maxGuessers {
		clear(g.guessers)
	}
}

func (g *guard) operator(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := g.check(r)
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}
		challenge(w, status)
		problem(w, status, err.Error())
	})
}

// operatorRPC is operator with refusals in the form that clients of the RPC understand.
func (g *guard) operatorRPC(next http.Handler) http.Handler {
	refusals := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := g.check(r)
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}
		challenge(w, status)
		if !refusals.IsSupported(r) {
			problem(w, status, err.Error())
			return
		}
		code := connect.CodeUnauthenticated
		if status == http.StatusTooManyRequests {
			code = connect.CodeResourceExhausted
		}
		if err := refusals.Write(w, r, connect.NewError(code, err)); err != nil {
			g.log.Debug("refusal not written", "error", err)
		}
	})
}

func challenge(w http.ResponseWriter, status int) {
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "60")
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="ekiden"`)
}

// peerOf is the peer's address; of IPv6 only the first 64 bits, which one owner holds.
func peerOf(r *http.Request) netip.Addr { return secret.Household(compat.Origin(r)) }

func limitBody(n int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, n)
		next.ServeHTTP(w, r)
	})
}

// limitBodies bounds the bodies of everything but the RPC below path, which has its own bound.
func limitBodies(path string, next http.Handler) http.Handler {
	limited, large := limitBody(maxBody, next), limitBody(maxSettings, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, path):
			next.ServeHTTP(w, r)
		case r.URL.Path == settingsPath:
			large.ServeHTTP(w, r)
		default:
			limited.ServeHTTP(w, r)
		}
	})
}

// secureHeaders keeps a browser from making anything of an answer but what it is.
func secureHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// localName refuses requests that reached this machine under a foreign name: a page that points its own name at
// loopback would otherwise count as same-origin.
func localName(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if host != "localhost" && net.ParseIP(strings.Trim(host, "[]")) == nil {
			problem(w, http.StatusForbidden, "the testing calls are reached by address or as localhost only")
			return
		}
		next.ServeHTTP(w, r)
	})
}
