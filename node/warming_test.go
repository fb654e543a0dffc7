package node

import (
	"testing"

	"github.com/ekiden-mta/ekiden/actors/source"
)

// A source that a plan limits counts once in the row of its receivers, whatever kind of mail it sends.
func TestWarmingSourcesAreCounted(t *testing.T) {
	q := newQueueRows(nil)
	q.warming([]source.Report{
		{Receivers: []source.Standing{{Queue: "docomo", WarmMost: 20}, {Queue: "pc", WarmMost: 20}, {Queue: "pc", WarmMost: 28}}},
		{Receivers: []source.Standing{{Queue: "docomo"}, {Queue: "pc", WarmMost: 20}, {Queue: "ezweb", Lane: "cleaning", WarmMost: 20}, {Queue: "ezweb", WarmMost: 20}}},
	})
	for i, want := range map[int]int64{0: 1, 1: 1, 5: 2} {
		if row := q.rows[i]; row.Warming != want {
			t.Errorf("%s: %d sources, want %d", row.Name, row.Warming, want)
		}
	}
}
