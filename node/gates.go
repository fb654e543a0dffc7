package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/policy/gate"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

// numbersAhead is how far the numbers of a store that was just opened may run ahead of the machine's clock.
const numbersAhead = 2 * time.Second

// metaGates is the name under which the gates lie sealed in the store: a restart keeps them closed.
const metaGates = "gates"

// Figures of the emergency stop.
const (
	stillWait    = time.Second            // a member waits for dots that are on their way
	confirmTry   = 2 * time.Second        // one question to a member
	confirmPause = 250 * time.Millisecond // between two
	stopWait     = 15 * time.Second       // an operator waits: longer than a lease and its margin last
	goneAfter    = time.Second            // a host has to refuse for so long until its member's process is taken to be gone
)

// Standing is how a delivery group stands on one member.
type Standing struct {
	Confirmed bool // the gate is closed and kept there, and no dot of the group begins any more
	Held      int  // queued deliveries
	Flight    int  // final dots sent and not answered
	LastSent  time.Time
}

// Peers are the other members, for the emergency stop.
type Peers interface {
	// Members names them, without this node and without those that were removed.
	Members() []string
	// Confirm has a member close the gate, and tells how the group stands there once its ConfirmGate has returned.
	Confirm(ctx context.Context, member string, g gate.Gate) (Standing, error)
	// Discard has a member discard what g.Discard says, and tells how many deliveries that were.
	Discard(ctx context.Context, member string, g gate.Gate) (int, error)
	// Lease is how long a member may still send as far as this node can know; 0 = it has stopped by itself. gone says for
	// how long nothing had listened at the addresses of others when they were asked last: they agreed on nothing then.
	Lease(ctx context.Context, member string, gone map[string]time.Duration) time.Duration
	// Silent is since when a member has not been heard of; 0 = it is heard.
	Silent(member string) time.Duration
	// Closed has a member tell which gates are closed there.
	Closed(ctx context.Context, member string) ([]gate.Gate, error)
}

// Ledger is what the members agree on, as far as gates are concerned.
type Ledger interface {
	// SetGate returns once a majority holds g, service.ErrNoQuorum, or service.ErrConflict where it holds a later word.
	SetGate(ctx context.Context, g gate.Gate) error
}

// gates is the emergency stop of this node. Closing acts here at once, whatever the others say; opening is agreed on.
type gates struct {
	node   *Node
	table  gate.Table
	peers  Peers  // nil: alone
	ledger Ledger // nil: this node's store is all there is

	keeping    sync.Mutex // one writer of metaGates
	discarding sync.Mutex // one discard at a time

	mu     sync.Mutex
	owed   map[gate.Key]gate.Gate // closed here, and not in the ledger yet
	paying bool                   // pay is under way
}

func newGates(n *Node) *gates {
	return &gates{node: n, owed: map[gate.Key]gate.Gate{}}
}

// restore reads the gates from the store. It is called before anything is delivered.
func (s *gates) restore(e *engine) error {
	raw, err := e.store.Meta(metaGates)
	if err != nil {
		return fmt.Errorf("node: read gates: %w", err)
	}
	if raw == nil {
		return nil
	}
	var list []gate.Gate
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("node: read gates: %w", err)
	}
	for _, g := range list {
		s.table.Merge(g)
		if g.Closed && s.ledger != nil {
			s.owe(g)
		}
	}
	return nil
}

// hear asks the other members which gates are closed, before this node sends anything, or anything more after its lease had
// ended: they may have closed some while there was no majority to write it down. Who does not answer within a second is not waited for.
func (s *gates) hear(ctx context.Context) {
	if s.peers == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stillWait)
	defer cancel()
	var all sync.WaitGroup
	for _, name := range s.peers.Members() {
		all.Go(func() {
			list, err := s.peers.Closed(ctx, name)
			if err != nil {
				s.node.log.Debug("a member does not tell which groups are stopped", "member", name, "error", err)
			}
			for _, g := range list {
				if err := s.node.LearnGate(ctx, g); err != nil {
					s.node.log.Error("a group is stopped, but a restart would not know", "group", g.Group, "error", err)
				}
				s.owe(g)
			}
		})
	}
	all.Wait()
}

// keep writes all gates, with g where it is not in force yet.
func (s *gates) keep(ctx context.Context, e *engine, ahead ...gate.Gate) error {
	s.keeping.Lock()
	defer s.keeping.Unlock()
	var all gate.Table
	for _, g := range append(s.table.List(), ahead...) {
		all.Merge(g)
	}
	raw, err := json.Marshal(all.List())
	if err != nil {
		return fmt.Errorf("node: encode gates: %w", err)
	}
	return e.keep(ctx, metaGates, raw)
}

