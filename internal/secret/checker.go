package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Verdict is what a guess is worth.
type Verdict uint8

// The verdicts.
const (
	Good Verdict = iota
	Bad
	Busy // not looked at: too many failures lately, or too many guesses at once
)

// A verified secret needs no further verification for a while, so that a client that connects for every message does
// not pay for it each time.
const (
	cached    = 10 * time.Minute
	patience  = 5 * time.Second // for a place to verify
	mostKnown = 4096
	mostTries = 1 << 16
	mostUser  = 255  // octets
	mostGuess = 1024 // octets
)

// Limits bounds guessing.
type Limits struct {
	Burst      int           // failures that one origin, or one user name, may have at once
	Every      time.Duration // until one of them is forgiven
	Concurrent int           // verifications at once, each of 19 MiB or more
}

// Checker verifies secrets, a few at a time, and remembers failures by origin and by user name. Safe for concurrent use.
type Checker struct {
	limits Limits
	key    [32]byte      // of this process; keeps what is remembered useless elsewhere
	slots  chan struct{} // held while verifying
	dummy  atomic.Pointer[Hash]

	mu    sync.Mutex
	known map[[32]byte]time.Time // HMAC of user, hash and secret: verified until then
	tries map[string]*tries
}

// Household is what counts as one origin: an IPv6 customer has a whole /64.
func Household(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// tries is a token bucket of failures.
type tries struct {
	left float64
	at   time.Time
}

// NewChecker returns a checker that remembers nothing yet. Every limit must be positive.
func NewChecker(l Limits) *Checker {
	c := &Checker{limits: l, slots: make(chan struct{}, l.Concurrent), known: map[[32]byte]time.Time{}, tries: map[string]*tries{}}
	rand.Read(c.key[:]) // never fails (crypto/rand)
	c.dummy.Store(&Hash{memory: newMemory, time: newTime, threads: 1, salt: c.key[:saltSize], sum: c.key[:]})
	return c
}

// Check verifies a guess in a time that does not depend on whether the user exists. lookup finds the user's hash; from
// names where the guess comes from. now is real time.
func (c *Checker) Check(now time.Time, from, user, secret string, lookup func(user string) (hash string, found bool)) Verdict {
	text, found := "", false
	if user != "" && len(user) <= mostUser && len(secret) <= mostGuess {
		text, found = lookup(user)
	}
	token := c.token(user, text, secret)
	if found && c.isKnown(token, now) {
		return Good
	}
	origin, name := "from "+from, "user "+user
	if len(user) > mostUser {
		name = "user" // nobody's
	}
	if !c.take(now, origin, name) {
		return Busy
	}
	h := c.dummy.Load()
	if found {
		var err error
		if h, err = Parse(text); err != nil {
			h, found = c.dummy.Load(), false
		} else {
			c.dummy.Store(&Hash{memory: h.memory, time: h.time, threads: h.threads, salt: c.key[:saltSize], sum: c.key[:]})
		}
	}
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case c.slots <- struct{}{}:
	case <-wait.C:
		return Busy
	}
	match := h.Matches(secret)
	<-c.slots
	if !match || !found {
		return Bad
	}
	c.succeeded(token, now, origin, name)
	return Good
}

func (c *Checker) token(user, hash, secret string) (t [32]byte) {
	m := hmac.New(sha256.New, c.key[:])
	fmt.Fprintf(m, "%d:%s%d:%s%s", len(user), user, len(hash), hash, secret)
	m.Sum(t[:0])
	return t
}

func (c *Checker) isKnown(token [32]byte, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.known[token]
	return ok && now.Before(until)
}

// take takes one try from every bucket named, or tells that one is empty.
func (c *Checker) take(now time.Time, names ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok := true
	for _, n := range names {
		t := c.tries[n]
		if t == nil {
			if len(c.tries) >= mostTries {
				c.forget(now)
			}
			t = &tries{left: float64(c.limits.Burst), at: now}
			c.tries[n] = t
		}
		t.left = min(float64(c.limits.Burst), t.left+now.Sub(t.at).Seconds()/c.limits.Every.Seconds())
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
func (c *Checker) forget(now time.Time) {
	full := time.Duration(c.limits.Burst) * c.limits.Every
	for n, t := range c.tries {
		if now.Sub(t.at) > full {
			delete(c.tries, n)
		}
	}
	for n := range c.tries {
		if len(c.tries) < mostTries*3/4 {
			return
		}
		delete(c.tries, n)
	}
}

// succeeded remembers a verified secret and gives the tries back.
func (c *Checker) succeeded(token [32]byte, now time.Time, names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= mostKnown {
		clear(c.known)
	}
	c.known[token] = now.Add(cached)
	for _, n := range names {
		if t := c.tries[n]; t != nil {
			t.left = min(float64(c.limits.Burst), t.left+1)
		}
	}
}
