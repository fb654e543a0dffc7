package shaping

import (
	"testing"
	"time"
)

// TestSpend: a source that is killed and counts by its log what it sent since it last remembered stands where it stood, or
// counts a little more, and never less: by the hour and by the day, with caps, over the end of a day.
func TestSpend(t *testing.T) {
	for _, name := range []string{PlanSendGrid, PlanSparkPost} {
		for _, row := range []struct {
			name         string
			before, then []time.Duration // since noon: messages sent before it remembered, and after
		}{
			{"the same hour", []time.Duration{0, time.Minute}, []time.Duration{2 * time.Minute, 3 * time.Minute}},
			{"another hour", []time.Duration{0}, []time.Duration{time.Hour, time.Hour + time.Minute}},
			{"another day", []time.Duration{0}, []time.Duration{13 * time.Hour, 14 * time.Hour}},
			{"days later", []time.Duration{0, 24 * time.Hour}, []time.Duration{48 * time.Hour, 11 * 24 * time.Hour}},
			{"nothing remembered", nil, []time.Duration{0, time.Minute}},
		} {
			t.Run(name+", "+row.name, func(t *testing.T) {
				plan := Plans(nil)[name]
				fresh := func() *Machine {
					m := NewMachine(Limits{Receiver: "r", Connections: 2, Fixed: true, DailyCap: 1000, HourlyCap: 100})
					m.Warm(noon, plan)
					return &m
				}
				send := func(m *Machine, at time.Time) {
					t.Helper()
					if slots, n, _ := m.Grant(at, 1, nil); slots != 1 || n != 1 {
						t.Fatalf("refused: %s", m.Refusal())
					}
					m.Release(at, 1, 0, nil)
				}
				lived, end := fresh(), noon
				for _, d := range row.before {
					end = noon.Add(d)
					send(lived, end)
				}
				var y Memory
				if row.before != nil {
					y = lived.Remember(end)
				}
				for _, d := range row.then {
					end = noon.Add(d)
					send(lived, end)
					y.Spend(end, plan)
				}
				killed := NewMachine(lived.l)
				killed.Warm(end, plan)
				killed.Recall(end, y)
				if got, want := killed.Remember(end), lived.Remember(end); got != want {
					t.Errorf("after the kill %+v, without it %+v", got, want)
				}
			})
		}
	}
}

// TestAdopt: a member that is given a source goes on at its place, and sends nothing in the span that others may have used
// up; what it knows better it keeps.
func TestAdopt(t *testing.T) {
	plan := Plans(nil)[PlanSparkPost]
	at := func(day int) time.Time { return noon.AddDate(0, 0, day) }
	m := NewMachine(Limits{Receiver: "r", Connections: 2, Fixed: true})
	m.Warm(at(0), plan)
	for day := range 3 {
		sendAll(&m, at(day))
	}
	full := m.Remember(at(2))
	place, ok := full.Place()
	if !ok || place.WarmSent != 0 || place.InPeriod != 0 || place.Step != 2 {
		t.Fatalf("%+v", place)
	}
	var y Memory
	y.Adopt(place)
	other := NewMachine(Limits{Receiver: "r", Connections: 2, Fixed: true})
	other.Warm(at(2), plan)
	other.Recall(at(2), y)
	if sent, why, _ := sendAll(&other, at(2)); sent != 0 || why != Warmup {
		t.Errorf("sent %d on a day of which nothing is known: %s", sent, why)
	}
	if sent, _, _ := sendAll(&other, at(3)); sent != plan.Steps[2] {
		t.Errorf("sent %d the day after, want %d", sent, plan.Steps[2])
	}
	known := full
	if known.Adopt(place); known != full {
		t.Errorf("its own knowledge became %+v", known)
	}
	former := place
	former.Plan, former.WarmDay = planNumber(Plans(nil)[PlanSendGrid]), place.WarmDay-1
	if known.Adopt(former); known != full {
		t.Errorf("by a place in the plan before, its own knowledge became %+v", known)
	}
	if _, ok := (&Memory{Pace: 1}).Place(); ok {
		t.Error("a place without a plan")
	}
}
