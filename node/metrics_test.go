package node

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/internal/metrics"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// TestBlocksCountTheBlocked: ekiden_blocks is 1 while a source is blocked, and not while its probe waits for mail (contract 11).
func TestBlocksCountTheBlocked(t *testing.T) {
	set := metrics.New("test")
	m := &mirror{node: &Node{metrics: set}, connections: map[pair]int{}, blocked: map[pair]bool{}}
	for _, row := range []struct {
		name  string
		state shaping.State
		want  string
	}{
		{"blocked", shaping.Blocked, "1"},
		{"its pause is over", shaping.Probing, "0"},
		{"the probe was refused", shaping.Blocked, "1"},
		{"a probe was taken", shaping.Slowed, "0"},
		{"open", shaping.Open, "0"},
	} {
		m.standings([]source.Report{{Source: netip.MustParseAddr("192.0.2.1"), Receivers: []source.Standing{{Receiver: "au", State: row.state}}}})
		w := httptest.NewRecorder()
		set.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if line := `ekiden_blocks{receiver="au",source="192.0.2.1"} ` + row.want + "\n"; !strings.Contains(w.Body.String(), line) {
			t.Errorf("%s: %q is missing", row.name, line)
		}
	}
}
