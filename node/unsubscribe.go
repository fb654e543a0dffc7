package node

import (
	"context"
	"sync"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail/unsubscribe"
)

const (
	leaversMost  = 2000 // requests that wait for the members at a time
	leaversBatch = 500  // requests of one proposal
	leftByLink   = "unsubscribed by link"
)

// linkService takes recipients off lists (requirement R104): their requests lie in the members' book until the batch of
// 00:00 puts them on the unsubscribe list.
type linkService struct{ *Node }

// Known implements service.Links.
func (n linkService) Known(token string) error {
	_, err := n.link(token)
	return err
}

func (n *Node) link(token string) (unsubscribe.Link, error) {
	e, err := n.running()
	if err != nil {
		return unsubscribe.Link{}, err
	}
	l, ok := unsubscribe.Open(e.ring.Index, token)
	if !ok {
		return l, service.ErrNotFound
	}
	return l, nil
}

// Leave implements service.Links. Whoever has left, or asked to, costs the members nothing.
func (n linkService) Leave(ctx context.Context, token string) error {
	l, err := n.link(token)
	if err != nil {
		return err
	}
	m, err := n.agree()
	if err != nil {
		return err
	}
	now := n.clock.Now()
	wish := ledger.Suppression{Suppressed: ledger.Suppressed{Scope: ledger.Scope{List: ledger.Unsubscribe, Tenant: l.Tenant, Filter: l.List},
		Address: l.To.Fold()}, Reason: leftByLink, Since: now}
	if known, err := m.known(wish.Suppressed, now); err != nil || known != nil {
		return err
	}
	if !n.leavesAtOnce(l) {
		wish.List = ledger.Leaving
		if known, err := m.known(wish.Suppressed, now); err != nil || known != nil {
			return err
		}
	}
	return n.leavers.enter(ctx, m, wish)
}

// leavesAtOnce tells whether requests to leave a list do not wait for the batch (E-30).
func (n *Node) leavesAtOnce(l unsubscribe.Link) bool {
	for _, m := range n.book.now.Load().index.Members() {
		if m.Tenant.Name != l.Tenant {
			continue
		}
		for _, f := range m.Composition.Unsubscribe {
			if f.Name == l.List {
				return f.Immediate
			}
		}
	}
	return false
}

// leavers gathers requests, so that many at once make few proposals.
type leavers struct {
	mu      sync.Mutex
	waiting []leaver
	busy    bool // a goroutine proposes what waits
}

type leaver struct {
	wish ledger.Suppression
	done chan error // has room for the answer
}

// enter returns once a majority of the members holds the wish.
func (x *leavers) enter(ctx context.Context, m *member, wish ledger.Suppression) error {
	w := leaver{wish, make(chan error, 1)}
	x.mu.Lock()
	if len(x.waiting) >= leaversMost {
		x.mu.Unlock()
		return service.ErrTooSoon
	}
	x.waiting = append(x.waiting, w)
	if !x.busy {
		x.busy = true
		go x.propose(m)
	}
	x.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// propose gives the members what waits until nothing does.
func (x *leavers) propose(m *member) {
	for {
		x.mu.Lock()
		n := min(len(x.waiting), leaversBatch)
		batch := x.waiting[:n:n]
		x.waiting = x.waiting[n:]
		if n == 0 {
			x.busy, x.waiting = false, nil
			x.mu.Unlock()
			return
		}
		x.mu.Unlock()
		cmd := ledger.Suppress{Signed: m.by("")}
		for i := range batch {
			cmd.Add = append(cmd.Add, batch[i].wish)
		}
		_, err := m.suppressAll(m.node.life, cmd)
		for i := range batch {
			batch[i].done <- err
		}
	}
}

// reflectLeaving is the batch: whoever asked to leave a list by now is on the unsubscribe list. Where it ends early, the
// next one goes on.
func (n *Node) reflectLeaving(ctx context.Context) error {
	m, err := n.agree()
	if err != nil {
		return err
	}
	if err := m.current(ctx); err != nil {
		return err
	}
	leaving := func(s *ledger.Suppression) bool { return s.List == ledger.Leaving }
	return m.eachPage(leaversBatch, leaving, func(page []ledger.Suppression) error {
		gone, done := ledger.Suppress{Signed: m.by("")}, &ledger.Unsuppress{Signed: m.by("")}
		for _, s := range page {
			done.Remove = append(done.Remove, s.Suppressed)
			s.List = ledger.Unsubscribe
			gone.Add = append(gone.Add, s)
		}
		if _, err := m.suppressAll(ctx, gone); err != nil {
			return err
		}
		_, err := m.command(ctx, done)
		return err
	})
}
