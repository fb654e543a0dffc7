package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// mustServe starts a node that is alone, with settings.
func mustServe(t *testing.T, yaml string) (*Node, *member) {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "settings.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := DecodeConfig(filepath.Join(dir, "node.yaml"), []byte("node: {name: n1, data: data}\nsettings: settings.yaml\n"+
		"smtp: {listeners: [{address: '127.0.0.1:0'}]}\nhttp: {address: '127.0.0.1:0'}\nkeys: {unseal: [{file: "+key+"}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(t.Context(), cfg, Options{Version: "test", Log: slog.New(slog.DiscardHandler), Code: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 9*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	m, err := n.agree()
	if err != nil {
		t.Fatal(err)
	}
	return n, m
}

// TestReleaseOfWhatChanged: who was put on a list anew since the look stays there and is not told as released; where
// nothing can be told, nobody leaves a list (requirements R102, B5).
func TestReleaseOfWhatChanged(t *testing.T) {
	n, m := mustServe(t, "tenants: [{name: shop, compositions: [{name: main}]}]\n")
	n.releases.mu.Lock() // the node's own looks wait
	defer n.releases.mu.Unlock()
	put := func(address mail.Address, lasts time.Duration) {
		t.Helper()
		now := n.clock.Now()
		if _, err := (suppressionService{n}).Import(t.Context(), []service.Suppression{{Place: service.Place{List: service.BlockList, Tenant: "shop"},
			Address: address, Since: now, Expires: now.Add(lasts), Author: "test"}}); err != nil {
			t.Fatal(err)
		}
	}
	look := func() (page []ledger.Suppression) {
		t.Helper()
		page, _, err := m.book.Suppressions(nil, releaseBatch, func(*ledger.Suppression) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	told := func() (out []mail.Address) {
		t.Helper()
		if err := (logService{n}).Search(t.Context(), service.EventQuery{Tenant: "shop", Kinds: []mail.EventKind{mail.EventReleased}}, func(e mail.Event, _ string) bool {
			out = append(out, e.To)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	put("again@a.test", time.Hour)
	put("over@a.test", time.Hour)
	n.clock.Advance(2 * time.Hour)
	page := look()
	put("again@a.test", time.Hour)

	e := n.engine.Swap(nil)
	if err := m.release(t.Context(), page); err == nil || len(look()) != 2 {
		t.Errorf("without a log: %v, %d stand", err, len(look()))
	}
	n.engine.Store(e)
	if err := m.release(t.Context(), page); err != nil {
		t.Fatal(err)
	}
	if left := look(); len(left) != 1 || left[0].Address != "again@a.test" {
		t.Errorf("on the lists: %+v", left)
	}
	if got := told(); !slices.Equal(got, []mail.Address{"over@a.test"}) {
		t.Errorf("told as released: %q", got)
	}
}

// TestUnread: a node says that it has not read yet what the members agreed on, its users among it.
func TestUnread(t *testing.T) {
	n, _ := mustServe(t, "tenants: [{name: shop, compositions: [{name: main}]}]\n")
	m := n.member.Swap(nil) // as between the keys and the ledger
	before := n.status()
	_, unread := tenantService{n}.Tenant("shop")
	n.member.Store(m)
	if after := n.status(); !before.Unread || after.Unread || before.State != StateUnsealed {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if _, err := (tenantService{n}).Tenant("shop"); err != nil || !errors.Is(unread, service.ErrUnready) {
		t.Errorf("tenant: before %v, after %v", unread, err)
	}
}

// TestSettingsOfTheFileAreUnread: a member that has joined knows nobody until it has read the settings of the members.
func TestSettingsOfTheFileAreUnread(t *testing.T) {
	n := &Node{}
	n.member.Store(&member{node: n})
	if err := n.book.load("", nil); err != nil {
		t.Fatal(err)
	}
	file := n.unread()
	if err := n.book.useAgreed(settings.Default(), nil, 7, 1); err != nil {
		t.Fatal(err)
	}
	if !file || n.unread() {
		t.Errorf("unread with the file's settings: %v, with the members': %v", file, n.unread())
	}
}

// TestFirstRunIsMadeUpFor: the first run of a delivery stop is missed by nobody's absence, and until it has run nobody is
// told that it did (requirement R101).
func TestFirstRunIsMadeUpFor(t *testing.T) {
	n, m := mustServe(t, "tenants: [{name: shop, compositions: [{name: main, delivery_stop: {run_at: '03:00', reasons: {2: 1}}}]}]\n")
	at := func(hour int) time.Time { return time.Date(2026, 3, 2, hour, 0, 0, 0, time.Local) }
	id := stopID{"shop", "main"}
	rule := n.book.now.Load().suppression["shop"].stops[0]
	due := func() bool {
		t.Helper()
		due, err := m.dueStops(at(5), at(6)) // the house had no keeper at 03:00
		if err != nil {
			t.Fatal(err)
		}
		return due(id, &rule)
	}
	last := func() time.Time {
		t.Helper()
		list, err := (suppressionService{n}).DeliveryStops(t.Context(), "shop")
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0].LastRun
	}
	if due() {
		t.Error("a stop that nobody has seen is due")
	}
	for _, hour := range []int{2, 4} { // the second look is no first
		if err := m.seeStops(t.Context(), at(hour)); err != nil {
			t.Fatal(err)
		}
	}
	if !due() || !last().IsZero() {
		t.Errorf("seen at 02:00: due %t, last run %v", due(), last())
	}
	if err := m.noteStops(t.Context(), []stopRun{{stopID: id, At: at(6), Stopped: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := m.noteStops(t.Context(), []stopRun{{stopID: id, At: at(2), Never: true}}); err != nil {
		t.Fatal(err)
	}
	if due() || !last().Equal(at(6)) {
		t.Errorf("after the run: due %t, last run %v", due(), last())
	}
}

// TestListOfAPeriod: the lists are searched by when an address got there (requirement R102).
func TestListOfAPeriod(t *testing.T) {
	n, _ := mustServe(t, "tenants: [{name: shop, compositions: [{name: main}]}]\n")
	start := n.clock.Now().Truncate(time.Second)
	for i, address := range []mail.Address{"first@a.test", "second@a.test", "third@a.test"} {
		if _, err := (suppressionService{n}).Import(t.Context(), []service.Suppression{{Place: service.Place{List: service.BlockList, Tenant: "shop"},
			Address: address, Since: start.Add(time.Duration(i) * time.Minute)}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name         string
		since, until time.Time
		want         string
	}{
		{"all", time.Time{}, time.Time{}, "first@a.test second@a.test third@a.test"},
		{"since", start.Add(time.Minute), time.Time{}, "second@a.test third@a.test"},
		{"until", time.Time{}, start.Add(time.Minute), "first@a.test"},
		{"both", start.Add(time.Second), start.Add(2 * time.Minute), "second@a.test"},
	} {
		var got []string
		err := (suppressionService{n}).List(t.Context(), service.SuppressionQuery{Tenant: "shop", Since: row.since, Until: row.until},
			func(s service.Suppression, _ string) bool { got = append(got, string(s.Address)); return true })
		if slices.Sort(got); err != nil || strings.Join(got, " ") != row.want {
			t.Errorf("%s: %q %v, want %q", row.name, got, err, row.want)
		}
	}
}
