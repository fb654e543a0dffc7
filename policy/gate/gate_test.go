package gate

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// TestMergeIsOneOrder: whatever order members hear of gates in, and however often, they come to the same.
func TestMergeIsOneOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var gates []Gate
		for range rapid.IntRange(1, 8).Draw(t, "n") {
			gates = append(gates, Gate{Group: "g", Version: rapid.Uint64Range(1, 4).Draw(t, "version"),
				Closed: rapid.Bool().Draw(t, "closed"), RefuseIntake: rapid.Bool().Draw(t, "refuse"),
				HoldExpiry: rapid.Bool().Draw(t, "hold"), Author: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "author"),
				Discard: noon.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "discard"))),
				Since:   noon.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "since")))})
		}
		var one, other Table
		for _, g := range gates {
			one.Merge(g)
		}
		for _, i := range rapid.Permutation(index(len(gates))).Draw(t, "order") {
			other.Merge(gates[i])
			other.Merge(gates[rapid.IntRange(0, i).Draw(t, "again")])
		}
		a, _ := one.Get(Key{"", "g"})
		b, _ := other.Get(Key{"", "g"})
		if a != b {
			t.Fatalf("%+v in one order, %+v in another", a, b)
		}
		for _, g := range gates {
			if g.Discard.After(a.Discard) || one.Discards("t", "g", noon) != noon.Before(a.Discard) {
				t.Fatalf("discards what was accepted before %v, lost %v", a.Discard, g.Discard)
			}
			if g.Version > a.Version || g.Version == a.Version && g.Closed && !a.Closed {
				t.Fatalf("%+v lost to %+v", g, a)
			}
		}
		if one.Closed("t", "g") != a.Closed {
			t.Fatalf("closed %v, want %v", one.Closed("t", "g"), a.Closed)
		}
	})
}

func index(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestLookUp(t *testing.T) {
	var table Table
	table.Merge(Gate{Group: "all", Closed: true, Version: 1, RefuseIntake: true})
	table.Merge(Gate{Tenant: "shop", Group: "own", Closed: true, Version: 1})
	table.Merge(Gate{Tenant: "shop", Group: "all", Version: 9}) // open: the one of every tenant binds all the same
	table.Merge(Gate{Group: "open", Version: 3})
	tests := []struct {
		name, tenant, group string
		closed, refuses     bool
	}{
		{"every tenant's", "bank", "all", true, true},
		{"every tenant's, own is open", "shop", "all", true, true},
		{"own", "shop", "own", true, false},
		{"another tenant's", "bank", "own", false, false},
		{"open", "shop", "open", false, false},
		{"unknown", "shop", "x", false, false},
		{"no group", "shop", "", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := table.Closed(tt.tenant, tt.group); got != tt.closed {
				t.Errorf("closed: %v", got)
			}
			if g, got := table.Find(tt.tenant, tt.group); got != tt.closed || got && g.Group != tt.group {
				t.Errorf("found %+v, %v", g, got)
			}
			if got := table.Refuses(tt.tenant, tt.group); got != tt.refuses {
				t.Errorf("refuses: %v", got)
			}
		})
	}
	if list := table.List(); len(list) != 4 || list[0].Tenant != "" || list[1].Tenant != "shop" {
		t.Errorf("list: %+v", list)
	}
	var none *Table
	if none.Closed("a", "b") || none.Refuses("a", "b") || none.Ends("a", "b", noon, noon) != noon {
		t.Error("a table that is not there holds something back")
	}
}

func TestVersionsRise(t *testing.T) {
	var table Table
	k := Key{"", "g"}
	v := table.Next(k, noon)
	if v != uint64(noon.UnixMicro()) {
		t.Errorf("first version %d", v)
	}
	g, _ := table.Get(k)
	table.Merge(g.Stop(Order{}, noon, v))
	if again := table.Next(k, noon.Add(-time.Hour)); again != v+1 { // the clock was set back
		t.Errorf("next version %d after %d", again, v)
	}
}

// TestHeldLifetimes: the time a group was held is added to the lifetime of what was accepted before it was resumed.
func TestHeldLifetimes(t *testing.T) {
	var table Table
	ends := func(accepted time.Duration) time.Duration {
		e := table.Ends("t", "g", noon.Add(accepted), noon.Add(accepted+30*time.Minute))
		if e.IsZero() {
			return -1
		}
		return e.Sub(noon)
	}
	g := Gate{Group: "g"}
	check := func(step string, early, late time.Duration) {
		t.Helper()
		table.Merge(g)
		if a, b := ends(0), ends(2*time.Hour); a != early || b != late {
			t.Errorf("%s: %v and %v, want %v and %v", step, a, b, early, late)
		}
	}
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	g = g.Stop(Order{}, at(10*time.Minute), 1)
	check("closed, expiry runs", 30*time.Minute, 150*time.Minute)
	g = g.Stop(Order{HoldExpiry: true}, at(20*time.Minute), 2)
	if g.Since != at(10*time.Minute) {
		t.Errorf("closed since %v", g.Since)
	}
	check("closed, expiry held", -1, -1)
	g = g.Resume("me", at(70*time.Minute), at(70*time.Minute), 3)
	check("resumed", 90*time.Minute, 150*time.Minute)
	g = g.Stop(Order{HoldExpiry: true}, at(80*time.Minute), 4)
	g = g.Succeed(Gate{Group: "g", Version: 5, Since: at(90 * time.Minute)}, at(90*time.Minute)) // heard from elsewhere
	if heard := g.Succeed(Gate{Group: "g", Version: 9, Since: at(99 * time.Minute)}, at(99*time.Minute)); heard.Paused != g.Paused {
		t.Errorf("what was known of an open gate is forgotten: %+v", heard)
	}
	check("held twice", 100*time.Minute, 150*time.Minute)
	g = g.Stop(Order{HoldExpiry: true}, at(1000*time.Hour), 6)
	g = g.Resume("me", at(1001*time.Hour), at(1001*time.Hour), 7)
	check("long after", 90*time.Minute, 210*time.Minute)
}
