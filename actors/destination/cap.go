package destination

import (
	"math"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// caps are the speed caps in force (requirement R57), shared by all destinations of a node.
type caps struct {
	mu sync.Mutex
	by map[string]*capped
}

// capped is a cap and what has begun under it. of and share are what it was made of.
type capped struct {
	shaping.Cap
	of    *filter.Cap
	share int
}

// capsMost is how many caps one message may be under: the engine's, a tenant's, a composition's.
const capsMost = 3

// find returns the caps of d's mail; e.caps.mu is held.
func (e *Env) find(d *mail.Delivery, out []*capped) []*capped {
	var room [capsMost]*filter.Cap
	share := 1
	if e.Share != nil {
		share = max(1, e.Share())
	}
	for _, of := range e.traffic().Caps(d.Tenant, d.Composition, room[:0]) {
		c := e.caps.by[of.Name]
		if c == nil || c.of != of || c.share != share {
			fresh := &capped{Cap: shaping.NewCap(of.Messages, of.Per*time.Duration(share)), of: of, share: share}
			if c != nil {
				fresh.Adopt(&c.Cap)
			}
			if e.caps.by == nil {
				e.caps.by = map[string]*capped{}
			}
			e.caps.by[of.Name], c = fresh, fresh
		}
		out = append(out, c)
	}
	return out
}

// begins tells whether d may begin by the speed caps, and takes its place if it may; otherwise when to ask again.
func (e *Env) begins(now time.Time, d *mail.Delivery) (again time.Time, ok bool) {
	if e.traffic() == nil {
		return time.Time{}, true
	}
	e.caps.mu.Lock()
	defer e.caps.mu.Unlock()
	var room [capsMost]*capped
	found := e.find(d, room[:0])
	for _, c := range found {
		if again, ok := c.Ready(now); !ok {
			return again, false
		}
	}
	for _, c := range found {
		c.Take(now)
	}
	return time.Time{}, true
}

// bounds tells until when d's mail is held back by a cap, zero = it is not, and how many sessions are of use to what the
// caps let through, 0 = any number.
func (e *Env) bounds(now time.Time, d *mail.Delivery) (until time.Time, sessions int) {
	if e.traffic() == nil {
		return time.Time{}, 0
	}
	e.caps.mu.Lock()
	defer e.caps.mu.Unlock()
	var room [capsMost]*capped
	for _, c := range e.find(d, room[:0]) {
		if n := int(math.Ceil(c.Rate())); sessions == 0 || n < sessions {
			sessions = n
		}
		if again, ok := c.Ready(now); !ok && again.After(until) {
			until = again
		}
	}
	return until, sessions
}

// capped is which cap lets d's mail begin last, of those that do not now; nil = all do. It only looks: whoever asks is promised
// no moment.
func (e *Env) capped(now time.Time, d *mail.Delivery) (of *filter.Cap, until time.Time) {
	if e.traffic() == nil {
		return nil, time.Time{}
	}
	e.caps.mu.Lock()
	defer e.caps.mu.Unlock()
	var room [capsMost]*capped
	for _, c := range e.find(d, room[:0]) {
		if at := c.Opens(); at.After(now) && at.After(until) {
			of, until = c.of, at
		}
	}
	return of, until
}
