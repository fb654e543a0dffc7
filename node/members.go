package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

type memberService struct{ *Node }

// List implements service.Members. What only another member knows of itself is left open: the fronts gather.
func (n memberService) List(ctx context.Context) (service.Roster, error) {
	m, err := n.agree()
	if err != nil {
		return service.Roster{}, err
	}
	out := service.Roster{Quorum: m.agreed.Leader() != ""}
	if n.wire != nil {
		out.Cluster = n.wire.ClusterID()
	}
	s := m.book.State()
	for _, v := range m.agreed.Members(ctx) {
		r := service.Member{Name: v.Name, Address: v.Address, Voter: v.Voter, Leader: v.Leader, Alive: v.Alive, Applied: v.Applied,
			Role: map[bool]string{true: service.RoleMember, false: service.RoleNonvoter}[v.Voter]}
		if v.Role == cluster.RoleWitness {
			r.Role = service.RoleWitness
		}
		if known, ok := s.Member(v.Name); ok {
			switch at := m.heardOf(v.Name); {
			case v.Alive:
				r.Seen = n.clock.Now()
			case !at.IsZero():
				r.Seen = n.clock.Now().Add(-clock.Since(at)) // told by the product's clock, as all times are
			}
			if known.Removed {
				r.State = service.StateRemoved
			}
		}
		for _, l := range s.Lineages() {
			if l.Owner == v.Name && l.Phase != ledger.Closed {
				r.Lineages = append(r.Lineages, lineageOf(l))
			}
		}
		if v.Name == n.cfg.Node.Name {
			n.describe(&r)
		}
		out.Members = append(out.Members, r)
	}
	slices.SortFunc(out.Members, func(a, b service.Member) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func lineageOf(l ledger.Lineage) service.Lineage {
	out := service.Lineage{ID: l.Lineage, Epoch: l.Epoch, Owner: l.Owner, Phase: "owned"}
	if l.Phase == ledger.Taken {
		out.Phase = "adopting"
	}
	for _, s := range l.Standbys {
		out.Standbys = append(out.Standbys, service.Standby{Name: s.Node})
	}
	return out
}

// describe fills in what only this node knows of itself.
func (n *Node) describe(r *service.Member) {
	s := n.status()
	r.State, r.Version = s.State, s.Version
	e := n.engine.Load()
	if e == nil {
		r.Waiting = n.parting.Load()
		return
	}
	r.Waiting = int64(e.store.Waiting() + e.store.Parked().Deliveries)
	for i := range r.Lineages {
		l := &r.Lineages[i]
		if l.ID != e.store.Lineage() || e.shipping == nil || e.shipping.to.Load() == nil {
			continue
		}
		st := e.shipping.to.Load().Status()
		l.Degraded, l.Exposed = st.Short, uint64(e.store.ExposedCount())
		l.Standbys = nil
		for _, b := range st.Standbys {
			if b.State == "idle" {
				continue
			}
			behind := uint64(0)
			if b.Acked < st.Next {
				behind = st.Next - 1 - b.Acked
			}
			l.Standbys = append(l.Standbys, service.Standby{Name: b.Member, Acknowledging: b.State == "full", Behind: behind})
		}
	}
}

// isMember tells whether the agreement, or the book, knows a member of that name.
func (m *member) isMember(ctx context.Context, name string) bool {
	if v, ok := m.book.State().Member(name); ok && !v.Removed {
		return true
	}
	return slices.ContainsFunc(m.agreed.Members(ctx), func(v cluster.Member) bool { return v.Name == name })
}

// errElsewhere is for what a member must be asked itself.
var errElsewhere = fmt.Errorf("%w: ask that node itself", service.ErrRefused)

// Drain implements service.Members.
func (n memberService) Drain(ctx context.Context, node string) error {
	if node != "" && node != n.cfg.Node.Name {
		if m, err := n.agree(); err == nil && !m.isMember(ctx, node) {
			return fmt.Errorf("%w: no member is called %q", service.ErrNotFound, node)
		}
		return errElsewhere
	}
	return n.drain(ctx)
}

// Takeover implements service.Members.
func (n memberService) Takeover(ctx context.Context, node string, force bool, author string) ([]service.Lineage, error) {
	m, err := n.agree()
	if err != nil {
		return nil, err
	}
	if err := m.current(ctx); err != nil {
		return nil, err
	}
	var out []service.Lineage
	owned := m.book.State().Lineages()
	// What was being taken in goes where its part went, so that comes first: it changed hands less often.
	slices.SortStableFunc(owned, func(a, b ledger.Lineage) int { return cmp.Compare(a.Epoch, b.Epoch) })
	for _, l := range owned {
		if l.Owner != node || l.Phase == ledger.Closed {
			continue
		}
		if !force {
			return nil, fmt.Errorf("%w: %s renews its lease or lost it a moment ago; its standbys take over by themselves", service.ErrRefused, node)
		}
		heir, err := m.heir(ctx, l)
		if e := n.engine.Load(); err != nil && node == n.cfg.Node.Name && e != nil && e.store.Lineage() == l.Lineage && e.outdated.Load() != nil {
			if _, err := m.command(ctx, &ledger.Note{Signed: m.by(author), Action: "takeover", Subject: fmt.Sprintf("%08x/%d", uint32(l.Lineage), l.Epoch),
				Detail: "no copy is left: its owner goes on with the old data directory it has"}); err != nil {
				return nil, err
			}
			e.accepted.Store(true)
			out = append(out, lineageOf(l))
			continue
		}
		if err != nil {
			return nil, err
		}
		address, _ := m.addressOf(heir)
		cmd := &ledger.Takeover{Signed: m.by(author), Lineage: l.Lineage, FromEpoch: l.Epoch, Force: true, NewOwner: heir, Address: address}
		if _, err := m.command(ctx, cmd); err != nil {
			return nil, err
		}
		now, _ := m.book.State().Lineage(l.Lineage)
		out = append(out, lineageOf(now))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: %s owns no queue", service.ErrNotFound, node)
	}
	return out, nil
}

// Remove implements service.Members.
func (n memberService) Remove(ctx context.Context, node string, force bool, author string) error {
	m, err := n.agree()
	if err != nil {
		return err
	}
	node = cmp.Or(node, n.cfg.Node.Name)
	for _, l := range m.book.State().Lineages() {
		if l.Owner == node && l.Phase != ledger.Closed && !force {
			return fmt.Errorf("%w: %s still owns the queue %08x: drain it, or let its standbys take it over", service.ErrRefused, node, uint32(l.Lineage))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, agreeWait)
	defer cancel()
	r, err := m.agreed.Remove(ctx, node, m.by(author))
	if err == nil {
		err = r.Err()
	}
	return agreedError(err)
}

// Admit implements service.Members.
func (n memberService) Admit(ctx context.Context, node, author string) error {
	m, err := n.agree()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, agreeWait)
	defer cancel()
	if err := agreedError(m.putTime(ctx, metaAdmitted(node), clock.Wall())); err != nil {
		return err
	}
	if v, ok := m.book.State().Member(node); ok && v.Removed {
		by := m.by(author)
		by.At = clock.Wall() // it counts as seen then
		r, err := m.agreed.Add(ctx, cluster.Live{Name: node, Address: v.Address, Role: cluster.Role(v.Role)}, by)
		if err == nil {
			err = r.Err()
		}
		return agreedError(err)
	}
	_, err = m.command(ctx, &ledger.Note{Signed: m.by(author), Action: "admit", Subject: node, Detail: "may join and be given the key for 15 minutes"})
	return err
}

// How long a drain waits: for sessions to end their transactions, then for the queue to be with a standby and the book to
// have the new owner.
const (
	drainSessions = 45 * time.Second
	drainQueue    = 30 * time.Second
)

// drain stops taking mail and hands the queue over. Where nobody can take it, it goes on being delivered here.
func (n *Node) drain(ctx context.Context) error {
	n.draining.Store(true)
	n.mindDoor()
	m, e := n.member.Load(), n.engine.Load()
	if m == nil || e == nil || e.shipping == nil {
		return nil
	}
	// Whoever asked may have stopped listening (a session may hold a reply to its dot for minutes): a queue whose delivery has
	// ended must be handed over all the same, or nobody would send it.
	heir, err := e.handOver(context.WithoutCancel(ctx), m)
	if err != nil {
		n.log.Error("drain", "err", err)
		return err
	}
	// What was handed over must not count as this node's any more. Its log stays here, and is asked for.
	n.handed.Store(true)
	n.giveUp(e, "queue handed over to "+heir+"; this node takes no other until it is restarted")
	return nil
}

// handOver ends delivery, waits until a standby has everything, and makes it the owner: nothing is in doubt, and nobody
// waits for a lease to end.
func (e *engine) handOver(ctx context.Context, m *member) (string, error) {
	l, _ := m.book.State().Lineage(e.store.Lineage())
	heir, err := m.heir(ctx, l)
	if err != nil {
		return "", err
	}
	flush := func() error {
		ctx, cancel := context.WithTimeout(ctx, drainQueue)
		defer cancel()
		if err := e.store.Flush(ctx); err != nil {
			return fmt.Errorf("node: %w", err)
		}
		return nil
	}
	if err := flush(); err != nil { // while it costs nothing: a standby may be being filled
		return "", err
	}
	stopping, done := context.WithTimeout(ctx, drainSessions)
	defer done()
	defer func() { // sending does not begin again: where the queue is still this node's, its standbys are to take it over
		if lease := e.lease.Swap(nil); lease != nil {
			m.agreed.Release(lease)
		}
	}()
	if err := e.actors.Stop(stopping); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return "", err
	}
	if err := flush(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, agreeWait)
	defer cancel()
	lease := e.lease.Swap(nil)
	if lease == nil {
		return "", fmt.Errorf("%w: the lease of the queue has ended", service.ErrRefused)
	}
	defer m.agreed.Release(lease)
	address, _ := m.addressOf(heir)
	_, err = m.command(ctx, &ledger.Handover{Signed: m.stamp(), LineageEpoch: lease.LineageEpoch, NewOwner: heir, Address: address})
	return heir, err
}
