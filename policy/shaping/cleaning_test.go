package shaping

import (
	"testing"
	"time"
)

// TestCleaningIsATenth compares the messages a second that limits allow (R49).
func TestCleaningIsATenth(t *testing.T) {
	for _, tt := range []struct {
		name        string
		limits      Limits
		connections int
		interval    time.Duration
	}{
		{"a carrier", Limits{Connections: 10, Interval: 100 * time.Millisecond}, 1, 100 * time.Millisecond},
		{"one connection", Limits{Connections: 1, Interval: time.Second}, 1, 10 * time.Second},
		{"a relay without a pace", Limits{Connections: 64}, 6, 100 * time.Millisecond},
		{"a rate", Limits{Connections: 20, Rate: 50}, 2, 100 * time.Millisecond},
		{"a filter's", Limits{Connections: 20}.Filtered("t/f", 10, time.Second, false), 1, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.limits.Cleaning()
			pace := NewLane(&got).Pace(tt.limits.Rate)
			if got.Most() != tt.connections || got.Every() != tt.interval || pace != tt.limits.Rate/10 || got.Kind.Name == tt.limits.Kind.Name {
				t.Errorf("%+v, %g a second", got, pace)
			}
			if !got.SameReceiver(&tt.limits) {
				t.Error("what the receiver bears is not the same any more")
			}
		})
	}
}
