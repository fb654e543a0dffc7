package dns

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Bounds of how long an answer is remembered. TTLs are facts about the network, so they run on the machine's clock.
const (
	minTTL      = time.Second      // also of a TTL of 0: a domain with a thousand messages is not asked for each
	maxTTL      = time.Hour        // a domain that moves is followed within the hour
	maxNegative = 15 * time.Minute // of "there is none" (RFC 2308 §5 allows hours)
	noSOA       = time.Minute      // of "there is none" that does not say for how long
)

// answer is what one question ended with.
type answer struct {
	mx    []MX
	addrs []netip.Addr
	texts []string // of TXT, the strings of each record joined; of PTR, names
	until time.Time
}

type question struct {
	name  string
	qtype uint16
}

// entry is an answer that is remembered, or one that is on its way.
type entry struct {
	answer
	err  error
	done chan struct{} // closed when the answer is here
}

// cache remembers answers, and has a question that many ask at once put only once.
type cache struct {
	mu    sync.Mutex
	m     map[question]*entry
	limit int
}

func newCache(limit int) *cache { return &cache{m: map[question]*entry{}, limit: limit} }

// get returns the answer to q. fetch is called, in a goroutine of its own, if nobody knows it and nobody else asks.
func (c *cache) get(ctx context.Context, q question, fetch func() (answer, error)) (answer, error) {
	now := clock.Wall()
	c.mu.Lock()
	e := c.m[q]
	if e != nil && e.finished() && !e.until.After(now) {
		delete(c.m, q)
		e = nil
	}
	if e == nil {
		c.makeRoom(now)
		e = &entry{done: make(chan struct{})}
		c.m[q] = e
		go c.fill(q, e, fetch)
	}
	c.mu.Unlock()
	select {
	case <-e.done:
		return e.answer, e.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

func (c *cache) fill(q question, e *entry, fetch func() (answer, error)) {
	e.answer, e.err = fetch()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.until.IsZero() && c.m[q] == e { // temporary trouble is told to those who wait, and forgotten
		delete(c.m, q)
	}
	close(e.done)
}

func (e *entry) finished() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// makeRoom keeps the cache below its limit: it looks at a few entries, which a map hands out in random order, drops
// those that have run out, or the first one that nobody waits for.
func (c *cache) makeRoom(now time.Time) {
	if len(c.m) < c.limit {
		return
	}
	var victim *question
	looked := 0
	for q, e := range c.m {
		if !e.finished() {
			continue
		}
		if !e.until.After(now) {
			delete(c.m, q)
		} else if victim == nil {
			victim = &q
		}
		if looked++; looked == 16 {
			break
		}
	}
	if len(c.m) >= c.limit && victim != nil {
		delete(c.m, *victim)
	}
}
