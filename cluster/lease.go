package cluster

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// always is the end of a lease that nobody else grants.
const always = time.Duration(math.MaxInt64)

// Lease is the right to deliver one lineage in one epoch, while it is valid. Safe for concurrent use.
type Lease struct {
	ledger.LineageEpoch
	boot  *clock.Boot
	until atomic.Int64 // of boot, as a time.Duration; always where nobody else grants it
	asked atomic.Int64 // of boot: when the last renewal that was granted was asked for
	lost  chan struct{}
	once  sync.Once
}

// Valid tells whether the lineage may be delivered at this moment: it is asked immediately before every final dot. It
// costs an atomic load and, in a cluster, one reading of CLOCK_BOOTTIME.
func (l *Lease) Valid() bool {
	until := time.Duration(l.until.Load())
	return until == always || l.boot.Now() < until
}

// Left returns for how long the lease holds without another renewal; zero where it does not.
func (l *Lease) Left() time.Duration {
	until := time.Duration(l.until.Load())
	if until == always {
		return always
	}
	return max(0, until-l.boot.Now())
}

// Renewed returns how long ago the renewal was asked for that was granted last; zero where nobody else grants it.
func (l *Lease) Renewed() time.Duration {
	if time.Duration(l.until.Load()) == always {
		return 0
	}
	return l.boot.Now() - time.Duration(l.asked.Load())
}

// Lost is closed when the ledger says that the epoch is over: the lease never becomes valid again. A lease that only ran
// out, because no leader was reached, is not lost.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// lose ends the lease for good.
func (l *Lease) lose() {
	l.once.Do(func() { close(l.lost) })
	l.until.Store(0) // last: extend looks at lost after it stored
}

// extend makes the lease hold until then, unless it is lost. Renewals may be answered out of order.
func (l *Lease) extend(until time.Duration) {
	for {
		select {
		case <-l.lost:
			return
		default:
		}
		old := l.until.Load()
		if time.Duration(old) >= until {
			return
		}
		if l.until.CompareAndSwap(old, int64(until)) {
			break
		}
	}
	select {
	case <-l.lost: // meanwhile
		l.until.Store(0)
	default:
	}
}

// leases are those of this member.
type leases struct {
	c    *Cluster
	mu   sync.Mutex
	held map[mail.Lineage]*Lease
	wake chan struct{} // one token: renew now

	paused atomic.Bool // a test stops renewing
}

func (s *leases) init(c *Cluster) {
	s.c, s.held, s.wake = c, map[mail.Lineage]*Lease{}, make(chan struct{}, 1)
}

// Lease returns this member's lease of a lineage that the ledger says it owns in this epoch. It is renewed from now on until
// Release, and valid from the first renewal on: wait for Valid, or ask. Alone, and with self-granted leases, it is valid at
// once and always. Asking for a later epoch ends the lease of the earlier one.
func (c *Cluster) Lease(of ledger.LineageEpoch) *Lease {
	s := &c.leases
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.held[of.Lineage]; l != nil {
		if l.Epoch >= of.Epoch {
			return l
		}
		l.lose()
	}
	l := &Lease{LineageEpoch: of, boot: c.cfg.Boot, lost: make(chan struct{})}
	s.held[of.Lineage] = l
	if c.Alone() || c.cfg.SelfLease {
		l.until.Store(int64(always))
	} else {
		s.kick()
	}
	return l
}

// Release gives a lease back: it is invalid from now on and is not renewed.
func (c *Cluster) Release(l *Lease) {
	s := &c.leases
	s.mu.Lock()
	if s.held[l.Lineage] == l {
		delete(s.held, l.Lineage)
	}
	s.mu.Unlock()
	l.lose()
}

// end invalidates all leases.
func (s *leases) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.held {
		l.lose()
	}
}

func (s *leases) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *leases) list() []*Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Lease, 0, len(s.held))
	for _, l := range s.held {
		all = append(all, l)
	}
	return all
}

// renew renews all leases of this member in one request, every Terms.Renew, and soon again after a failure. Those that
// nobody else grants are renewed, too: so that their owner hears when an epoch is over, and a leader that does time leases,
// because a third vote was added meanwhile, sees that the owner lives.
func (c *Cluster) renew() {
	for {
		wait := c.cfg.Terms.Renew
		if held := c.leases.list(); len(held) > 0 && !c.Alone() && !c.leases.paused.Load() && !c.renewOnce(held) {
			wait = min(wait, 200*time.Millisecond)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-c.leases.wake:
		case <-c.ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
	}
}

func (c *Cluster) renewOnce(held []*Lease) bool {
	if !slices.ContainsFunc(held, (*Lease).Valid) && !c.caughtUp() {
		return false
	}
	asked := c.cfg.Boot.Now() // before the request: what the network and the leader take is lost to us, not to others
	of := make([]ledger.LineageEpoch, len(held))
	for i, l := range held {
		of[i] = l.LineageEpoch
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.Terms.Renew)
	defer cancel()
	stale, err := c.renewAtLeader(ctx, of)
	if err != nil {
		c.log.Debug("leases not renewed", "err", err)
		return false
	}
	over := make(map[ledger.LineageEpoch]bool, len(stale))
	for _, s := range stale {
		over[s] = true
	}
	if c.cfg.Regain != nil && slices.ContainsFunc(held, func(l *Lease) bool { return !over[l.LineageEpoch] && !l.Valid() }) {
		c.cfg.Regain(c.ctx)
	}
	for _, l := range held {
		if over[l.LineageEpoch] {
			c.log.Warn("lease lost: the epoch is over", "lineage", l.Lineage, "epoch", l.Epoch)
			c.leases.mu.Lock()
			if c.leases.held[l.Lineage] == l {
				delete(c.leases.held, l.Lineage)
			}
			c.leases.mu.Unlock()
			l.lose()
			continue
		}
		l.asked.Store(int64(asked)) // one renewal at a time
		l.extend(c.cfg.Terms.holds(asked))
	}
	return true
}

// caughtUp brings this member's book up to date. Whoever was cut off hears a leader well before it gets the entries it
// missed, for replication backs off for longer than heartbeats do: with a lease by then it would send what others have
// suppressed, suspended or stopped since.
func (c *Cluster) caughtUp() bool {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.Terms.Renew)
	defer cancel()
	if err := c.Barrier(ctx); err != nil {
		c.log.Debug("leases not renewed: the book is not up to date", "err", err)
		return false
	}
	return true
}
