package node

import (
	"testing"
	"time"
)

func TestRunsBetween(t *testing.T) {
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.Local)
	for _, c := range []struct {
		name        string
		at          time.Duration
		before, now time.Time
		want        bool
	}{
		{"not yet", 3 * time.Hour, day, day.Add(2 * time.Hour), false},
		{"now", 3 * time.Hour, day, day.Add(3 * time.Hour), true},
		{"ran", 3 * time.Hour, day.Add(3 * time.Hour), day.Add(4 * time.Hour), false},
		{"midnight", 0, day.Add(23 * time.Hour), day.Add(24 * time.Hour), true},
		{"days later", 3 * time.Hour, day.Add(4 * time.Hour), day.Add(100 * time.Hour), true},
		{"clock set back", 0, day.Add(30 * time.Hour), day.Add(20 * time.Hour), false},
	} {
		if got := runsBetween(c.at, c.before, c.now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
