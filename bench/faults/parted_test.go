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

// TestJudgeHalts: what arrives between the answer and the resume counts as late, but for what was said to be on its way.
func TestJudgeHalts(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name         string
		halt         halt
		at           time.Duration // of one message of the group, from the answer
		late, broken int
	}{
		{"before the call", halt{kind: stopHealthy, state: "stopped"}, -500 * time.Millisecond, 0, 0},
		{"after the answer", halt{kind: stopHealthy, state: "stopped"}, time.Millisecond, 1, 1},
		{"after the answer, on its way", halt{kind: stopHealthy, state: "stopped", flight: 1}, time.Millisecond, 0, 0},
		{"after the resume", halt{kind: stopHealthy, state: "stopped"}, time.Minute, 0, 0},
		{"not stopped", halt{kind: stopDown, state: "stopping"}, -time.Second, 0, 1},
		{"slow in health", halt{kind: stopHealthy, state: "stopped", took: time.Second}, -2 * time.Second, 0, 1},
		{"slow with one cut off", halt{kind: stopCut, state: "stopped", took: 11 * time.Second}, -2 * time.Second, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, r := tt.halt, Report{}
			h.group, h.answered, h.resumed = "g1-0", noon, noon.Add(10*time.Second)
			late, _ := judgeHalts([]*halt{&h}, []arrival{{at: noon.Add(tt.at), token: "g1-0_n1-7"}, {at: noon, token: "g1-00_n1-7"}}, &r)
			if late != tt.late || len(r.Broken) != tt.broken {
				t.Errorf("late %d, broken %q, want %d and %d", late, r.Broken, tt.late, tt.broken)
			}
		})
	}
}
