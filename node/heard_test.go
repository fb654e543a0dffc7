package node

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// TestSteeredClockDoesNotAgeMembers: how long a member is missing goes by the machine's clock, whether this node heard of it or the
// book says so; whatever is decided by that does not depend on the product's.
func TestSteeredClockDoesNotAgeMembers(t *testing.T) {
	n, m := mustServe(t, "tenants: [{name: shop, compositions: [{name: main}]}]\n")
	admit := func(name string, ago time.Duration) {
		t.Helper()
		if _, err := m.command(t.Context(), &ledger.Admit{Signed: ledger.Signed{At: clock.Wall().Add(-ago)}, Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	admit("n2", time.Hour)
	admit("n3", 9*time.Minute)
	admit("n4", time.Hour)
	m.heard.Store("n2", clock.Wall().Add(-time.Minute))
	for _, steer := range []time.Duration{0, 48 * time.Hour, -96 * time.Hour} {
		n.clock.Advance(steer)
		for name, gone := range map[string]time.Duration{"n2": time.Minute, "n3": 9 * time.Minute, "n4": time.Hour} {
			age := clock.Since(m.heardOf(name))
			facts, _ := m.facts(name, "")
			for what, got := range map[string]time.Duration{"heard": age, "facts": facts.Renewed} {
				if got < gone || got > gone+30*time.Second {
					t.Errorf("clock steered by %v, %s: %s is missing for %v, want %v", steer, what, name, got, gone)
				}
			}
			if k := (&clientKeys{member: m}); k.gone(name) != (gone > keyPatience) {
				t.Errorf("clock steered by %v: %s is waited for: %t", steer, name, !k.gone(name))
			}
		}
	}
}
