package node

import (
	"context"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
)

// A standby counts for mail that is acknowledged once the book names it as full, because whoever looks for the next owner of
// a queue looks there. It is in the book before the first 250 that counts on it, and out of what counts before it is out
// of the book.

// tellWait bounds one attempt to have the members agree on who stands by.
const tellWait = 10 * time.Second

// noteStandbys has the members told where full copies of this queue are.
func (e *engine) noteStandbys(m *member, full []string) {
	e.untold.Store(&full)
	e.telling.Lock()
	defer e.telling.Unlock()
	e.tellStandbys(m)
}

// remindStandbys tries again what could not be told yet, unless somebody is at it. It never waits.
func (e *engine) remindStandbys(m *member) {
	if e.untold.Load() == nil || !e.telling.TryLock() {
		return
	}
	e.done.Go(func() {
		defer e.telling.Unlock()
		e.tellStandbys(m)
	})
}

// tellStandbys tells the members where full copies of this queue are, and this store that it is covered. e.telling is held.
func (e *engine) tellStandbys(m *member) {
	full, lease := e.untold.Load(), e.lease.Load()
	if full == nil || lease == nil { // told by now; or the queue is not this node's yet, or no more
		return
	}
	list := make([]ledger.Standby, len(*full))
	for i, name := range *full {
		list[i] = ledger.Standby{Node: name, Full: true}
	}
	to := e.shipping.to.Load()
	e.named = slices.DeleteFunc(e.named, func(name string) bool { return !slices.Contains(*full, name) })
	to.SetNamed(e.named) // whatever becomes of the proposal, the book names these
	ctx, cancel := context.WithTimeout(context.Background(), tellWait)
	defer cancel()
	r, err := m.propose(ctx, &ledger.SetStandbys{Signed: m.stamp(), LineageEpoch: lease.LineageEpoch, Standbys: list})
	if err == nil {
		err = r.Err()
	}
	if err != nil { // mindLineages tries again
		m.node.log.Warn("the standbys of the queue are not agreed on yet", "error", err)
		return
	}
	e.named = slices.Clone(*full)
	to.SetNamed(e.named)
	e.untold.CompareAndSwap(full, nil) // unless there is news
	if len(*full) >= m.node.cfg.Cluster.Standbys {
		e.cover(ctx, m)
	}
}

// cover takes the marks of exposure away from what enough full standbys hold by now.
func (e *engine) cover(ctx context.Context, m *member) {
	n := m.node
	var acked []uint64
	for _, s := range e.shipping.to.Load().Status().Standbys {
		if s.State == "full" {
			acked = append(acked, s.Acked)
		}
	}
	if len(acked) < n.cfg.Cluster.Standbys {
		return
	}
	if e.store.ExposedCount() == 0 {
		return
	}
	slices.Sort(acked)
	upTo := acked[len(acked)-n.cfg.Cluster.Standbys]
	err := m.mark(ctx, metaCovered(e.store.Lineage()), upTo) // first: a directory of before knows by it what not to bring home
	if err == nil {
		err = e.store.Covered(ctx, upTo)
	}
	if err != nil {
		n.log.Warn("marks of what only this node held were not removed", "error", err)
	}
}
