package shaping

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestCap plays many who ask, late and at random, and looks at every span that begins with a message (R57).
func TestCap(t *testing.T) {
	for _, row := range []struct {
		name     string
		messages int
		per      time.Duration
		askers   int
		least    float64 // part of the cap that is used
	}{
		{"ten a second", 10, time.Second, 5, 0.97},
		{"one a second", 1, time.Second, 3, 0.98},
		{"a thousand a second", 1000, time.Second, 50, 0.97},
		{"a hundred a minute", 100, time.Minute, 40, 0.97},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			c := NewCap(row.messages, row.per)
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			again := make([]time.Time, row.askers)
			for i := range again {
				again[i] = start
			}
			var begun []time.Time
			for end := start.Add(20 * row.per); ; {
				first := 0
				for i := range again {
					if again[i].Before(again[first]) {
						first = i
					}
				}
				now := again[first].Add(time.Duration(r.Float64() * float64(time.Millisecond)))
				if now.After(end) {
					break
				}
				if at, ok := c.Ready(now); !ok {
					again[first] = at
					continue
				}
				c.Take(now)
				begun = append(begun, now)
				again[first] = now.Add(time.Duration(r.Float64() * float64(row.per) / 100))
			}
			for i := row.messages; i < len(begun); i++ {
				if span := begun[i].Sub(begun[i-row.messages]); span < row.per {
					t.Fatalf("%d messages in %s", row.messages+1, span)
				}
			}
			if got, want := len(begun), int(row.least*20*float64(row.messages)); got < want {
				t.Errorf("%d messages in 20 spans, want at least %d", got, want)
			}
		})
	}
}

func TestCapIsReplaced(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fast := NewCap(100, time.Second)
	fast.Take(now)
	slow := NewCap(1, time.Minute)
	slow.Adopt(&fast)
	if at, ok := slow.Ready(now); ok || at.Sub(now) != time.Minute {
		t.Errorf("ready %t, at +%s: the message before the change counts", ok, at.Sub(now))
	}
}
