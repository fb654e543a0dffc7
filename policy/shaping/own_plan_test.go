package shaping

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

func ownPlan(per string, steps ...int) *Plan {
	return Plans([]settings.Warmup{{Name: "own", Per: per, Steps: steps}})["own"]
}

// A plan of the operator's goes up by the day, falls back with volume and where a receiver blocks, and ends warm.
func TestOwnPlan(t *testing.T) {
	m := NewMachine(Limits{Receiver: "r", Connections: 1, BlockPause: time.Minute})
	m.Warm(noon, ownPlan("day", 10, 20, 40))
	for i, want := range []int{10, 20, 40} {
		n, why, _ := sendAll(&m, noon.AddDate(0, 0, i))
		if n != want || why != Warmup {
			t.Errorf("day %d: %d sent (%q), want %d", i, n, why, want)
		}
	}
	if _, _, cold := m.Warmup(); !cold {
		t.Error("warm before the last day is over")
	}
	y := m.Remember(noon.AddDate(0, 0, 2))
	next := noon.AddDate(0, 0, 3)
	m.Grant(next, 1, nil)
	if _, _, cold := m.Warmup(); cold {
		t.Error("not warm after the last day")
	}

	late := NewMachine(m.Limits())
	late.Warm(noon.AddDate(0, 0, 13), ownPlan("day", 10, 20, 40))
	late.Recall(noon.AddDate(0, 0, 13), y)
	if step, _, cold := late.Warmup(); !cold || step != 0 {
		t.Errorf("step %d (cold %v) eleven days after the last mail", step, cold)
	}

	hurt := NewMachine(m.Limits())
	hurt.Warm(noon.AddDate(0, 0, 2), ownPlan("day", 10, 20, 40))
	hurt.Recall(noon.AddDate(0, 0, 2), y)
	refused := slower(&mail.Advice{Action: mail.ActSuspend, For: time.Hour})
	hurt.Observe(noon.AddDate(0, 0, 2), refused, true, nil)
	if step, most, _ := hurt.Warmup(); step != 1 || most != 20 {
		t.Errorf("step %d of %d after a block, want the one before", step, most)
	}
}

// An edit of a plan keeps the place in it; what went today counts for the span in force now.
func TestPlanIsEdited(t *testing.T) {
	tests := []struct {
		name  string
		plan  *Plan
		left  int
		after time.Duration // the next span
	}{
		{"more a day", ownPlan("day", 25, 50), 15, 24 * time.Hour},
		{"fewer a day", ownPlan("day", 5, 50), 0, 24 * time.Hour},
		{"by the hour", ownPlan("hour", 12, 50), 2, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMachine(Limits{Receiver: "r", Connections: 1})
			m.Warm(noon, ownPlan("day", 10, 20))
			sendAll(&m, noon)
			m.Warm(noon, tt.plan)
			if n, _, _ := sendAll(&m, noon); n != tt.left {
				t.Errorf("%d more may go, want %d", n, tt.left)
			}
			_, _, until := m.Grant(noon, 1, nil)
			if want := noon.Truncate(tt.after).Add(tt.after); !until.Equal(want) {
				t.Errorf("more at %v, want %v", until, want)
			}
			again := NewMachine(m.Limits())
			again.Warm(noon, ownPlan("day", 10, 20))
			again.Recall(noon, m.Remember(noon))
			if step, _, cold := again.Warmup(); !cold || step != 0 {
				t.Errorf("recalled at step %d", step)
			}
			if n, _, _ := sendAll(&again, noon.Add(26*time.Hour)); n == 0 {
				t.Error("nothing goes the day after")
			}
		})
	}
}
