package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/suppression"
)

// Figures of releases.
const (
	releaseEvery = time.Hour
	releaseBatch = 500 // entries of one proposal: leases are renewed between two
)

// releasePatience bounds one look through the lists.
const releasePatience = 10 * time.Minute

// keepsHouse tells whether this member does what one does for all: the leader; where a witness leads, which has no log to
// write events to, the first by name of the other members that gossip sees.
func (m *member) keepsHouse() bool {
	if m.agreed.Alone() || m.agreed.Leads() {
		return true
	}
	alive, leader := m.alive(), m.agreed.Leader()
	if !slices.ContainsFunc(alive, func(a cluster.Live) bool { return a.Name == leader && a.Role == witnessRole }) {
		return false
	}
	return !slices.ContainsFunc(alive, func(a cluster.Live) bool { return a.Role != witnessRole && a.Name < m.node.cfg.Node.Name })
}

// releases remembers when the lists were looked through for what is over.
type releases struct {
	mu      sync.Mutex // held while somebody looks
	at      time.Time
	edition *edition
}

// run looks where an hour is over, or the settings have changed and somebody's say that what was disabled is released.
func (x *releases) run(n *Node) {
	if !x.mu.TryLock() {
		return
	}
	defer x.mu.Unlock()
	now, e := n.clock.Now(), n.book.now.Load()
	frees := func(r suppressionRules) bool { return r.frees }
	changed := e != x.edition && slices.ContainsFunc(slices.Collect(maps.Values(e.suppression)), frees)
	if !changed && now.Sub(x.at) < releaseEvery && !now.Before(x.at) {
		return
	}
	ctx, cancel := context.WithTimeout(n.life, releasePatience)
	defer cancel()
	if err := n.releaseOver(ctx); err != nil && n.life.Err() == nil {
		n.log.Warn("what is over on the lists is released later", "error", err)
		return
	}
	x.at, x.edition = now, e
}

// releaseOver takes off the lists what has expired, and, where a tenant's settings say so, what its delivery stop took for
// a reason that is enabled no more (requirement R101). What leaves a block list is an event, like a release by hand.
func (n *Node) releaseOver(ctx context.Context) error {
	m, err := n.agree()
	if err != nil {
		return err
	}
	now, rules := n.clock.Now(), n.book.now.Load().suppression
	over := func(s *ledger.Suppression) bool {
		return !s.Live(now) || s.List == ledger.Blocklist && s.Tenant != "" && rules[s.Tenant].disabled(s.Reason)
	}
	return m.eachPage(releaseBatch, over, func(page []ledger.Suppression) error { return m.release(ctx, page) })
}

// eachPage looks through all lists for what is meant, and calls do with some at a time, size at most. do may take them off
// their lists.
func (m *member) eachPage(size int, meant func(*ledger.Suppression) bool, do func([]ledger.Suppression) error) error {
	var cursor []byte
	for {
		page, next, err := m.book.Suppressions(cursor, size, meant)
		if err != nil {
			return fmt.Errorf("node: look through the lists: %w", err)
		}
		if len(page) > 0 {
			if err := do(page); err != nil {
				return err
			}
		}
		if cursor = next; next == nil {
			return nil
		}
	}
}

// disabled tells whether an entry's reason is one of the delivery stop's that the tenant has enabled no more, and wants to
// be released.
func (r suppressionRules) disabled(reason string) bool {
	status, _ := suppression.ParseStopReason(reason)
	if !r.frees || status == mail.StatusNone {
		return false
	}
	for i := range r.stops {
		if r.stops[i].reasons[int(status)] > 0 {
			return false
		}
	}
	return true
}

// release tells of entries that they are off their lists, then proposes to take them off, unless they were put there anew
// since they were read. In this order a crash, or a proposal that fails, has them told again, and no other way.
func (m *member) release(ctx context.Context, page []ledger.Suppression) error {
	if len(page) == 0 {
		return nil
	}
	e, err := m.node.running()
	if err != nil {
		return err
	}
	if err := e.store.Err(); err != nil {
		return fmt.Errorf("node: release: %w", err)
	}
	if err := m.current(ctx); err != nil { // without a majority nothing is told
		return err
	}
	leaving, err := m.unchanged(page)
	if err != nil {
		return err
	}
	cmd := &ledger.Release{Signed: m.stamp()}
	var told []ledger.Suppression
	var ids []ledger.Suppressed
	for i := range leaving {
		cmd.Remove = append(cmd.Remove, ledger.Found{Suppressed: leaving[i].Suppressed, Since: leaving[i].Since})
		if leaving[i].List == ledger.Blocklist && leaving[i].Tenant != "" {
			told, ids = append(told, leaving[i]), append(ids, leaving[i].Suppressed)
		}
	}
	if len(leaving) == 0 {
		return nil
	}
	if err := m.node.noteOfTenants(mail.EventReleased, told); err != nil {
		return err
	}
	r, err := m.command(ctx, cmd)
	if err != nil {
		return err
	}
	m.node.log.Info("suppressions are over", "entries", r.Removed)
	if int(r.Removed) == len(cmd.Remove) {
		return nil
	}
	again, err := m.blocked(ids) // put there anew in between
	if err != nil {
		return err
	}
	return m.node.noteOfTenants(mail.EventBlocked, again)
}

// noteOfTenants is noteBlocks for entries of several tenants.
func (n *Node) noteOfTenants(kind mail.EventKind, list []ledger.Suppression) error {
	of := map[string][]ledger.Suppression{}
	for i := range list {
		of[list[i].Tenant] = append(of[list[i].Tenant], list[i])
	}
	for _, list := range of {
		if err := n.noteBlocks(kind, list); err != nil {
			return err
		}
	}
	return nil
}

// unchanged returns those entries that still stand as they were read: who was put on a list anew is not released.
func (m *member) unchanged(page []ledger.Suppression) (out []ledger.Suppression, err error) {
	for i := range page {
		known, err := m.book.SuppressionsOf(page[i].Address)
		if err != nil {
			return nil, fmt.Errorf("node: look an address up: %w", err)
		}
		if slices.ContainsFunc(known, func(s ledger.Suppression) bool {
			return s.Suppressed == page[i].Suppressed && s.Since.Equal(page[i].Since)
		}) {
			out = append(out, page[i])
		}
	}
	return out, nil
}
