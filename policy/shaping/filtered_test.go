package shaping

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

func TestFiltered(t *testing.T) { // R40, R41
	base := Limits{Receiver: "r", Connections: 5, Interval: time.Second, Rate: 3, Start: 1, DailyCap: 9, BlockPause: time.Minute}
	for _, row := range []struct {
		name string

		connections int
		interval    time.Duration
		fixed       bool

		most  int
		every time.Duration
		pace  float64
	}{
		{"nothing said", 0, 0, false, 5, time.Second, 3},
		{"connections", 2, 0, false, 2, time.Second, 3},
		{"more than the receiver bears", 20, 0, false, 5, time.Second, 3},
		{"interval", 0, 2 * time.Second, false, 5, 2 * time.Second, 3},
		{"fixed", 0, 0, true, 5, time.Second, 0},
	} {
		l := base.Filtered("t/f", row.connections, row.interval, row.fixed)
		if l.Most() != row.most || l.Every() != row.every || l.Kind.Total != row.connections || l.Lane() != "r speed t/f" || !l.SameReceiver(&base) {
			t.Errorf("%s: %+v", row.name, l)
		}
		if got := NewLane(&l).Pace(base.Rate); got != row.pace {
			t.Errorf("%s: %g a second, want %g", row.name, got, row.pace)
		}
	}
}

// TestFixedLearnsNothing: the same answers slow mail down that a filter leaves free, and mail it fixes not at all (R41).
func TestFixedLearnsNothing(t *testing.T) {
	slow := mail.Outcome{Result: mail.Deferred, Stage: mail.StageRcpt, Scope: mail.ScopeSource}
	slow.Reply.Code = 451
	for _, row := range []struct {
		fixed bool
		want  State
	}{{false, Slowed}, {true, Open}} {
		l := Limits{Receiver: "r", Connections: 2, BlockPause: time.Minute}.Filtered("t/f", 2, 100*time.Millisecond, row.fixed)
		m, x := NewMachine(l), NewLane(&l)
		now := time.Date(2026, 1, 1, 12, 30, 0, 0, time.UTC)
		m.Grant(now, 50, x)
		m.Observe(now.Add(5*time.Second), slow, true, x)
		if got, _ := m.State(); got != row.want {
			t.Errorf("fixed %t: %s, want %s", row.fixed, got, row.want)
		}
		if paced := m.Pace() > 0; paced == row.fixed {
			t.Errorf("fixed %t: pace %g", row.fixed, m.Pace())
		}
	}
}
