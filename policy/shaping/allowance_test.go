package shaping

import (
	"testing"
	"time"
)

// No clock hour has more messages than its cap, whatever comes back late, and the next one begins anew.
func TestHourlyCap(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 2, HourlyCap: 30, BlockPause: time.Minute}), noon.Truncate(time.Hour).Add(50*time.Minute)
	end := now.Truncate(time.Hour).Add(time.Hour)
	first := run(&m, &now, 9*time.Minute, fine)
	if _, _, until := m.Grant(now, 1, nil); first != 30 || m.Refusal() != HourlyCap || !until.Equal(end) {
		t.Fatalf("%d sent, then %q until %v", first, m.Refusal(), until)
	}
	again := NewMachine(m.Limits())
	again.Recall(now, m.Remember(now))
	if slots, _, _ := again.Grant(now, 1, nil); slots != 0 {
		t.Error("a restart gave the hour another cap")
	}
	now = end.Add(-time.Second)
	if n := run(&m, &now, 20*time.Minute, fine); n != 30 {
		t.Errorf("%d sent in the next hour", n)
	}
}