// LearnGate takes in what another member or the ledger says of a gate. It is in force when it returns, and kept unless
// there is an error.
func (n *Node) LearnGate(ctx context.Context, g gate.Gate) error {
	s := n.gates
	before, _ := s.table.Get(g.Key())
	holds, changed := s.table.Merge(before.Succeed(g, clock.Wall()))
	e := n.engine.Load()
	if !changed || e == nil {
		return nil
	}
	if holds.Closed != before.Closed {
		e.actors.Destinations().Gated(holds.Closed)
		n.log.Warn("delivery group", "group", holds.Group, "tenant", holds.Tenant, "state", word(holds.Closed), "author", holds.Author)
	}
	return s.keep(ctx, e)
}

func word(closed bool) string {
	if closed {
		return "stopped"
	}
	return "open"
}

// ConfirmGate closes g here and returns once no final dot of the group can begin on this node, and the gate is kept; or
// when a second has passed, unconfirmed.
func (n *Node) ConfirmGate(ctx context.Context, g gate.Gate) (Standing, error) {
	e, err := n.running()
	if err != nil {
		return Standing{}, err
	}
	kept := make(chan error, 1)
	if err := n.takeIn(ctx, e, g, kept); err != nil {
		return Standing{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, stillWait)
	defer cancel()
	still := e.actors.Destinations().Still(ctx, g.Key())
	st := Standing{Confirmed: still.Coming == 0, Flight: still.Flight, LastSent: still.LastSent, Held: e.held(g.Key())}
	if err := <-kept; err != nil {
		st.Confirmed = false
		n.log.Error("a delivery group is stopped, but a restart would not know", "group", g.Group, "error", err)
	}
	return st, nil
}

// takeIn closes g and keeps it, telling kept.
func (n *Node) takeIn(ctx context.Context, e *engine, g gate.Gate, kept chan<- error) error {
	if _, changed := n.gates.table.Merge(g); changed {
		e.actors.Destinations().Gated(true)
		n.log.Warn("delivery group stopped", "group", g.Group, "tenant", g.Tenant, "author", g.Author)
	}
	go func() { kept <- n.gates.keep(ctx, e) }()
	if !n.gates.table.Closed(g.Tenant, g.Group) {
		return fmt.Errorf("%w: the group was resumed meanwhile", service.ErrConflict)
	}
	return nil
}

// held is how many deliveries of a group are queued and not in delivery.
func (e *engine) held(k gate.Key) int {
	total := e.store.Counters().Buckets(stats.Total, stats.Of{Tenant: k.Tenant, Group: k.Group}, time.Time{})[0].Counts
	left := int(total.Left()) + parkedOf(e.store.Parked().Groups, k)
	return max(0, left-standingOf(e.actors.Destinations().Groups(), k).Flight)
}

// Stop implements service.Groups. It needs no majority: the gate is closed here before anybody is asked, by the others
// as soon as they hear of it, and in the ledger when that can be had.
func (n groupService) Stop(ctx context.Context, o service.GroupStop) (service.GroupStanding, error) {
	if _, err := n.running(); err != nil {
		return service.GroupStanding{}, err
	}
	s, k := n.gates, gate.Key{Tenant: o.Tenant, Group: o.Group}
	g, _ := s.table.Get(k)
	if !g.Closed || g.RefuseIntake != o.RefuseIntake || g.HoldExpiry != o.HoldExpiry {
		g = g.Stop(gate.Order{RefuseIntake: o.RefuseIntake, HoldExpiry: o.HoldExpiry, Author: o.Author}, n.clock.Now(), s.table.Next(k, clock.Wall()))
	}
	if s.ledger != nil {
		s.owe(g)
		s.remind()
	}
	return s.gather(ctx, g)
}

// gather has every member confirm g.
func (s *gates) gather(ctx context.Context, g gate.Gate) (service.GroupStanding, error) {
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	names := []string{""}
	if s.peers != nil {
		names = append(names, s.peers.Members()...)
	}
	standings, nodes := make([]Standing, len(names)), make([]service.GroupNode, len(names))
	errs := make([]error, len(names))
	var all sync.WaitGroup
	var away absence
	for i, name := range names {
		all.Go(func() {
			if name == "" {
				nodes[i].Name = s.node.cfg.Node.Name
				standings[i], errs[i] = s.node.ConfirmGate(ctx, g)
				nodes[i].Confirmed = standings[i].Confirmed
				return
			}
			standings[i], nodes[i] = s.ask(ctx, name, g, &away)
		})
	}
	all.Wait()
	if errs[0] != nil {
		return service.GroupStanding{}, errs[0]
	}
	return sum(standings, nodes), nil
}

// absence is which members refused a connection in one stop, shared by those who ask them.
type absence struct {
	mu      sync.Mutex
	refused map[string]span
}

// span is from the first to the last of what came without a break.
type span struct{ first, last time.Time }

// note takes how a question to a member ended, and tells whether its process is taken to be gone.
func (a *absence) note(name string, err error) (gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !errors.Is(err, syscall.ECONNREFUSED) {
		delete(a.refused, name)
		return false
	}
	if a.refused == nil {
		a.refused = map[string]span{}
	}
	now := clock.Wall()
	of := span{first: now, last: now}
	if before, is := a.refused[name]; is {
		of.first = before.first
	}
	a.refused[name] = of
	return of.last.Sub(of.first) >= goneAfter
}

// gone lists for how long members had been away when they refused last, whose processes are taken to be gone. Who has
// not refused just now is left out: it may be back.
func (a *absence) gone() map[string]time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	gone := map[string]time.Duration{}
	for name, of := range a.refused {
		if away := of.last.Sub(of.first); away >= goneAfter && clock.Since(of.last) <= 2*confirmPause {
			gone[name] = away
		}
	}
	return gone
}

