package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/policy/suppression"
)

// The delivery stop (requirement R101) runs on one member, the one that keeps house. When it ran last stands in the
// members' book, so whoever keeps house next goes on from there: a run that nobody was there for is made up for.

// metaStops is where the members keep when delivery stops ran last.
const metaStops = "delivery stop runs"

// stopRule is the delivery stop of a composition.
type stopRule struct {
	composition string
	runAt       time.Duration // since midnight
	immediate   bool
	release     int // days, 0 = never
	reasons     map[int]int
}

// stopID names the delivery stop of a composition.
type stopID struct{ Tenant, Composition string }

// stopRun is a run that came to its end.
type stopRun struct {
	stopID
	At      time.Time // when it began; of a stop that never ran, when it was first seen
	Stopped int       // addresses that it put on the block list
	Never   bool      `json:",omitempty"` // it never ran
}

// stop returns the block that the delivery stop puts an address under for what was counted, if it does.
func (n *Node) stop(counted *ledger.Suppression, rule *stopRule) (ledger.Suppression, bool) {
	errors := suppression.ParseErrors(counted.Reason)
	status, ok := errors.Stopped(rule.reasons)
	if !ok {
		return ledger.Suppression{}, false
	}
	s := ledger.Suppression{Suppressed: ledger.Suppressed{Scope: ledger.Scope{List: ledger.Blocklist, Tenant: counted.Tenant},
		Address: counted.Address}, Reason: suppression.StopReason(status, errors[status]), Evidence: counted.Evidence, Since: n.clock.Now()}
	if rule.release > 0 {
		s.Expires = s.Since.AddDate(0, 0, rule.release)
	}
	return s, true
}

// stopRuns returns the last run of each delivery stop, and the version of the list.
func (m *member) stopRuns() (runs []stopRun, version uint64, err error) {
	v, ok := m.book.State().Meta(metaStops)
	if !ok {
		return nil, 0, nil
	}
	if err := json.Unmarshal(v.Data, &runs); err != nil {
		return nil, 0, fmt.Errorf("node: read runs of the delivery stop: %w", err)
	}
	return runs, v.Version, nil
}

// noteStops keeps that delivery stops ran, and forgets those of compositions that are no more.
func (m *member) noteStops(ctx context.Context, done []stopRun) error {
	for range noteTries {
		runs, version, err := m.stopRuns()
		if err != nil {
			return err
		}
		rules := m.node.book.now.Load().suppression
		fresh := slices.DeleteFunc(slices.Clone(done), func(d stopRun) bool { // what never ran takes the place of nothing
			return d.Never && slices.ContainsFunc(runs, func(r stopRun) bool { return r.stopID == d.stopID })
		})
		if len(fresh) == 0 {
			return nil
		}
		runs = slices.DeleteFunc(runs, func(r stopRun) bool {
			again := func(d stopRun) bool { return d.stopID == r.stopID }
			of := func(s stopRule) bool { return s.composition == r.Composition }
			return slices.ContainsFunc(fresh, again) || !slices.ContainsFunc(rules[r.Tenant].stops, of)
		})
		raw, err := json.Marshal(append(runs, fresh...))
		if err != nil {
			return fmt.Errorf("node: encode runs of the delivery stop: %w", err)
		}
		_, err = m.command(ctx, &ledger.PutMeta{Signed: m.stamp(), Name: metaStops, Base: version, Data: raw})
		if !errors.Is(err, service.ErrConflict) { // somebody else's came first
			return err
		}
	}
	return fmt.Errorf("%w: too many runs of the delivery stop at once", service.ErrConflict)
}

// seeStops notes stops that nobody has seen before, as seen at a moment: their first run is made up for, too.
func (m *member) seeStops(ctx context.Context, at time.Time) error {
	runs, _, err := m.stopRuns()
	if err != nil {
		return err
	}
	var seen []stopRun
	for tenant, rules := range m.node.book.now.Load().suppression {
		for i := range rules.stops {
			id := stopID{tenant, rules.stops[i].composition}
			if !slices.ContainsFunc(runs, func(r stopRun) bool { return r.stopID == id }) {
				seen = append(seen, stopRun{stopID: id, At: at, Never: true})
			}
		}
	}
	if len(seen) == 0 {
		return nil
	}
	return m.noteStops(ctx, seen)
}

