package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/replica"
	"github.com/ekiden-mta/ekiden/mail"
)

// copyWait bounds the question what a member has of a queue.
const copyWait = 2 * time.Second

// others are the members that may hold copies, without this one and one more.
func (m *member) others(but string) []string {
	var names []string
	for _, p := range m.peers.List() {
		if p.Name != but {
			names = append(names, p.Name)
		}
	}
	return names
}

// copiesOf asks members, all at once, what they have of a queue. Who does not answer in time is left out.
func (m *member) copiesOf(ctx context.Context, l mail.Lineage, names []string) map[string]replica.State {
	ctx, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	type answer struct {
		name string
		of   replica.State
		err  error
	}
	answers := make(chan answer, len(names))
	for _, name := range names {
		go func() {
			st, err := m.copyAt(ctx, name, l)
			answers <- answer{name, st, err}
		}()
	}
	copies := map[string]replica.State{}
	for range names {
		select {
		case a := <-answers:
			if a.err == nil {
				copies[a.name] = a.of
			}
		case <-ctx.Done():
			return copies
		}
	}
	return copies
}

// copyAt tells what a member has of a queue.
func (m *member) copyAt(ctx context.Context, name string, l mail.Lineage) (replica.State, error) {
	if name == m.node.cfg.Node.Name {
		return m.copies.State(l), nil
	}
	return (&replica.Remote{Dialer: m.peers.shipping(), Member: name, Cluster: m.node.wire.ClusterID(), Lineage: l}).State(ctx)
}

// bestOf is the member with the best of those copies that fit: the one that is furthest, of these a complete one, and of these
// the first by name. "" where there is none.
func bestOf(copies map[string]replica.State, fits func(replica.State) bool) (best string) {
	for _, name := range slices.Sorted(maps.Keys(copies)) {
		c, b := copies[name], copies[best]
		if c.Run == 0 || !fits(c) {
			continue
		}
		if best == "" || c.High > b.High || c.High == b.High && c.Full && !b.Full {
			best = name
		}
	}
	return best
}

// heir is the member that holds the best copy of a queue. A former standby may call complete what was so long ago; what
// another lacks it takes from there. A queue that was being taken in goes where that was.
func (m *member) heir(ctx context.Context, l ledger.Lineage) (string, error) {
	if x, ok := m.wentTo(l.Lineage); ok && l.Phase == ledger.Taken && x.Owner != l.Owner {
		return x.Owner, nil
	}
	var names []string
	for _, a := range m.alive() {
		if a.Name != l.Owner && a.Role != witnessRole {
			names = append(names, a.Name)
		}
	}
	best := bestOf(m.copiesOf(ctx, l.Lineage, names), func(replica.State) bool { return true })
	if best == "" {
		return "", fmt.Errorf("%w: no member that can be reached holds a copy of the queue %08x", service.ErrRefused, uint32(l.Lineage))
	}
	return best, nil
}

// sees tells whether gossip sees a member.
func (m *member) sees(name string) bool {
	return slices.ContainsFunc(m.alive(), func(a cluster.Live) bool { return a.Name == name })
}

// Best implements cluster.Standbys. What the book calls full may have lost its disk since: that is no copy to go on with. A
// queue that was being taken in goes where that was.
func (p *peers) Best(ctx context.Context, members []string, l mail.Lineage) (member string, high uint64, found bool) {
	m := p.member
	if v, ok := m.book.State().Lineage(l); ok {
		to, later := heirOf(v, m.into, m.book.State().Lineage, m.sees)
		if to != "" || later {
			return to, 0, to != ""
		}
	}
	copies := m.copiesOf(ctx, l, members)
	best := bestOf(copies, func(c replica.State) bool { return !c.Damaged })
	return best, copies[best].High, best != ""
}