// ask asks one member until it has answered, or sends no more for certain, or ctx ends. It sends no more once its lease
// has run out, or when nothing listens at its address any more: what tells even where no majority is left to know of
// leases. A member that listens later hears of this gate before it sends (hear); what it may grant others by then is seen
// by watch, which goes on until ctx ends.
func (s *gates) ask(ctx context.Context, name string, g gate.Gate, away *absence) (Standing, service.GroupNode) {
	for left := confirmTry; ; {
		st, gone, err := s.try(ctx, name, g, away, left)
		n := service.GroupNode{Name: name, Confirmed: err == nil && st.Confirmed}
		if err == nil {
			return st, n
		}
		n.MissingFor = max(s.peers.Silent(name), time.Millisecond)
		if gone {
			go s.watch(ctx, name, g, away)
		} else {
			left = s.peers.Lease(ctx, name, away.gone())
		}
		if n.Lapsed = gone || left <= 0; n.Lapsed || !pause(ctx) {
			return Standing{}, n
		}
	}
}

// try puts g to a member once, for no longer than its lease is left: what ends then needs no answer.
func (s *gates) try(ctx context.Context, name string, g gate.Gate, away *absence, left time.Duration) (Standing, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, min(confirmTry, left))
	defer cancel()
	st, err := s.peers.Confirm(ctx, name, g)
	return st, away.note(name, err), err
}

// watch looks whether a member that is gone stays away: the leases of others count on it.
func (s *gates) watch(ctx context.Context, name string, g gate.Gate, away *absence) {
	for gone := true; gone && pause(ctx); {
		_, gone, _ = s.try(ctx, name, g, away, confirmTry)
	}
}

// pause waits until it is time for another question, and tells whether ctx lets it be asked.
func pause(ctx context.Context) bool {
	again := time.NewTimer(confirmPause)
	defer again.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-again.C:
		return true
	}
}

