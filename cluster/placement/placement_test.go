package placement

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestOrder(t *testing.T) {
	members := []string{"n1", "n2", "n3", "n4", "n5"}
	owned := map[string]int{}
	moved := 0
	for i := range 10_000 {
		key := fmt.Sprintf("receiver-%d", i)
		order := Order(members, key)
		if back := slices.Clone(members); !slices.Equal(order, Order(reversed(back), key)) {
			t.Fatal("the order depends on how the members are listed")
		}
		owned[order[0]]++
		left := slices.DeleteFunc(slices.Clone(members), func(m string) bool { return m == "n3" })
		if now := Owner(left, key); now != order[0] {
			moved++
			if order[0] != "n3" || now != order[1] {
				t.Fatalf("%s went from %s to %s when n3 left", key, order[0], now)
			}
		}
	}
	for m, n := range owned {
		if n < 1800 || n > 2200 {
			t.Errorf("%s owns %d of 10000", m, n)
		}
	}
	if moved != owned["n3"] {
		t.Errorf("%d keys moved, n3 owned %d", moved, owned["n3"])
	}
	if Owner(nil, "x") != "" {
		t.Error("nobody owns something")
	}
}

func reversed(s []string) []string { slices.Reverse(s); return s }

// TestNeverExceeded lets members ask, forget, be cut off and change owners, at random: what all of them may use at once,
// each by its own clock, never exceeds the limit.
func TestNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, 20).Draw(t, "total")
		members := []string{"a", "b", "c", "d", "e"}
		now := time.Duration(0)
		drift := map[string]float64{} // of the members' clocks, at most 0.1 %
		for _, m := range members {
			drift[m] = 1 + float64(rapid.IntRange(-10, 10).Draw(t, "drift"))/10_000
		}
		local := func(m string) time.Duration { return time.Duration(float64(now) * drift[m]) }
		owner := "a"
		pot := Begin(total)
		purses := map[string]*Purse{}
		for _, m := range members {
			purses[m] = &Purse{}
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0: // another owner, who knows nothing
				owner = rapid.SampledFrom(members).Draw(t, "owner")
				pot = NewPot(total, local(owner))
			case 1, 2:
				now += time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond
			default:
				m := rapid.SampledFrom(members).Draw(t, "member")
				asked := local(m)
				now += time.Duration(rapid.IntRange(0, 50).Draw(t, "way")) * time.Millisecond
				wants := rapid.IntRange(0, 25).Draw(t, "wants")
				units := pot.Ask(local(owner), m, purses[m].Offer(asked, wants), wants)
				if rapid.IntRange(0, 4).Draw(t, "lost") > 0 { // else the answer is lost
					purses[m].Fill(asked, units)
				}
			}
			sum := 0
			for _, m := range members {
				sum += purses[m].Units(local(m))
			}
			if sum > total {
				t.Fatalf("%d of %d units are in use at %s", sum, total, now)
			}
		}
	})
}

// TestTwoConnectionsOverFiveNodes is the case of requirement N6: wherever there is work, the two connections are used.
func TestTwoConnectionsOverFiveNodes(t *testing.T) {
	members := []string{"n1", "n2", "n3", "n4", "n5"}
	pot := Begin(2)
	purses := map[string]*Purse{}
	used, possible := 0, 0
	for tick := range 6000 { // 100 ms each, ten minutes
		now := time.Duration(tick) * 100 * time.Millisecond
		wanted := 0
		for i, m := range members {
			wants := 0
			if (tick/50+i)%5 < 2 { // two members have work at a time, others after five seconds
				wants = 2
			}
			wanted += wants
			if purses[m] == nil {
				purses[m] = &Purse{}
			}
			if tick%5 == 0 || wants == 0 { // renew twice a second; give back at once
				purses[m].Fill(now, pot.Ask(now, m, purses[m].Offer(now, wants), wants))
			}
		}
		for _, m := range members {
			used += purses[m].Units(now)
		}
		possible += min(2, wanted)
	}
	if share := float64(used) / float64(possible); share < 0.95 {
		t.Fatalf("%.1f %% of the limit was used, want 95 %%", 100*share)
	}
}

