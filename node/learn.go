package node

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/policy/suppression"
	"github.com/ekiden-mta/ekiden/storage/events"
)

// The lists learn from the event log: a member reads its own log from where it stood, and proposes what follows from the
// failures to the members' book. Where the node ends between the book's answer and its own note of how far it has read,
// a failure is met twice; the delivery it came from tells, unless another failure of the address came in between.

const (
	metaFailures = "suppression-cursor"
	learnEvery   = 500 * time.Millisecond
	learnBatch   = 500  // failures of one proposal
	learnNote    = 1000 // blocks without one after which the place is noted all the same
)

// rulesOf derives what a tenant's settings say about its lists.
func rulesOf(t *settings.Tenant) suppressionRules {
	r := suppressionRules{counts: t.Exclusion.Enabled}
	if t.Exclusion.Enabled {
		r.threshold = t.Exclusion.Threshold
	}
	for i := range t.Compositions {
		c := &t.Compositions[i]
		if c.DeliveryStop == nil {
			continue
		}
		r.frees = r.frees || c.DeliveryStop.ReleaseDisabled
		if len(c.DeliveryStop.Reasons) == 0 {
			continue
		}
		at, err := settings.ParseTimeOfDay(c.DeliveryStop.RunAt)
		r.stops = append(r.stops, stopRule{composition: c.Name, runAt: at, immediate: err != nil,
			release: c.DeliveryStop.ReleaseAfterDays, reasons: c.DeliveryStop.Reasons})
		r.counts = true
	}
	r.scopes = scopesOf(t.Name, t.BlackBox, t.Exclusion.Enabled)
	return r
}

// learn keeps the lists up to date with the log until the engine ends.
func (n *Node) learn(ctx context.Context, e *engine) {
	raw, err := e.store.Meta(metaFailures)
	if err != nil {
		n.log.Error("failures are not counted: how far the log was read is not known", "error", err)
		return
	}
	at, _ := events.ParseCursor(string(raw))
	kept := at
	tick := time.NewTicker(learnEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for more := e.store.Events().End().Block >= at.Block; more; {
			at, more, err = n.learnSome(ctx, e, at)
			if err == nil && (more || at.Block-kept.Block >= learnNote) {
				kept, err = at, e.keep(ctx, metaFailures, []byte(at.String()))
			}
			if err != nil {
				if ctx.Err() == nil {
					n.log.Warn("failures are counted later", "error", err)
				}
				break
			}
		}
	}
}

// learnSome takes the next failures of the log into the book and returns where to go on; more tells whether others may
// follow.
func (n *Node) learnSome(ctx context.Context, e *engine, from events.Cursor) (at events.Cursor, more bool, err error) {
	var failures []mail.Event
	at = e.store.Events().End().Next()
	err = e.store.Events().Search(ctx, events.Query{After: from,
		Kinds: []mail.EventKind{mail.EventFailed, mail.EventBounced, mail.EventComplained}},
		func(ev mail.Event, c events.Cursor) bool {
			if suppression.Counts(&ev) || suppression.Complains(&ev) {
				failures = append(failures, ev)
			}
			if more = len(failures) == learnBatch; more || c.Block >= at.Block {
				at = c
			}
			return !more
		})
	if err == nil && len(failures) > 0 {
		if err = n.judge(ctx, failures); err == nil {
			err = e.keep(ctx, metaFailures, []byte(at.String()))
		}
	}
	if err != nil {
		return from, false, err
	}
	return at, more, nil
}

// judge proposes what follows from failures and complaints: what the black box learns, what is counted, who is stopped at
// once. Where the rule about the receiver's answer says when to try the address again, the black box and an immediate stop
// release it then.
func (n *Node) judge(ctx context.Context, failures []mail.Event) error {
	m, err := n.agree()
	if err != nil {
		return err
	}
	now := n.book.now.Load()
	add, spent := map[ledger.Suppressed]ledger.Suppression{}, map[ledger.Suppressed]bool{}
	for i := range failures {
		ev := &failures[i]
		address := ev.To.Fold()
		evidence := suppression.Evidence(ev)
		if suppression.Complains(ev) {
			id := ledger.Suppressed{Scope: ledger.Scope{List: ledger.Blocklist, Tenant: ev.Tenant}, Address: address}
			add[id] = ledger.Suppression{Suppressed: id, Reason: suppression.Complaint, Evidence: evidence, Since: ev.At}
			continue
		}
		release := now.release(ev)
		if suppression.Learns(ev) {
			id := ledger.Suppressed{Scope: ledger.Scope{List: ledger.Blackbox}, Address: address}
			if known, err := m.known(id, n.clock.Now()); err != nil {
				return err
			} else if known == nil {
				add[id] = ledger.Suppression{Suppressed: id, Reason: "unknown user", Evidence: evidence, Since: ev.At, Expires: release}
			}
		}
		rules := now.suppression[ev.Tenant]
		if !rules.counts {
			continue
		}
		id := ledger.Suppressed{Scope: ledger.Scope{List: ledger.Errors, Tenant: ev.Tenant}, Address: address}
		entry, again := add[id]
		if !again {
			known, err := m.known(id, n.clock.Now())
			if err != nil {
				return err
			}
			if known != nil {
				entry = *known
			}
		}
		if entry.Evidence == evidence {
			continue // counted before the node ended
		}
		errors := suppression.ParseErrors(entry.Reason)
		errors.Add(ev.Status)
		if entry.Since.IsZero() {
			entry.Since = ev.At
		}
		entry.Suppressed, entry.Reason, entry.Evidence = id, errors.String(), evidence
		add[id] = entry
		for _, stop := range rules.stops {
			if stopped, ok := n.stop(&entry, &stop); ok && stop.immediate {
				if stopped.Expires.IsZero() {
					stopped.Expires = release
				}
				add[stopped.Suppressed] = stopped
				spent[id] = true
			}
		}
	}
	cmd := ledger.Suppress{Signed: m.by("")} // no operator's doing: not in the audit trail
	for _, s := range add {
		cmd.Add = append(cmd.Add, s)
	}
	return m.addAndSpend(ctx, cmd, slices.Collect(maps.Keys(spent)))
}

// release is when the rule about an answer lets its address be tried again; zero = never by itself.
func (e *edition) release(ev *mail.Event) time.Time {
	if ev.Reply.IsZero() {
		return time.Time{}
	}
	o := e.replies.Classify(ev.Receiver, mail.Outcome{Result: mail.Failed, Stage: ev.Stage, Reply: ev.Reply}, ev.To)
	if o.Advice == nil || o.Advice.Release <= 0 {
		return time.Time{}
	}
	return ev.At.Add(o.Advice.Release)
}

// known returns an entry that counts at now, nil where there is none.
func (m *member) known(id ledger.Suppressed, now time.Time) (*ledger.Suppression, error) {
	s, hit, err := m.book.Suppressed(id.Address, now, id.Scope)
	if err != nil || !hit {
		return nil, err
	}
	return &s, nil
}

// add proposes suppressions, in pieces.
func (m *member) add(ctx context.Context, cmd ledger.Suppress) error {
	if len(cmd.Add) == 0 {
		return nil
	}
	blocked, err := m.newlyBlocked(cmd.Add)
	if err != nil {
		return err
	}
	return m.told(ctx, mail.EventBlocked, blocked, func() error {
		_, err := m.suppressAll(ctx, cmd)
		return err
	})
}
