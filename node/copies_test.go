package node

import (
	"testing"

	"github.com/ekiden-mta/ekiden/cluster/replica"
)

// TestBestOf: the furthest copy, of these a complete one, of these the first by name.
func TestBestOf(t *testing.T) {
	type copies = map[string]replica.State
	every := func(replica.State) bool { return true }
	sound := func(c replica.State) bool { return !c.Damaged }
	for _, row := range []struct {
		name   string
		copies copies
		fits   func(replica.State) bool
		want   string
	}{
		{"nobody answers", nil, every, ""},
		{"a fence only", copies{"n2": {Epoch: 3}}, every, ""},
		{"the furthest", copies{"n2": {Run: 1, High: 10, Full: true}, "n3": {Run: 1, High: 11}}, every, "n3"},
		{"equally far, one complete", copies{"n2": {Run: 1, High: 10}, "n3": {Run: 1, High: 10, Full: true}}, every, "n3"},
		{"alike", copies{"n3": {Run: 1, High: 10, Full: true}, "n2": {Run: 1, High: 10, Full: true}}, every, "n2"},
		{"the furthest does not fit", copies{"n2": {Run: 1, High: 10}, "n3": {Run: 1, High: 11, Damaged: true}}, sound, "n2"},
	} {
		if got := bestOf(row.copies, row.fits); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}