// TestEverybodyGetsATurn: with fewer units than members that always want some, nobody goes without for good.
func TestEverybodyGetsATurn(t *testing.T) {
	pot, purses, had := Begin(2), map[string]*Purse{}, map[string]time.Duration{}
	members := []string{"a", "b", "c", "d", "e"}
	for now := time.Duration(0); now < 10*time.Minute; now += 500 * time.Millisecond {
		for _, m := range members {
			if purses[m] == nil {
				purses[m] = &Purse{}
			}
			purses[m].Fill(now, pot.Ask(now, m, purses[m].Offer(now, 2), 2))
			had[m] += time.Duration(purses[m].Units(now)) * 500 * time.Millisecond
		}
	}
	for _, m := range members {
		if had[m] < 3*time.Minute || had[m] > 5*time.Minute {
			t.Errorf("%s had a connection for %s of 10m, want about 4m: %v", m, had[m], had)
		}
	}
}

func TestEverybodyGetsSomething(t *testing.T) {
	for _, row := range []struct {
		name  string
		total int
		want  map[string]int
	}{
		{"enough for all", 10, map[string]int{"a": 3, "b": 3, "c": 3}},
		{"one short", 5, map[string]int{"a": 2, "b": 2, "c": 1}},
		{"fewer than members", 2, map[string]int{"a": 1, "b": 1, "c": 0}},
	} {
		t.Run(row.name, func(t *testing.T) {
			pot, got := Begin(row.total), map[string]int{}
			for round := range 6 {
				for _, m := range []string{"a", "b", "c"} {
					got[m] = pot.Ask(time.Duration(round)*time.Second, m, got[m], 3)
				}
			}
			for m, n := range row.want {
				if got[m] != n {
					t.Errorf("%s has %d, want %d (%v)", m, got[m], n, got)
				}
			}
		})
	}
}

// TestWhatIsInUseIsLentToNobody: connections that a member has, although its share of them has ended, are not another's.
func TestWhatIsInUseIsLentToNobody(t *testing.T) {
	const s = time.Second
	type ask struct {
		at         time.Duration
		member     string
		has, wants int
		units      int
	}
	for _, row := range []struct {
		name string
		pot  *Pot
		asks []ask
	}{
		{"a new owner", NewPot(2, 0), []ask{
			{s, "n1", 2, 2, 0}, // both wait for a slow reply
			{2500 * time.Millisecond, "n2", 0, 2, 0},
			{2600 * time.Millisecond, "n1", 2, 2, 1}, // an even share
			{2700 * time.Millisecond, "n2", 0, 2, 0},
			{3 * s, "n1", 1, 1, 1},
			{3100 * time.Millisecond, "n2", 0, 2, 1},
		}},
		{"a member that was away for longer than its share lasts", Begin(2), []ask{
			{0, "n1", 0, 2, 2},
			{3 * s, "n1", 2, 2, 2}, // first: it has them again
			{3 * s, "n2", 0, 2, 0},
		}},
		{"two that have more than there is, together", Begin(2), []ask{
			{0, "n1", 2, 2, 2},
			{s, "n2", 2, 2, 0},
			{s, "n1", 2, 2, 0},
			{1500 * time.Millisecond, "n2", 1, 1, 0},
			{1500 * time.Millisecond, "n1", 1, 2, 1},
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			for i, a := range row.asks {
				if units := row.pot.Ask(a.at, a.member, a.has, a.wants); units != a.units {
					t.Errorf("ask %d: %s has %d, wants %d and gets %d, want %d", i, a.member, a.has, a.wants, units, a.units)
				}
			}
		})
	}
}
