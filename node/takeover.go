package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/replica"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// takeovers are the queues of other members that this node is taking in.
type takeovers struct {
	mu   sync.Mutex
	open map[mail.Lineage]bool
	done atomic.Int64 // since the node started
}

// begin tells whether the caller is the one to take l in.
func (t *takeovers) begin(l mail.Lineage) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[l] {
		return false
	}
	if t.open == nil {
		t.open = map[mail.Lineage]bool{}
	}
	t.open[l] = true
	return true
}

func (t *takeovers) end(l mail.Lineage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, l)
}

// count is how many are under way.
func (t *takeovers) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// mindLineages looks at who owns what: queues that were given to this node are taken in, copies of queues that are
// closed are deleted, and the standbys of its own are offered anew. It never waits.
func (e *engine) mindLineages(m *member) {
	n := m.node
	if n.wire == nil || !e.owned.Load() {
		return
	}
	e.offerStandbys(m)
	e.remindStandbys(m)
	for _, v := range m.book.State().Lineages() {
		switch {
		case v.Lineage == e.store.Lineage():
		case v.Phase == ledger.Closed:
			m.forget(v.Lineage)
		case v.Phase == ledger.Taken && v.Owner == n.cfg.Node.Name && e.holds() && n.takeovers.begin(v.Lineage):
			e.done.Go(func() {
				defer n.takeovers.end(v.Lineage)
				e.takeOver(e.life, m, v)
			})
		}
	}
}

// forget deletes the copy of a queue that nobody needs any more.
func (m *member) forget(l mail.Lineage) {
	if m.copies == nil || m.copies.State(l).Run == 0 {
		return
	}
	if err := m.copies.Drop(l); err != nil {
		m.node.log.Warn("the copy of a closed queue was not deleted", "error", err)
	}
}

// takeAgain is the longest wait before a takeover that failed is tried again: longer than a lease, so that another standby,
// which may be able to, gets the queue first.
const takeAgain = 15 * time.Second

// takeOver takes the queue v in (K1 to K4 of the protocol), again and again until it is done or no longer this node's.
func (e *engine) takeOver(ctx context.Context, m *member, v ledger.Lineage) {
	log := m.node.log.With("lineage", fmt.Sprintf("%08x", uint32(v.Lineage)), "epoch", v.Epoch, "from", v.Former)
	log.Warn("taking over the queue of another member")
	for wait := time.Second; ; {
		err := e.takeInLeased(ctx, m, v)
		if err == nil {
			m.node.takeovers.done.Add(1)
			return
		}
		log.Error("the queue is not taken over yet", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, takeAgain)
		if now, _ := m.book.State().Lineage(v.Lineage); now.Epoch != v.Epoch || now.Phase != ledger.Taken {
			return
		}
	}
}

// takeInLeased holds the lease of the queue meanwhile, so that a queue that takes longer than a lease is not passed on to
// another standby, which would send all of it once more. Where it is passed on, because this member was cut off, it ends.
func (e *engine) takeInLeased(ctx context.Context, m *member, v ledger.Lineage) error {
	lease := m.agreed.Lease(v.LineageEpoch)
	defer m.agreed.Release(lease)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.done.Go(func() {
		select {
		case <-lease.Lost():
			cancel()
		case <-ctx.Done():
		}
	})
	return e.takeIn(ctx, m, v)
}

func (e *engine) takeIn(ctx context.Context, m *member, v ledger.Lineage) error {
	sources := e.sources(ctx, m, v)
	err := e.adopt(ctx, m.node, queue.Adoption{Lineage: v.Lineage, Note: "taken over from " + v.Former,
		Records: func(each func(key, value []byte) error) error { return replica.Union(ctx, sources, each) }})
	if err != nil {
		return err
	}
	r, err := m.propose(ctx, &ledger.Adopted{Signed: m.stamp(), LineageEpoch: v.LineageEpoch})
	if err == nil {
		err = r.Err()
	}
	if err != nil && !errors.Is(err, ledger.ErrStale) {
		return err
	}
	if err := e.store.AdoptDone(e.life, v.Lineage); err != nil { // the lease of what is closed now ends
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// sources are the copies of a queue that can be reached: this node's own, and those of members that are not its former
// owner, unless the own one is complete and nobody is further. The union finds out who knows what.
func (e *engine) sources(ctx context.Context, m *member, v ledger.Lineage) []replica.Source {
	own := m.copies.Local(v.Lineage, v.Epoch)
	sources, here := []replica.Source{own}, m.copies.State(v.Lineage)
	for name, there := range m.copiesOf(ctx, v.Lineage, m.others(v.Former)) {
		if there.Run == 0 || here.Full && there.High <= here.High {
			continue
		}
		sources = append(sources, &replica.Remote{Dialer: m.peers.shipping(), Member: name, Cluster: m.node.wire.ClusterID(),
			Lineage: v.Lineage, Epoch: v.Epoch})
	}
	return sources
}