func sum(standings []Standing, nodes []service.GroupNode) service.GroupStanding {
	out := service.GroupStanding{State: service.GroupStopped, Nodes: nodes}
	for i, st := range standings {
		out.Held += st.Held
		out.InFlight += st.Flight
		if st.LastSent.After(out.LastSent) {
			out.LastSent = st.LastSent
		}
		if !nodes[i].Confirmed && !nodes[i].Lapsed {
			out.State = service.GroupStopping
		}
	}
	slices.SortFunc(out.Nodes, func(a, b service.GroupNode) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Resume implements service.Groups. Nothing goes before the ledger has it: a member that missed the stop must not be
// the one that decides.
func (n groupService) Resume(ctx context.Context, tenant, group, author string) error {
	if _, err := n.running(); err != nil {
		return err
	}
	s, k := n.gates, gate.Key{Tenant: tenant, Group: group}
	g, known := s.table.Get(k)
	switch {
	case !known:
		return fmt.Errorf("%w: delivery group %q was not stopped", service.ErrNotFound, group)
	case !g.Closed:
		return nil
	}
	wall := clock.Wall()
	g = g.Resume(author, n.clock.Now(), wall, s.table.Next(k, wall))
	if s.ledger != nil {
		if err := s.ledger.SetGate(ctx, g); err != nil {
			return fmt.Errorf("node: resume group: %w", err)
		}
		s.paid(k, g.Version)
	}
	return n.LearnGate(ctx, g)
}

// owe notes that the ledger lacks a closed gate.
func (s *gates) owe(g gate.Gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owed[g.Key()].Version <= g.Version {
		s.owed[g.Key()] = g
	}
}

// paid notes that the ledger has a word about a group, and so needs none older than that.
func (s *gates) paid(k gate.Key, version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owed[k].Version <= version {
		delete(s.owed, k)
	}
}

// remind pays what is owed, if anything is. It does not wait.
func (s *gates) remind() {
	s.mu.Lock()
	due := len(s.owed) > 0 && !s.paying
	s.paying = s.paying || due
	s.mu.Unlock()
	if !due {
		return
	}
	go func() {
		s.pay(context.Background())
		s.mu.Lock()
		s.paying = false
		s.mu.Unlock()
	}()
}

// pay tells the ledger what was closed without it. It is repeated until the ledger has it.
func (s *gates) pay(ctx context.Context) {
	s.mu.Lock()
	owed := slices.Collect(maps.Values(s.owed))
	s.mu.Unlock()
	for _, g := range owed {
		try, cancel := context.WithTimeout(ctx, stopWait)
		err := s.ledger.SetGate(try, g)
		cancel()
		if err != nil && !errors.Is(err, service.ErrConflict) { // a conflict: it has a later word, and this node will hear it
			s.node.log.Warn("the ledger does not know yet that a group is stopped", "group", g.Group, "error", err)
			continue
		}
		s.paid(g.Key(), g.Version)
	}
}

// Discard implements service.Groups.
func (n groupService) Discard(ctx context.Context, tenant, group, author string) (int, error) {
	if _, err := n.running(); err != nil {
		return 0, err
	}
	s, k := n.gates, gate.Key{Tenant: tenant, Group: group}
	g, _ := s.table.Get(k)
	if !g.Closed {
		return 0, fmt.Errorf("%w: the group is not stopped", service.ErrRefused)
	}
	wall := clock.Wall()
	g.Version, g.Discard, g.Author = s.table.Next(k, wall), wall, author
	if s.ledger != nil {
		if err := s.ledger.SetGate(ctx, g); err != nil {
			return 0, fmt.Errorf("node: discard group: %w", err)
		}
	}
	total, err := n.DiscardGate(ctx, g)
	if s.peers == nil || err != nil {
		return total, err
	}
	members := s.peers.Members()
	counts, errs := make([]int, len(members)), make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { counts[i], errs[i] = s.peers.Discard(ctx, m, g) })
	}
	all.Wait()
	var absent []service.Absent
	for i, m := range members {
		total += counts[i]
		if errs[i] != nil {
			absent = append(absent, service.Absent{Name: m, For: s.peers.Silent(m), Reason: errs[i].Error()})
		}
	}
	if len(absent) > 0 {
		return total, &service.Partial{Missing: absent}
	}
	return total, nil
}

// DiscardGate ends the queued mail of this node that g.Discard concerns, and tells how many deliveries. The wish is
// kept first: what a crash, or the end of ctx, leaves over ends when it comes up.
func (n *Node) DiscardGate(ctx context.Context, g gate.Gate) (total int, err error) {
	e, err := n.running()
	if err != nil {
		return 0, err
	}
	n.gates.discarding.Lock()
	defer n.gates.discarding.Unlock()
	if err := n.gates.keep(ctx, e, g); err != nil {
		return 0, err
	}
	defer n.gates.table.Merge(g) // now, so that all is counted here; from then on destinations see to it
	before := g.Discard
	if newest := e.store.Newest().Add(time.Microsecond); newest.After(before) && newest.Sub(before) < numbersAhead {
		before = newest // what was accepted by now, although its number runs ahead of the clock
	}
	all, err := e.destinations()
	if err != nil {
		return 0, err
	}
	for _, d := range all {
		k, err := e.actors.Destinations().Discard(ctx, d, g.Key(), before)
		if total += k; err != nil {
			return total, fmt.Errorf("node: discard: %w", err)
		}
	}
	n.log.Warn("delivery group discarded", "group", g.Group, "tenant", g.Tenant, "deliveries", total, "author", g.Author)
	return total, nil
}

// state is the word for how a gate stands on this node.
func (s *gates) state(e *engine, g gate.Gate) string {
	if !g.Closed {
		return service.GroupOpen
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // one look is enough
	if e.actors.Destinations().Still(ctx, g.Key()).Coming > 0 {
		return service.GroupStopping
	}
	return service.GroupStopped
}
