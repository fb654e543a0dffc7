package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	pulseEvery = time.Second
	// pulseLost is how long a leader may commit nothing before its raft is restarted.
	pulseLost  = 5 * time.Second
	timerEvery = 250 * time.Millisecond
	// seatEvery is how often the leader looks whether the configuration still fits the members.
	seatEvery = 2 * time.Second
	// askStandby bounds the question how far a standby's copy goes.
	askStandby = time.Second
	// handOnWait is how long a member that was asked to lead may take before the next is asked.
	handOnWait = time.Second
)

// followLeadership runs lead while this incarnation leads, and handOn once it does no longer.
func (c *Cluster) followLeadership(e *engine) {
	var tasks sync.WaitGroup
	end := func() {}
	defer func() { end(); tasks.Wait() }()
	for {
		select {
		case leads := <-e.raft.LeaderCh():
			end()
			tasks.Wait()
			run := c.lead
			if !leads {
				run = c.handOn
			}
			ctx, cancel := context.WithCancel(e.ctx)
			end = cancel
			tasks.Go(func() { defer cancel(); run(ctx, e) })
		case <-e.ctx.Done():
			return
		}
	}
}

// handOn has the other voters, one after the other, stand for election at once, until one of them leads, where this member stepped
// down for its disk: they have heard of it until then, and would wait for some seconds more. Whose log lacks entries is not elected.
func (c *Cluster) handOn(ctx context.Context, e *engine) {
	if !c.logs.Sick() {
		return
	}
	f := e.raft.GetConfiguration()
	if f.Error() != nil {
		return
	}
	for _, s := range f.Configuration().Servers {
		if s.Suffrage != raft.Voter || s.ID == raft.ServerID(c.cfg.Name) {
			continue
		}
		var answer raft.TimeoutNowResponse
		if err := e.trans.TimeoutNow(s.ID, s.Address, &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, &answer); err != nil {
			c.log.Debug("raft: a member did not take over", "member", s.ID, "err", err)
			continue
		}
		if c.awaitLeader(ctx, e, handOnWait) {
			return
		}
	}
}

// awaitLeader tells whether raft hears of a leader within d, which is not this member.
func (c *Cluster) awaitLeader(ctx context.Context, e *engine, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, id := e.raft.LeaderWithID(); id != "" && id != raft.ServerID(c.cfg.Name) {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// lead does what only the leader does, until ctx ends: it proves that it can commit, grants leases and passes on those that
// ran out, and fits the configuration to the members.
func (c *Cluster) lead(ctx context.Context, e *engine) {
	c.log.Info("this member leads", "term", e.raft.CurrentTerm())
	var tasks sync.WaitGroup
	defer func() { tasks.Wait(); c.log.Info("this member no longer leads") }()

	tasks.Go(func() { c.pulse(ctx, e) })
	if !c.firstBarrier(ctx, e) {
		return
	}
	c.reign.Store(int64(c.cfg.Boot.Now()))
	defer c.reign.Store(0)
	granted := make(chan struct{}, 1)
	tasks.Go(func() {
		c.batchRenewals(ctx, e, func() {
			select {
			case granted <- struct{}{}:
			default:
			}
		})
	})
	tasks.Go(func() { c.seat(ctx, e) })
	c.step(ctx, func(book []ledger.Lineage) any { return evLed{book} })
	defer c.step(ctx, func([]ledger.Lineage) any { return evLost{} })
	tick := time.NewTicker(timerEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-granted:
		case <-ctx.Done():
			return
		}
		c.step(ctx, func(book []ledger.Lineage) any { return evBook{book} })
	}
}

// observe notes when leases are renewed, whoever leads, until this member stops.
func (c *Cluster) observe() {
	tick := time.NewTicker(timerEvery)
	defer tick.Stop()
	for {
		c.step(c.ctx, func(book []ledger.Lineage) any { return evSeen{book} })
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
	}
}

// firstBarrier returns when everything that leaders before agreed on is in this member's book.
func (c *Cluster) firstBarrier(ctx context.Context, e *engine) bool {
	f := e.raft.Barrier(0)
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err == nil
	case <-ctx.Done():
		return false
	}
}

func (c *Cluster) lineages() []ledger.Lineage { return c.cfg.Ledger.State().Lineages() }

// pulse commits an entry of its own every second. A leader that hangs goes on sending heartbeats; one that could commit
// nothing for pulseLost has its raft restarted, which ends them.
func (c *Cluster) pulse(ctx context.Context, e *engine) {
	var last atomic.Int64 // clock.BootTime of the last commit
	last.Store(int64(clock.BootTime()))
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		if clock.BootTime()-time.Duration(last.Load()) > pulseLost {
			c.askRestart("as leader it committed nothing for " + pulseLost.String())
			return
		}
		go func() {
			begun := c.cfg.Boot.Now()
			if e.raft.Apply([]byte{entryNoop}, pulseEvery).Error() == nil {
				last.Store(int64(clock.BootTime()))
				for old := c.proven.Load(); old < int64(begun) && !c.proven.CompareAndSwap(old, int64(begun)); old = c.proven.Load() {
				}
			}
		}()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// step feeds the timers with an event made of the book, and does what they want.
func (c *Cluster) step(ctx context.Context, event func([]ledger.Lineage) any) {
	c.counting.Lock()
	ev := event(c.lineages()) // before the clock: see timers
	wants := c.timers.Step(c.cfg.Boot.Now(), ev)
	c.counting.Unlock()
	for _, want := range wants {
		if !c.cfg.SelfLease && c.cfg.Standbys != nil {
			go c.passOn(ctx, want)
		}
	}
}

// passOn gives a lineage whose lease ran out to the standby that has most of it.
func (c *Cluster) passOn(ctx context.Context, want takeover) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.cfg.Terms.Renew)
	defer cancel()
	log := c.log.With("lineage", want.Lineage, "epoch", want.Epoch, "owner", want.owner)
	to, mark, found := c.bestStandby(ctx, want)
	if !found {
		log.Warn("lease ran out, and nobody can take the lineage over yet")
		return
	}
	address, _ := c.address(to)
	r, err := c.Propose(ctx, &ledger.Takeover{Lineage: want.Lineage, FromEpoch: want.Epoch, IfRenewed: want.renewed,
		NewOwner: to, Address: address})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		log.Warn("lease ran out; lineage not passed on", "to", to, "err", err)
		return
	}
	log.Warn("lease ran out: lineage passed on", "to", to, "has", mark, "new_epoch", r.Epoch)
}

