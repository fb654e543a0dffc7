package cluster

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Member is a member as the others see it.
type Member struct {
	Name    string
	Address string
	Role    Role
	Seated  bool // it is in raft's configuration: it gets all entries
	Voter   bool
	Leader  bool
	Alive   bool // gossip sees it, or it answered
	// Applied is the index of the last entry in its book, and Last that of its log; both 0 where it did not answer.
	Applied, Last uint64
}

// memberWait bounds the question that Members asks each member.
const memberWait = 500 * time.Millisecond

// Members returns all members by name: those of raft's configuration, those gossip sees, and those the ledger knows and that
// were not removed. Each is asked how far it is, for no longer than half a second.
func (c *Cluster) Members(ctx context.Context) []Member {
	e := c.engine.Load()
	all := map[string]*Member{}
	member := func(name string) *Member {
		if all[name] == nil {
			all[name] = &Member{Name: name}
		}
		return all[name]
	}
	for _, m := range c.cfg.Ledger.State().Members() {
		if !m.Removed {
			r := member(m.Name)
			r.Address, r.Role = m.Address, Role(m.Role)
		}
	}
	if e != nil {
		for _, s := range seatsOf(e.raft) {
			m := member(s.name)
			m.Address, m.Seated, m.Voter = s.address, true, s.voter
		}
	}
	if c.cfg.Alive != nil {
		for _, l := range c.cfg.Alive() {
			m := member(l.Name)
			m.Address, m.Role, m.Alive = l.Address, l.Role, true
		}
	}
	self := member(c.cfg.Name)
	self.Role, self.Alive, self.Applied = c.cfg.Role, true, c.fsm.Applied()
	if e != nil {
		self.Last = e.raft.LastIndex()
	}
	if leader := c.Leader(); leader != "" && all[leader] != nil {
		all[leader].Leader = true
	}
	c.askMembers(ctx, all)
	list := make([]Member, 0, len(all))
	for _, m := range all {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// askMembers fills in what members say of themselves.
func (c *Cluster) askMembers(ctx context.Context, all map[string]*Member) {
	if c.peers == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, memberWait)
	defer cancel()
	var wg sync.WaitGroup
	for name, m := range all {
		if name == c.cfg.Name {
			continue
		}
		wg.Go(func() {
			if s, err := c.peers.status(ctx, name); err == nil {
				m.Applied, m.Last, m.Alive = s.applied, s.last, true
			}
		})
	}
	wg.Wait()
}

// Remove locks a member out for good: its seat goes, and its certificate opens nothing any more. The ledger's answer is
// NotFound where there is no such member. by names the operator.
func (c *Cluster) Remove(ctx context.Context, name string, by ledger.Signed) (ledger.Result, error) {
	return c.Propose(ctx, &ledger.RemoveMember{Signed: by, Name: name})
}

// Add admits a member, also one that was removed. Its seat follows when it is seen. by names the operator.
func (c *Cluster) Add(ctx context.Context, l Live, by ledger.Signed) (ledger.Result, error) {
	return c.Propose(ctx, &ledger.Admit{Signed: by, Name: l.Name, Address: l.Address, Role: string(l.Role)})
}

func seatsOf(r *raft.Raft) []seat {
	f := r.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	var seats []seat
	for _, s := range f.Configuration().Servers {
		seats = append(seats, seat{string(s.ID), string(s.Address), s.Suffrage == raft.Voter})
	}
	return seats
}

// Voters names the members whose majority agrees on something; nil while this member takes no part.
func (c *Cluster) Voters() (names []string) {
	e := c.engine.Load()
	if e == nil {
		return nil
	}
	for _, s := range seatsOf(e.raft) {
		if s.voter {
			names = append(names, s.name)
		}
	}
	return names
}

// address returns where a member is reached: gossip knows best, then raft's configuration, then the ledger.
func (c *Cluster) address(name string) (string, bool) {
	if name == c.cfg.Name {
		return c.cfg.Address, true
	}
	if c.cfg.Alive != nil {
		for _, l := range c.cfg.Alive() {
			if l.Name == name && l.Address != "" {
				return l.Address, true
			}
		}
	}
	if e := c.engine.Load(); e != nil {
		for _, s := range seatsOf(e.raft) {
			if s.name == name {
				return s.address, true
			}
		}
	}
	if m, found := c.cfg.Ledger.State().Member(name); found && m.Address != "" {
		return m.Address, true
	}
	return "", false
}

// freshness knows how long ago this member's book was up to date.
type freshness struct {
	mu     sync.Mutex
	since  time.Duration // clock.BootTime when mark was the last committed entry
	mark   uint64
	caught time.Duration // the latest since whose mark the book has reached
}

// note is called twice a second.
func (f *freshness) note(r *raft.Raft) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.AppliedIndex() >= f.mark {
		f.caught = f.since
		f.since, f.mark = clock.BootTime(), r.CommitIndex()
	}
}

// Staleness returns how old this member's book may be: the time since it last heard of a leader, and the time by which its
// book is behind what it knows to be agreed on (metric raft_apply_lag_seconds). Alone, it is never old.
func (c *Cluster) Staleness() (contact, lag time.Duration) {
	e := c.engine.Load()
	if e == nil || c.ctx.Err() != nil {
		return time.Hour, time.Hour
	}
	if e.raft.AppliedIndex() < e.raft.CommitIndex() {
		c.fresh.mu.Lock()
		lag = max(0, clock.BootTime()-c.fresh.caught)
		c.fresh.mu.Unlock()
	}
	if e.raft.State() == raft.Leader {
		return 0, lag
	}
	last := e.raft.LastContact()
	if last.IsZero() {
		return time.Hour, lag
	}
	return clock.Since(last), lag
}
