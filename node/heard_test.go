package node

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// TestSteeredClockDoesNotAgeMembers: how long a member is missing is told by the machine's clock.
func TestSteeredClockDoesNotAgeMembers(t *testing.T) {
	m := &member{node: &Node{clock: &clock.Clock{}}}
	m.heard.Store("n2", clock.Wall().Add(-time.Minute))
	for _, steer := range []time.Duration{0, 48 * time.Hour, -96 * time.Hour} {
		m.node.clock.Advance(steer)
		if gone := clock.Since(m.heardOf("n2")); gone < time.Minute || gone > 2*time.Minute {
			t.Errorf("clock steered by %v: n2 is missing for %v, want a minute", steer, gone)
		}
	}
}