// bestStandby returns the standby with a full copy, by the book, whose copy goes furthest.
func (c *Cluster) bestStandby(ctx context.Context, want takeover) (member string, mark uint64, found bool) {
	ctx, cancel := context.WithTimeout(ctx, askStandby)
	defer cancel()
	var names []string
	for _, s := range want.standbys {
		m, known := c.cfg.Ledger.State().Member(s.Node)
		if s.Full && s.Node != want.owner && !(known && m.Removed) {
			names = append(names, s.Node)
		}
	}
	return c.cfg.Standbys.Best(ctx, names, want.Lineage)
}

// seat fits raft's configuration to the members, one change at a time.
func (c *Cluster) seat(ctx context.Context, e *engine) {
	p := planner{self: c.cfg.Name, deadAfter: c.cfg.DeadAfter, minQuorum: c.cfg.MinQuorum, stable: c.cfg.stable}
	seen := map[string]sighting{}
	tick := time.NewTicker(min(seatEvery, c.cfg.stable))
	defer tick.Stop()
	for {
		now := c.cfg.Boot.Now()
		seats := seatsOf(e.raft)
		c.look(now, seats, seen)
		removed := func(name string) bool {
			m, found := c.cfg.Ledger.State().Member(name)
			return found && m.Removed
		}
		if next, any := p.next(now, seats, seen, removed); any {
			c.change(ctx, e, next, seen[next.seat.name].Role)
		} else {
			c.register(ctx, seats, seen)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// register writes into the ledger who has a seat: the founders have one without having been admitted.
func (c *Cluster) register(ctx context.Context, seats []seat, seen map[string]sighting) {
	for _, s := range seats {
		m, known := c.cfg.Ledger.State().Member(s.name)
		role := string(seen[s.name].Role)
		if known && (m.Removed || m.Voter == s.voter && m.Address == s.address && (role == "" || m.Role == role)) {
			continue
		}
		if role == "" {
			role = m.Role
		}
		if err := c.admit(ctx, s, Role(role)); err != nil {
			c.log.Warn("member not admitted", "member", s.name, "err", err)
			return
		}
	}
}

func (c *Cluster) admit(ctx context.Context, s seat, role Role) error {
	ctx, cancel := context.WithTimeout(ctx, elections)
	defer cancel()
	r, err := c.Propose(ctx, &ledger.Admit{Signed: ledger.Signed{At: clock.Wall()}, Name: s.name, Address: s.address,
		Role: string(role), Voter: s.voter})
	if err != nil {
		return err
	}
	return r.Err()
}

// look brings the sightings up to date.
func (c *Cluster) look(now time.Duration, seats []seat, seen map[string]sighting) {
	if c.cfg.Alive == nil {
		return
	}
	here := map[string]Live{}
	for _, l := range c.cfg.Alive() {
		here[l.Name] = l
	}
	here[c.cfg.Name] = Live{Name: c.cfg.Name, Address: c.cfg.Address, Role: c.cfg.Role}
	for name, l := range here {
		s := seen[name]
		if !s.alive {
			s.alive, s.since = true, now
		}
		s.Live = l
		seen[name] = s
	}
	for name, s := range seen {
		if _, is := here[name]; !is && s.alive {
			s.alive, s.since = false, now
			seen[name] = s
		}
	}
	for _, s := range seats {
		if _, known := seen[s.name]; !known { // not seen since this member leads
			seen[s.name] = sighting{Live: Live{Name: s.name, Address: s.address}, since: now}
		}
	}
}

// change does one change of the configuration. The ledger is asked first: it refuses members that were removed.
func (c *Cluster) change(ctx context.Context, e *engine, next change, role Role) {
	ctx, cancel := context.WithTimeout(ctx, elections)
	defer cancel()
	s := next.seat
	if next.do != removeSeat {
		if err := c.admit(ctx, s, role); err != nil {
			c.log.Warn("member not admitted", "member", s.name, "err", err)
			return
		}
	}
	var f raft.IndexFuture
	id, address := raft.ServerID(s.name), raft.ServerAddress(s.address)
	switch {
	case next.do == removeSeat:
		f = e.raft.RemoveServer(id, 0, elections)
	case s.voter:
		f = e.raft.AddVoter(id, address, 0, elections)
	default:
		f = e.raft.AddNonvoter(id, address, 0, elections)
	}
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		c.log.Warn("seat not changed", "member", s.name, "why", next.why, "err", err)
		return
	}
	c.log.Info("seat changed", "member", s.name, "gone", next.do == removeSeat, "voter", s.voter, "why", next.why)
}
