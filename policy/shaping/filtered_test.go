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

		change func(*Limits)
	}{
		{"nothing said", 0, 0, false, func(*Limits) {}},
		{"connections", 2, 0, false, func(l *Limits) { l.Connections, l.Total = 2, 2 }},
		{"interval", 0, 2 * time.Second, false, func(l *Limits) { l.Interval, l.Rate, l.Start = 2*time.Second, 0, 0 }},
		{"fixed", 0, 0, true, func(l *Limits) {
			l.Fixed, l.Rate, l.Start, l.BlockPause, l.BlockPauseMax = true, 0, 0, fixedBlockPause, fixedBlockPause
		}},
	} {
		want := base
		want.Lane = "speed t/f"
		row.change(&want)
		if got := base.Filtered("t/f", row.connections, row.interval, row.fixed); got != want {
			t.Errorf("%s: %+v, want %+v", row.name, got, want)
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
		m := NewMachine(Limits{Receiver: "r", Connections: 2, BlockPause: time.Minute}.Filtered(
			"t/f", 2, 100*time.Millisecond, row.fixed))
		now := time.Date(2026, 1, 1, 12, 30, 0, 0, time.UTC)
		m.Grant(now, 50)
		m.Observe(now.Add(5*time.Second), slow, true)
		if got, _ := m.State(); got != row.want {
			t.Errorf("fixed %t: %s, want %s", row.fixed, got, row.want)
		}
		if paced := m.Pace() > 0; paced == row.fixed {
			t.Errorf("fixed %t: pace %g", row.fixed, m.Pace())
		}
	}
}
