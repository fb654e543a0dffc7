package node

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// What members ask of one another for the emergency stop, besides the operator's calls.
const (
	pathConfirm = "/member/gate/confirm"
	pathDiscard = "/member/gate/discard"
	pathClosed  = "/member/gate/closed"
	maxGate     = 64 << 10 // octets of a question or an answer about one gate
	maxGates    = 16 << 20 // of all of them
)

// gateCalls answers other members.
func (n *Node) gateCalls(mux *http.ServeMux) {
	answerGate(mux, pathConfirm, n.ConfirmGate)
	answerGate(mux, pathDiscard, n.DiscardGate)
	answer(mux, http.MethodGet, pathClosed, 0, func(context.Context, struct{}) ([]gate.Gate, error) {
		var closed []gate.Gate
		for _, g := range n.gates.table.List() {
			if g.Closed {
				closed = append(closed, g)
			}
		}
		return closed, nil
	})
}

// answerGate serves a call about one gate.
func answerGate[T any](mux *http.ServeMux, path string, do func(context.Context, gate.Gate) (T, error)) {
	answer(mux, http.MethodPost, path, maxGate, func(ctx context.Context, g gate.Gate) (out T, err error) {
		if g.Group == "" {
			return out, fmt.Errorf("%w: a gate is expected", service.ErrInvalid)
		}
		return do(ctx, g)
	})
}

// ask puts a gate to another member.
func (p *peers) ask(ctx context.Context, name, path string, g gate.Gate, out any) error {
	return p.call(ctx, http.MethodPost, name, path, g, maxGate, out)
}

// gatePeers are the other members as the emergency stop sees them.
type gatePeers struct{ *Node }

// Members implements Peers.
func (n gatePeers) Members() []string {
	var names []string
	for _, p := range gathered(n).List() {
		names = append(names, p.Name)
	}
	return names
}

// Confirm implements Peers.
func (n gatePeers) Confirm(ctx context.Context, name string, g gate.Gate) (st Standing, err error) {
	m, err := n.agree()
	if err != nil {
		return st, err
	}
	err = m.peers.ask(ctx, name, pathConfirm, g, &st)
	return st, err
}

// Discard implements Peers.
func (n gatePeers) Discard(ctx context.Context, name string, g gate.Gate) (count int, err error) {
	m, err := n.agree()
	if err != nil {
		return 0, err
	}
	err = m.peers.ask(ctx, name, pathDiscard, g, &count)
	return count, err
}

// Closed implements Peers.
func (n gatePeers) Closed(ctx context.Context, name string) (list []gate.Gate, err error) {
	m, err := n.agree()
	if err != nil {
		return nil, err
	}
	err = m.peers.call(ctx, http.MethodGet, name, pathClosed, nil, maxGates, &list)
	return list, err
}

// bookWait is how long a question about leases waits for this node's book to be up to date.
const bookWait = 500 * time.Millisecond

// Lease implements Peers: a lease counts from when this node saw its last renewal in the book. Where the book cannot be
// brought up to date, every other member may hold one, unless those that are left are too few to agree without it. Heartbeats
// of a leader do not show that a book is: entries come later than they do.
func (n gatePeers) Lease(ctx context.Context, name string, gone map[string]time.Duration) time.Duration {
	terms := cluster.DefaultTerms()
	whole := terms.TTL + terms.Margin
	m := n.member.Load()
	if m == nil || n.selfLeased() { // nobody counts leases that have no end
		return whole
	}
	ctx, cancel := context.WithTimeout(ctx, bookWait)
	defer cancel()
	if m.agreed.Barrier(ctx) != nil {
		contact, _ := m.agreed.Staleness()
		return max(0, whole-unled(m.agreed.Voters(), n.cfg.Node.Name, contact, gone))
	}
	left := time.Duration(0)
	for _, l := range m.book.State().Lineages() {
		if l.Owner == name && l.Phase == ledger.Serving {
			left = max(left, whole-m.sinceRenewed(l))
		}
	}
	return left
}

// unled is for how long nothing can have been agreed on, so no lease renewed, that self has not heard of: contact is how
// long ago it heard a leader. Whoever granted a lease since did so without self and without those that are gone, and
// these must not be missing in a majority. 0 where the others may have one.
func unled(voters []string, self string, contact time.Duration, gone map[string]time.Duration) time.Duration {
	able, since := 0, contact
	for _, v := range voters {
		away, is := gone[v]
		switch {
		case is:
			since = min(since, away)
		case v != self:
			able++
		}
	}
	if len(voters) == 0 || able > len(voters)/2 {
		return 0
	}
	return since
}

// Silent implements Peers.
func (n gatePeers) Silent(name string) time.Duration {
	m := n.member.Load()
	if m == nil {
		return 0
	}
	for _, a := range m.alive() {
		if a.Name == name {
			return 0
		}
	}
	if at := m.heardOf(name); !at.IsZero() {
		return max(time.Millisecond, clock.Since(at))
	}
	return time.Millisecond
}

// gateLedger is what the members agree on, as far as gates are concerned.
type gateLedger struct{ *Node }

// SetGate implements Ledger.
func (n gateLedger) SetGate(ctx context.Context, g gate.Gate) error {
	m, err := n.agree()
	if err != nil {
		return err
	}
	_, err = m.command(ctx, &ledger.SetGate{Signed: m.by(g.Author), Gate: ledger.Gate{
		GateID: ledger.GateID{Tenant: g.Tenant, Group: g.Group}, Closed: g.Closed, Version: g.Version,
		RefuseIntake: g.RefuseIntake, HoldExpiry: g.HoldExpiry, Discard: g.Discard, Author: g.Author, At: g.Since}})
	return err
}

// useGates puts the gates of the book in force.
func (n *Node) useGates(ctx context.Context, list []ledger.Gate) {
	for _, g := range list {
		err := n.LearnGate(ctx, gate.Gate{Tenant: g.Tenant, Group: g.Group, Version: g.Version, Closed: g.Closed,
			RefuseIntake: g.RefuseIntake, HoldExpiry: g.HoldExpiry, Since: g.At, Author: g.Author, Discard: g.Discard})
		if err != nil {
			n.log.Error("a gate of the ledger is in force, but not kept for a restart", "group", g.Group, "error", err)
		}
	}
}