// dueStops tells which delivery stops are to run at now; a stop that nobody has seen counts from before on.
func (m *member) dueStops(before, now time.Time) (func(id stopID, r *stopRule) bool, error) {
	runs, _, err := m.stopRuns()
	if err != nil {
		return nil, err
	}
	last := map[stopID]time.Time{}
	for _, r := range runs {
		last[r.stopID] = r.At
	}
	return func(id stopID, r *stopRule) bool {
		since, ran := last[id]
		if !ran || since.After(now) { // the clock was set back
			since = before
		}
		return !r.immediate && runsBetween(r.runAt, since, now)
	}, nil
}

// stopDeliveries is the delivery stop's run for the compositions that due tells: whoever has errors enough gets on the
// block list. What was counted is spent by it, so that an address that is released begins anew.
func (n *Node) stopDeliveries(ctx context.Context, due func(stopID, *stopRule) bool) error {
	m, err := n.agree()
	if err != nil {
		return err
	}
	now := n.clock.Now()
	var done []stopRun
	for tenant, rules := range n.book.now.Load().suppression {
		var stops []stopRule
		var ran []stopRun
		for i := range rules.stops {
			if id := (stopID{tenant, rules.stops[i].composition}); due(id, &rules.stops[i]) {
				stops, ran = append(stops, rules.stops[i]), append(ran, stopRun{stopID: id, At: now})
			}
		}
		if len(stops) == 0 {
			continue
		}
		if err := n.stopTenant(ctx, m, tenant, stops, ran); err != nil {
			return err
		}
		done = append(done, ran...)
	}
	if len(done) == 0 {
		return nil
	}
	return m.noteStops(ctx, done)
}

// stopTenant looks through everything counted for one tenant, and counts in ran what each of its stops took.
func (n *Node) stopTenant(ctx context.Context, m *member, tenant string, stops []stopRule, ran []stopRun) error {
	of := func(s *ledger.Suppression) bool { return s.List == ledger.Errors && s.Tenant == tenant }
	return m.eachPage(learnBatch, of, func(page []ledger.Suppression) error {
		block := ledger.Suppress{Signed: m.by("")}
		var spent []ledger.Suppressed
		for i := range page {
			for j := range stops {
				if s, ok := n.stop(&page[i], &stops[j]); ok {
					block.Add = append(block.Add, s)
					spent = append(spent, page[i].Suppressed)
					ran[j].Stopped++
					break
				}
			}
		}
		return m.addAndSpend(ctx, block, spent)
	})
}

// addAndSpend puts addresses on lists and takes away what was counted of those that a stop took: one that is released begins
// anew (R101).
func (m *member) addAndSpend(ctx context.Context, add ledger.Suppress, spent []ledger.Suppressed) error {
	err := m.add(ctx, add)
	if err == nil && len(spent) > 0 {
		_, err = m.command(ctx, &ledger.Unsuppress{Signed: m.by(""), Remove: spent})
	}
	return err
}

// runsBetween tells whether a time of day lies in (before, now], by the clock of the process's zone.
func runsBetween(at time.Duration, before, now time.Time) bool {
	for day := before.Local(); ; day = day.AddDate(0, 0, 1) {
		y, mo, d := day.Date()
		run := time.Date(y, mo, d, 0, 0, 0, 0, time.Local).Add(at)
		if run.After(now) {
			return false
		}
		if run.After(before) {
			return true
		}
	}
}

// DeliveryStops implements service.DeliveryStops.
func (n suppressionService) DeliveryStops(_ context.Context, tenant string) ([]service.DeliveryStop, error) {
	m, err := n.agree()
	if err != nil {
		return nil, err
	}
	runs, _, err := m.stopRuns()
	if err != nil {
		return nil, err
	}
	out := []service.DeliveryStop{}
	for _, k := range n.book.now.Load().index.Members() {
		if k.Composition.DeliveryStop == nil || tenant != "" && tenant != k.Tenant.Name {
			continue
		}
		out = append(out, deliveryStop(stopID{k.Tenant.Name, k.Composition.Name}, k.Composition.DeliveryStop, runs))
	}
	return out, nil
}

func deliveryStop(id stopID, s *settings.DeliveryStop, runs []stopRun) service.DeliveryStop {
	out := service.DeliveryStop{Tenant: id.Tenant, Composition: id.Composition, RunAt: s.RunAt,
		ReleaseAfterDays: s.ReleaseAfterDays, ReleaseDisabled: s.ReleaseDisabled, Reasons: s.Reasons}
	for _, r := range runs {
		if r.stopID == id && !r.Never {
			out.LastRun, out.Stopped = r.At, r.Stopped
		}
	}
	return out
}
