package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/replica"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// A data directory that was put back from a backup holds mail that was delivered since and lacks mail that was accepted
// since. Where the queue has another owner by now, the book tells. Where it has not, because all happened within a lease or
// no standby was there to take over, the standbys tell: they hold frames of this queue that the store never committed. Then
// the queue is theirs, and nothing of this store is sent. And the book tells how far the queue was some seconds before, also
// where no standby answers.

// errOutdated: the store is behind its queue, and no complete copy of that can be had.
var errOutdated = errors.New("the data directory is older than its queue was, by the copies or by the book")

const (
	compareWait  = 5 * time.Second // for standbys that the book names; whoever restarts with this node is there by then
	comparePause = 250 * time.Millisecond
	outdatedWait = 2 * time.Second // between looks for a complete copy
	markEvery    = 10 * time.Second
	markWait     = time.Second
)

// compare tells whether the store has all that its standbys have, by the frames they got, and all that the book knows of.
// It gives the queue to the best copy where it has not, and returns errTaken then. Standbys that do not answer within
// compareWait are not waited for where the book knows of nothing more: the owner must be able to serve without them.
func (e *engine) compare(ctx context.Context, m *member, of ledger.LineageEpoch) error {
	begun := clock.Wall()
	for {
		copies := m.copiesOf(ctx, of.Lineage, m.others(""))
		if heir, most := ahead(copies, e.store.Shipped()); most != "" {
			return e.giveBack(ctx, m, of, heir, most, copies)
		}
		v, _ := m.book.State().Lineage(of.Lineage)
		silent := slices.DeleteFunc(slices.Clone(v.Standbys), func(s ledger.Standby) bool { _, ok := copies[s.Node]; return ok })
		if len(silent) == 0 || clock.Since(begun) > compareWait {
			if at := m.marked(metaShipped(of.Lineage)); at > e.store.Shipped() && !e.accepted.Load() {
				return e.behind(ctx, m, of, at)
			}
			e.outdated.Store(nil)
			if len(silent) > 0 {
				m.node.log.Warn("the queue was not compared with a copy: its standby does not answer. Should this data directory lack the last seconds, mail is sent twice",
					"lineage", fmt.Sprintf("%08x", uint32(of.Lineage)), "standby", silent[0].Node)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(comparePause):
		}
	}
}

// ahead returns the member whose copy is furthest ahead of a store that committed up to frame shipped, and the one with the
// furthest complete copy; "" where there is none. One frame may be ahead of a store that crashed: shipped, and not
// committed.
func ahead(copies map[string]replica.State, shipped uint64) (heir, most string) {
	beyond := func(c replica.State) bool { return c.High > shipped+1 }
	return bestOf(copies, func(c replica.State) bool { return c.Full && beyond(c) }), bestOf(copies, beyond)
}

// giveBack makes the member with the best copy the owner of the queue. Everything here that still lives is in that copy, so
// no mark says any more that only this node holds it.
func (e *engine) giveBack(ctx context.Context, m *member, of ledger.LineageEpoch, heir, most string, copies map[string]replica.State) error {
	n, name := m.node, fmt.Sprintf("%08x", uint32(of.Lineage))
	if heir == "" {
		text := fmt.Sprintf("this data directory is older than the copy of its queue %s at %s, which is not complete: nothing is sent. "+
			"Stop this node and put the right directory back, or give the queue to the copy with: ekiden cluster takeover %s --force",
			name, most, n.cfg.Node.Name)
		return e.stand(ctx, n, text, "lineage", name, "shipped", e.store.Shipped(), "held", copies[most].High)
	}
	n.log.Error("this data directory is older than the copies of its queue: it was put back from a backup, or lost what it had written. "+
		"Nothing of it is sent; the queue goes to the member with the best copy, and this node begins an empty one",
		"lineage", name, "shipped", e.store.Shipped(), "held", copies[heir].High, "heir", heir)
	if err := e.store.Covered(ctx, copies[heir].High); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	address, _ := m.addressOf(heir)
	if _, err := m.command(ctx, &ledger.Handover{Signed: m.by(n.cfg.Node.Name), LineageEpoch: of, NewOwner: heir, Address: address}); err != nil {
		return err
	}
	e.outdated.Store(nil)
	told := fmt.Sprintf("at %s the data directory was older than the copies of its queue %s, as if put back from a backup: nothing of it was sent, and %s has the queue. "+
		"The log and the counters of this node lack what came after the backup", n.clock.Now().Format(time.RFC3339), name, heir)
	n.restored.Store(&told)
	return errTaken
}

// behind says that the book knows more of the queue than the store has, and that no copy does.
func (e *engine) behind(ctx context.Context, m *member, of ledger.LineageEpoch, at uint64) error {
	name := fmt.Sprintf("%08x", uint32(of.Lineage))
	text := fmt.Sprintf("this data directory is older than its queue %s was, and no copy of that answers: nothing is sent. Start its standbys, or stop this "+
		"node and put the right directory back. If both are lost for good, send what is here, of which some was delivered already, with: "+
		"ekiden cluster takeover %s --force", name, m.node.cfg.Node.Name)
	return e.stand(ctx, m.node, text, "lineage", name, "shipped", e.store.Shipped(), "known", at)
}

// stand waits a while with a store that must not be used as it is, and tells why.
func (e *engine) stand(ctx context.Context, n *Node, why string, args ...any) error {
	if was := e.outdated.Swap(&why); was == nil {
		n.log.Error(why, args...)
	}
	n.mindDoor()
	select {
	case <-time.After(outdatedWait):
	case <-ctx.Done():
	}
	return errOutdated
}

// keepMarking tells the book how far the queue is: at once, that a run begins, so that any directory of before is known by
// it, and from then on now and then.
func (e *engine) keepMarking(m *member) {
	if !e.markShipped(m) {
		e.done.Go(func() {
			for e.life.Err() == nil && !e.markShipped(m) {
				select {
				case <-e.life.Done():
				case <-time.After(claimPause):
				}
			}
		})
	}
	e.every(markEvery, func() { e.markShipped(m) })
}

// markShipped notes in the book how far the queue is, where that has changed, and tells whether the book knows.
func (e *engine) markShipped(m *member) bool {
	l, at := e.store.Lineage(), e.store.Shipped()
	if at <= m.marked(metaShipped(l)) {
		return true
	}
	ctx, cancel := context.WithTimeout(e.life, markWait)
	defer cancel()
	if err := m.mark(ctx, metaShipped(l), at); err != nil {
		m.node.log.Debug("the book does not know how far the queue is", "error", err)
		return false
	}
	return true
}

// metaShipped is the name in the book of the last frame that the owner of a queue was known to have committed.
func metaShipped(l mail.Lineage) string { return fmt.Sprintf("shipped/%08x", uint32(l)) }

// Names in the book. Both keep a directory that was put back from bringing home what was brought home, or covered, since.
func metaCovered(l mail.Lineage) string { return fmt.Sprintf("covered/%08x", uint32(l)) }
func metaHome(l mail.Lineage) string    { return fmt.Sprintf("home/%08x", uint32(l)) }

// mark keeps a number in the book under a name.
func (m *member) mark(ctx context.Context, name string, n uint64) error {
	if m.agreed.Alone() {
		return nil
	}
	r, err := m.propose(ctx, &ledger.PutMeta{Signed: m.stamp(), Name: name, Base: ledger.Any, Data: binary.BigEndian.AppendUint64(nil, n)})
	if err != nil {
		return err
	}
	return r.Err()
}

// marked is the number in the book under a name, 0 where there is none.
func (m *member) marked(name string) uint64 {
	v, ok := m.book.State().Meta(name)
	if !ok || len(v.Data) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v.Data)
}

// forgetCovered removes the marks of exposure from what standbys held at some time, before a queue is given up: a directory
// that was put back may be of before that time.
func (n *Node) forgetCovered(ctx context.Context, e *engine) error {
	m := n.member.Load()
	if m == nil {
		return nil
	}
	upTo := m.marked(metaCovered(e.store.Lineage()))
	if upTo == 0 {
		return nil
	}
	if err := e.store.Outdated(ctx, upTo); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}
