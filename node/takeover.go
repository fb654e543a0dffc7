package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster"
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
		case v.Phase == ledger.Taken && v.Owner == n.cfg.Node.Name && e.holds() && !e.waits(m, v) && n.takeovers.begin(v.Lineage):
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

// takeOver takes the queue v in (K1 to K4 of the protocol), again and again until it is done or no longer this node's. It
// holds the lease of v meanwhile, so that a queue that takes longer than a lease is not passed on to another standby, which
// would send all of it once more.
func (e *engine) takeOver(ctx context.Context, m *member, v ledger.Lineage) {
	log := m.node.log.With("lineage", fmt.Sprintf("%08x", uint32(v.Lineage)), "epoch", v.Epoch, "from", v.Former)
	if to := e.goesTo(m, v); to != "" {
		log.Warn("a queue that was being taken in goes where what was taken of it went", "to", to)
		if err := m.handOn(ctx, v, to); err == nil {
			return
		} else if !errors.Is(err, service.ErrRefused) { // refused: who has it was removed
			log.Error("the queue is not handed on yet", "error", err)
			return // mindLineages tries again
		}
	}
	log.Warn("taking over the queue of another member")
	lease := m.agreed.Lease(v.LineageEpoch)
	defer func() { m.agreed.Release(lease) }()
	for wait := time.Second; ; {
		err := e.takeInLeased(ctx, m, v, lease)
		if err == nil {
			m.node.takeovers.done.Add(1)
			return
		}
		log.Error("the queue is not taken over yet", "error", err)
		keep := e.keeps(ctx, m, v)
		if !keep {
			m.agreed.Release(lease)
		}
		now := wait
		if now, wait = nextTry(err, keep, wait); !sleep(ctx, now) {
			return
		}
		if now, _ := m.book.State().Lineage(v.Lineage); now.Epoch != v.Epoch {
			return
		} else if now.Phase == ledger.Closed { // only the answer was lost
			if err := e.store.AdoptDone(ctx, v.Lineage); err != nil {
				log.Error("marks of a queue that is taken over were not deleted", "error", err)
			}
			m.node.takeovers.done.Add(1)
			return
		}
		lease = m.agreed.Lease(v.LineageEpoch)
	}
}

// nextTry is how long to wait after a takeover failed, and after the next failure. A queue of which nothing is here, and for
// which there is no room, is let go at once for so long that another standby gets it.
func nextTry(err error, keep bool, wait time.Duration) (now, next time.Duration) {
	if errors.Is(err, queue.ErrDiskFull) && !keep {
		return takeAgain, takeAgain
	}
	return wait, min(2*wait, takeAgain)
}

// sleep waits, and tells whether ctx has not ended.
func sleep(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// takeInLeased takes v in for as long as its lease is not lost. Where it is passed on, because this member was cut off,
// that ends.
func (e *engine) takeInLeased(ctx context.Context, m *member, v ledger.Lineage, lease *cluster.Lease) error {
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
	sources, err := e.sources(ctx, m, v)
	if err != nil {
		return err
	}
	reads := 0
	records := func(each func(key, value []byte) error) error {
		if reads++; reads == 2 { // the first is a look: from now on some of it may be here
			if err := m.goesInto(ctx, v.Lineage, e.store.Lineage()); err != nil {
				return err
			}
		}
		if look := m.node.adopting; look != nil {
			if err := look(ctx, reads); err != nil {
				return err
			}
		}
		return replica.Union(ctx, sources, each)
	}
	err = e.adopt(ctx, m.node, queue.Adoption{Lineage: v.Lineage, Note: "taken over from " + v.Former, Records: records})
	if err != nil {
		return err
	}
	r, err := m.propose(ctx, &ledger.Adopted{Signed: m.stamp(), LineageEpoch: v.LineageEpoch})
	if err == nil {
		err = r.Err()
	}
	if err != nil { // stale: it was passed on, and what was taken of it is remembered in case it comes back
		return err
	}
	if err := e.store.AdoptDone(e.life, v.Lineage); err != nil { // the lease of what is closed now ends
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// sources are the copies of a queue that can be reached: this node's own, and those of members that did not found it,
// unless the own one is complete and nobody is further. The union finds out who knows what.
func (e *engine) sources(ctx context.Context, m *member, v ledger.Lineage) ([]replica.Source, error) {
	own := m.copies.Local(v.Lineage, v.Epoch)
	sources, here := []replica.Source{own}, m.copies.State(v.Lineage)
	copies := m.copiesOf(ctx, v.Lineage, m.others(v.Born))
	for name, there := range copies {
		if there.Run == 0 || here.Full && there.High <= here.High {
			continue
		}
		sources = append(sources, &replica.Remote{Dialer: m.peers.shipping(), Member: name, Cluster: m.node.wire.ClusterID(),
			Lineage: v.Lineage, Epoch: v.Epoch})
	}
	copies[m.node.cfg.Node.Name] = here
	removed := func(name string) bool { known, ok := m.book.State().Member(name); return ok && known.Removed }
	if silent := lacking(v, copies, removed); silent != "" {
		return nil, fmt.Errorf("node: the copy of the queue at %s is waited for, and there is no other of today; if it is lost for good, "+
			"remove that member from the cluster, and what others have is sent", silent)
	}
	return sources, nil
}
