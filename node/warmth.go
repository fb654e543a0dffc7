package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
	"github.com/ekiden-mta/ekiden/storage/events"
)

// Where a source stands in its plan with each receiver is an object of the members' book as well, so that a member that is
// given its address, or lost its disk, goes on from there. What it sent is not part of that: only who sends knows it.

// recount adds to all what was sent after it was written, by the log of deliveries, which is on disk with every outcome. So
// after a kill a cap or a plan is exceeded by what had no outcome yet: a message for each open connection, and the outcomes
// of the last commit. What had been granted, and was not sent when it was written, counts twice.
func (b *notebook) recount(n *Node, all map[netip.Addr]map[string]shaping.Memory) error {
	raw, err := b.engine.store.Meta(metaCounted)
	if err != nil {
		return fmt.Errorf("node: read how far the log was counted: %w", err)
	}
	if raw == nil { // nothing was ever written: from here on
		return b.engine.keep(b.engine.life, metaCounted, []byte(b.engine.store.Events().End().Next().String()))
	}
	from, err := events.ParseCursor(string(raw))
	plans := n.plans()
	if err != nil || len(plans) == 0 && !n.book.now.Load().rules.Capped() {
		return nil
	}
	counted := 0
	err = b.engine.store.Events().Search(b.engine.life, events.Query{After: from,
		Kinds: []mail.EventKind{mail.EventDelivered, mail.EventDeferred, mail.EventFailed}},
		func(ev mail.Event, _ events.Cursor) bool {
			if ev.Stage < mail.StageMail || ev.Receiver == "" {
				return true
			}
			plan := plans[ev.Source]
			if strings.HasPrefix(ev.Receiver, "route:") {
				plan = nil
			}
			if all[ev.Source] == nil {
				all[ev.Source] = map[string]shaping.Memory{}
			}
			y := all[ev.Source][ev.Receiver]
			y.Spend(ev.At, plan)
			all[ev.Source][strings.Clone(ev.Receiver)] = y // not the memory of a whole record
			counted++
			return true
		})
	if err != nil {
		return fmt.Errorf("node: count what was sent before the end: %w", err)
	}
	if counted > 0 {
		n.log.Info("what was sent before the node ended counts for caps and warm-up", "messages", counted)
	}
	return nil
}

// adopt takes from the book where sources stand that this member knows less of.
func (b *notebook) adopt(m *member, all map[netip.Addr]map[string]shaping.Memory) {
	mine := map[string]netip.Addr{}
	for _, a := range m.node.allSources() {
		mine[sourceName(a)] = a
	}
	for _, o := range m.book.State().Objects(ledger.KindWarmth) {
		source, _, _ := strings.Cut(o.Name, "/")
		a, ok := mine[source]
		var places []lesson
		if !ok || !a.IsValid() || json.Unmarshal(o.Data, &places) != nil {
			continue // of another member, or of another release
		}
		b.told[o.Name] = o.Data
		if all[a] == nil {
			all[a] = map[string]shaping.Memory{}
		}
		for _, p := range places {
			y := all[a][p.Receiver]
			y.Adopt(p.Memory)
			all[a][p.Receiver] = y
		}
	}
}

// tell puts into the book where sources stand in their plans, where that has changed: once a day for each receiver, mostly.
// The source that the system chooses has no name to be known by elsewhere.
func (b *notebook) tell(ctx context.Context, n *Node) {
	m := n.member.Load()
	if m == nil || b.engine.lease.Load() == nil {
		return
	}
	plans := n.plans()
	for a, all := range b.engine.actors.Sources().Memories() {
		if plans[a] == nil || !a.IsValid() {
			continue
		}
		places := map[string]shaping.Memory{}
		for receiver, y := range all {
			if place, ok := y.Place(); ok {
				places[receiver] = place
			}
		}
		parts, err := split(places)
		if err != nil {
			n.log.Error("where a source stands in its plan is not told", "source", a, "error", err)
			continue
		}
		b.put(ctx, m, a, parts)
	}
}

// put writes the parts of one source that have changed, and drops those that are no more.
func (b *notebook) put(ctx context.Context, m *member, a netip.Addr, parts [][]byte) {
	name := func(i int) string { return sourceName(a) + "/" + strconv.Itoa(i) }
	for i, raw := range slices.Concat(parts, [][]byte{nil}) {
		if known, there := b.told[name(i)]; bytes.Equal(known, raw) && (raw != nil || !there) {
			continue
		}
		change := ledger.ObjectChange{Kind: ledger.KindWarmth, Name: name(i), Base: ledger.Any, Data: raw, Delete: raw == nil}
		if !m.agrees(ctx, &ledger.PutObjects{Changes: []ledger.ObjectChange{change}}) {
			return
		}
		if b.told[name(i)] = raw; raw == nil {
			delete(b.told, name(i))
		}
	}
}
