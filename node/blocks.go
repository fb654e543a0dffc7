package node

import (
	"context"
	"errors"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/suppression"
)

// What is put on a tenant's block list or taken off it is an event in the log of the member that did it (requirements
// R102, B5, B7.1). It is written before the book is asked, so that no crash leaves a list that nobody was told of; where the
// book refuses, the log tells that things are as they were.

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

// told has the log tell of entries of block lists, then does what it tells of. What was not done is taken back in the log.
func (m *member) told(ctx context.Context, kind mail.EventKind, list []ledger.Suppression, do func() error) error {
	if len(list) == 0 {
		return do()
	}
	if err := m.current(ctx); err != nil { // without a majority nothing is told
		return err
	}
	if err := m.node.noteOfTenants(kind, list); err != nil {
		return err
	}
	err := do()
	if err == nil {
		return nil
	}
	back, undone := mail.EventReleased, []ledger.Suppression(nil)
	if kind == mail.EventReleased {
		back = mail.EventBlocked
	}
	for i := range list {
		known, unread := m.known(list[i].Suppressed, m.node.clock.Now())
		if unread == nil && (known != nil) == (back == mail.EventBlocked) {
			undone = append(undone, list[i])
		}
	}
	return errors.Join(err, m.node.noteOfTenants(back, undone))
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
