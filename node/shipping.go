package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/placement"
	"github.com/ekiden-mta/ekiden/cluster/replica"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// shipping is the standbys as the store sees them. The store is open before anybody knows under which epoch it ships:
// until begin nothing that waits for a standby is put, and what is committed is in the records that each standby is
// sent first.
type shipping struct {
	to      atomic.Pointer[replica.Shipper]
	observe func(seconds float64) // how long the client waited for standbys
	n       uint64                // frames before begin; the committer's
	ops     []replica.Op
}

// Ship implements queue.Shipper.
func (s *shipping) Ship(ops []queue.Op, outcomes int) uint64 {
	to := s.to.Load()
	if to == nil {
		s.n++
		return s.n
	}
	s.ops = s.ops[:0]
	for _, op := range ops {
		s.ops = append(s.ops, replica.Op(op))
	}
	n := to.Ship(s.ops, outcomes)
	clear(s.ops)
	return n
}

// WhenHeld implements queue.Shipper.
func (s *shipping) WhenHeld(n uint64, done func(exposed bool, err error)) {
	to := s.to.Load()
	if to == nil {
		done(true, nil)
		return
	}
	begun := clock.Wall()
	to.WhenHeld(n, func(exposed bool, err error) {
		s.observe(clock.Since(begun).Seconds())
		if errors.Is(err, replica.ErrShort) {
			err = queue.ErrShort
		}
		done(exposed, err)
	})
}

// WhenSettled implements queue.Shipper.
func (s *shipping) WhenSettled(n uint64, done func(error)) {
	if to := s.to.Load(); to != nil {
		to.WhenSettled(n, done)
		return
	}
	done(nil)
}

// ships tells whether this node's queue is copied to others.
func (n *Node) ships() bool { return n.wire != nil && n.cfg.Cluster.Standbys > 0 && !n.isWitness() }

// startShipping begins to ship the queue under the epoch that is this node's now.
func (e *engine) startShipping(m *member, l mail.Lineage, epoch uint64) error {
	n := m.node
	after := max(uint64(clock.Wall().UnixMicro()), m.marked(metaShipped(l))+2) // also where an old directory goes on
	first, err := e.store.NumberFrames(e.life, after)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	s, err := replica.New(replica.Config{Cluster: n.wire.ClusterID(), Lineage: l, Epoch: epoch, First: first, Copies: n.cfg.Cluster.Standbys,
		Strict: n.cfg.Cluster.Shortfall == shortfallStrict, Credit: replica.DefaultCredit, Dialer: m.peers.shipping(), Log: n.log,
		Live: func(ctx context.Context, each func(replica.Op) error) error {
			return e.store.Live(ctx, func(op queue.Op) error { return each(replica.Op(op)) })
		},
		ByBook:     true,
		OnStandbys: func(full []string) { e.noteStandbys(m, full) },
		OnDegraded: func(short bool) { e.degraded.Store(short) },
		OnFenced:   func(uint64) { e.fenced() },
		Renewed:    e.renewed,
	})
	if err != nil {
		return err
	}
	if v, ok := m.book.State().Lineage(l); ok {
		for _, b := range v.Standbys {
			if b.Full {
				e.named = append(e.named, b.Node)
			}
		}
	}
	s.SetNamed(e.named)
	e.shipping.to.Store(s)
	e.offerStandbys(m)
	return nil
}

// offerStandbys names the members that may hold copies of this queue, those that others agree on first, so that queues
// spread evenly over the members.
func (e *engine) offerStandbys(m *member) {
	if e.shipping == nil || e.shipping.to.Load() == nil {
		return
	}
	var names []string
	for _, v := range m.alive() {
		if v.Name != m.node.cfg.Node.Name && v.Role != witnessRole {
			names = append(names, v.Name)
		}
	}
	e.shipping.to.Load().SetCandidates(placement.Order(names, fmt.Sprintf("%08x", uint32(e.store.Lineage()))))
}

// memberDialer opens connections to members by name.
type memberDialer struct {
	peers *peers
	proto string
}

// Dial implements replica.Dialer.
func (d memberDialer) Dial(ctx context.Context, member string) (net.Conn, error) {
	return d.peers.dial(ctx, member, d.proto)
}

func (p *peers) shipping() memberDialer { return memberDialer{p, wire.Ship} }

// renewed tells how long ago the renewal of the queue's lease was asked for that was granted last.
func (e *engine) renewed() time.Duration {
	if l := e.lease.Load(); l != nil {
		return l.Renewed()
	}
	return math.MaxInt64
}
