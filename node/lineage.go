package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/queue"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// witnessRole is how gossip names members without a queue.
const witnessRole = cluster.RoleWitness

// errTaken is reported for a queue that has another owner: it must never be delivered from here again.
var errTaken = errors.New("the queue has another owner")

// claimPause is waited between attempts to own the queue, when nobody answers.
const claimPause = 200 * time.Millisecond

// claim makes this node the owner of its queue's lineage, or finds that it is. It asks the book first and not the disk:
// a directory that was restored, or whose mail was taken over, ends here with errTaken. What the book gives to this node it
// compares with the copies at the standbys, for the directory may have been restored while its lease lasts.
func (e *engine) claim(ctx context.Context, m *member) error {
	l := e.store.Lineage()
	for {
		epoch, found, err := e.register(ctx, m, l)
		if err == nil && found && e.shipping != nil {
			err = e.compare(ctx, m, ledger.LineageEpoch{Lineage: l, Epoch: epoch})
		}
		switch {
		case err == nil:
			return e.own(m, ledger.LineageEpoch{Lineage: l, Epoch: epoch})
		case errors.Is(err, errTaken), ctx.Err() != nil:
			return err
		}
		m.node.log.Debug("the queue is not owned yet", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(claimPause):
		}
	}
}

// register returns the epoch under which this node owns l, and whether it was in the book before.
func (e *engine) register(ctx context.Context, m *member, l mail.Lineage) (epoch uint64, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := m.caughtUp(ctx); err != nil {
		return 0, false, err
	}
	name := m.node.cfg.Node.Name
	switch v, known := m.book.State().Lineage(l); {
	case known && v.Owner == name && v.Born == name && v.Phase == ledger.Serving:
		return v.Epoch, true, nil
	case known:
		return 0, true, errTaken
	}
	r, err := m.propose(ctx, &ledger.Register{Signed: m.stamp(), Lineage: l, Node: name, Address: m.address()})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return 0, false, err
	}
	return r.Epoch, false, nil
}

// own begins to serve the queue under its epoch: standbys, lease, work.
func (e *engine) own(m *member, of ledger.LineageEpoch) error {
	n := m.node
	if e.shipping != nil {
		if err := e.startShipping(m, of.Lineage, of.Epoch); err != nil {
			return err
		}
	}
	lease := m.agreed.Lease(of)
	e.lease.Store(lease)
	if e.shipping != nil {
		e.keepMarking(m)
	}
	n.numbers.found.Add(int64(e.store.Waiting()))
	e.actors.Start()
	if err := e.recover(); err != nil {
		return err
	}
	e.owned.Store(true)
	e.done.Go(func() {
		select {
		case <-lease.Lost():
			n.reincarnate(e)
		case <-e.life.Done():
			m.agreed.Release(lease)
		}
	})
	return nil
}

// holds tells whether mail may be taken and sent now: the lease of the queue lasts.
func (e *engine) holds() bool {
	l := e.lease.Load()
	return l != nil && l.Valid()
}

// fenced is called when a standby knows a later owner: the lease says so too, a moment later.
func (e *engine) fenced() { e.lease.Store(nil) }

// reincarnate gives up a queue that has another owner, keeps what only this node has of it, and begins a new one.
func (n *Node) reincarnate(e *engine) {
	if !n.draining.Load() {
		n.giveUp(e, "the queue has another owner now; this node begins a new one")
	}
}

// giveUp lets go of a queue that has another owner, as message says in the log, in the background.
func (n *Node) giveUp(e *engine, message string) {
	n.mu.Lock()
	if n.life.Err() != nil || n.engine.Load() != e {
		n.mu.Unlock()
		return
	}
	n.log.Warn(message, "lineage", fmt.Sprintf("%08x", uint32(e.store.Lineage())))
	n.parting.Store(int64(e.store.ExposedCount() + e.store.Parked().Deliveries))
	n.engine.Store(nil)
	n.renewing = true
	n.watchers.Go(func() { n.renew(e) })
	n.mu.Unlock()
	n.mindDoor()
}

// renew gives the queue of e up and opens the next one. Log, counters and what only this node holds stay in the store.
func (n *Node) renew(e *engine) {
	defer n.parting.Store(0)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := n.forgetCovered(n.life, e)
	if closed := e.close(ctx); closed != nil {
		n.log.Warn("the queue that was given up did not close in order", "error", closed)
	}
	var done queue.Renewal
	if err == nil {
		done, err = queue.Renew(n.life, n.storeConfig(), "handed over to "+n.ownerOf(e.store.Lineage()))
	}
	n.mu.Lock()
	n.renewing = false
	n.mu.Unlock()
	if e.owned.Load() {
		n.numbers.out.Add(int64(done.Deliveries)) // not queued here any more, and not ended either
	}
	switch {
	case n.life.Err() != nil:
		return // it goes on at the next start
	case err != nil:
		n.storeFailed(err)
		return
	}
	n.log.Info("queue given up", "lineage", fmt.Sprintf("%08x", uint32(done.Lineage)), "deliveries", done.Deliveries,
		"kept", done.Parked, "damaged", done.Damaged)
	if err := n.openEngine(); err != nil {
		n.storeFailed(err)
	}
}

// ownerOf is the member that owns a queue as far as this one knows.
func (n *Node) ownerOf(l mail.Lineage) string {
	if m := n.member.Load(); m != nil {
		if v, ok := m.book.State().Lineage(l); ok && v.Owner != n.cfg.Node.Name {
			return v.Owner
		}
	}
	return "another member"
}

// The directories of the store, and of the copies of others' queues.
const (
	storeDir   = "store"
	replicaDir = "replica"
)

func (n *Node) storeConfig() queue.Config {
	return queue.Config{Dir: filepath.Join(n.cfg.Node.Data, storeDir), Ring: seal.NewRing(n.vault.Root()), Clock: n.clock, Log: n.log,
		Bare: n.cfg.Testing.Bare}
}

// bringHome adopts what no standby ever held of queues that were given up: nobody else can deliver it, and everything
// else of them has another owner.
func (e *engine) bringHome(ctx context.Context, m *member) error {
	n := m.node
	for _, l := range e.store.Parked().Lineages {
		var err error
		if m.marked(metaHome(l)) == 0 {
			err = e.adopt(ctx, n, queue.Adoption{Lineage: l, Note: "brought home by " + n.cfg.Node.Name, Records: e.store.ParkedRecords(ctx, l)})
			if err == nil {
				err = m.mark(ctx, metaHome(l), 1)
			}
		} else {
			n.log.Warn("what was brought home already is not brought home again", "lineage", fmt.Sprintf("%08x", uint32(l)))
		}
		if err == nil {
			err = e.store.Unpark(ctx, l)
		}
		if err != nil {
			return fmt.Errorf("node: bring home what was given up: %w", err)
		}
	}
	return nil
}

// adopt takes the mail of another queue into this one, and lets it go out as it comes.
func (e *engine) adopt(ctx context.Context, n *Node, a queue.Adoption) error {
	a.Offer = func(ds []mail.Delivery) {
		n.numbers.found.Add(int64(len(ds)))
		jobs := make([]mail.Job, len(ds))
		for i := range ds {
			jobs[i].Delivery = ds[i]
		}
		e.actors.Offer(jobs)
	}
	got, err := e.store.Adopt(ctx, a)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.log.Warn("queue adopted", "lineage", fmt.Sprintf("%08x", uint32(a.Lineage)), "deliveries", got.Deliveries,
		"messages", got.Messages, "again", got.Skipped, "damaged", got.Damaged)
	return nil
}
