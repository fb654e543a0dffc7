package node

import (
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/suppression"
)

// What is put on a tenant's block list or taken off it is an event in the log of the member that did it, behind the
// book's own answer: the book decides, the log tells (requirements R102, B5, B7.1).

// newlyBlocked returns those of a list that stand on a block list only from now on.
func (m *member) newlyBlocked(list []ledger.Suppression) (out []ledger.Suppression, err error) {
	for i := range list {
		if list[i].List != ledger.Blocklist || list[i].Tenant == "" {
			continue
		}
		switch known, err := m.known(list[i].Suppressed, m.node.clock.Now()); {
		case err != nil:
			return nil, err
		case known == nil:
			out = append(out, list[i])
		}
	}
	return out, nil
}

// blocked returns what is known of those that stand on a block list.
func (m *member) blocked(list []ledger.Suppressed) (out []ledger.Suppression, err error) {
	for _, id := range list {
		if id.List != ledger.Blocklist || id.Tenant == "" {
			continue
		}
		switch known, err := m.known(id, m.node.clock.Now()); {
		case err != nil:
			return nil, err
		case known != nil:
			out = append(out, *known)
		}
	}
	return out, nil
}

// noteBlocks writes events of one kind about entries of block lists.
func (n *Node) noteBlocks(kind mail.EventKind, list []ledger.Suppression) error {
	e := n.engine.Load()
	if e == nil || len(list) == 0 {
		return nil
	}
	now := n.clock.Now().Truncate(time.Millisecond)
	a := &mail.Accepted{ID: mail.MessageID{Lineage: e.store.Lineage(), Seq: e.store.Allot(1)}, Tenant: list[0].Tenant}
	for i := range list {
		to := mail.Address(list[i].Address)
		ev := mail.Event{At: now, Kind: kind, Tenant: list[i].Tenant, To: to, Domain: to.Domain(), Detail: list[i].Reason,
			Due: list[i].Since.Truncate(time.Millisecond)}
		status, occurred := suppression.ParseStopReason(list[i].Reason)
		ev.Status, ev.Attempt = status, uint16(occurred)
		a.Events = append(a.Events, ev)
	}
	done := make(chan error, 1)
	e.store.Put(a, func(err error) { done <- err })
	return <-done
}
