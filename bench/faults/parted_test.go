package faults

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// sent is a line of the record: host from sent token.
func sent(from int, token string) string {
	return fmt.Sprintf(`{"event":"message","time":"2026-01-02T03:04:06Z","token":"%s","source":"%s"}`, token, hostAddr(from))
}

// TestOverlap: the record alone tells whether two members sent the same queue at once.
func TestOverlap(t *testing.T) {
	const victim = 1
	for _, tt := range []struct {
		name             string
		record           []string
		takeovers        int
		crossed, overlap int
	}{
		{"nobody took over", []string{sent(1, "va"), sent(1, "vb"), ""}, 0, 0, 0},
		{"one after the other", []string{sent(1, "va"), sent(2, "vb"), sent(2, "vc"), ""}, 1, 2, 0},
		{"both at once", []string{sent(2, "va"), sent(1, "vb"), ""}, 1, 1, 1},
		{"came back", []string{sent(2, "va"), sent(1, "vb"), ""}, 2, 1, 0},
		{"another's own mail", []string{sent(2, "x"), sent(1, "va"), ""}, 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := trio{ledger: mustWrite(t, "ledger", promised("va", "x"), promised("vb", "x"), promised("vc", "x"), ""),
				record: mustWrite(t, "record", tt.record...)}
			k := parted{takeovers: tt.takeovers}
			struck := time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC)
			if err := c.overlap("v", victim, struck, &k); err != nil {
				t.Fatal(err)
			}
			if k.crossed != tt.crossed || k.overlap != tt.overlap {
				t.Errorf("crossed %d overlap %d, want %d and %d", k.crossed, k.overlap, tt.crossed, tt.overlap)
			}
		})
	}
}

// TestPlan: a seed gives the same schedule again, and each kind cuts what its name says.
func TestPlan(t *testing.T) {
	for run, ways := range []int{4, 4, 2, 4} {
		s := plan(run, rand.New(rand.NewPCG(7, uint64(run))), 2)
		if again := plan(run, rand.New(rand.NewPCG(7, uint64(run))), 2); !reflect.DeepEqual(s, again) {
			t.Errorf("run %d: %+v, then %+v", run, s, again)
		}
		if len(s.ways) != ways || s.flapped != (s.kind == "flapping") || s.kind == "leader" && s.victim != 2 {
			t.Errorf("run %d: %+v", run, s)
		}
		for _, w := range s.ways {
			if w.from != s.victim && w.to != s.victim || s.kind == "one-way-out" && w.from != s.victim || s.kind == "one-way-in" && w.to != s.victim {
				t.Errorf("run %d (%s, victim %d) cuts %v", run, s.kind, s.victim, w)
			}
		}
	}
}
