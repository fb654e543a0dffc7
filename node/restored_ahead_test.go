package node

import (
	"testing"

	"github.com/ekiden-mta/ekiden/cluster/replica"
)

// TestAhead: which copies prove that a store is an old one, and who is to have its queue.
func TestAhead(t *testing.T) {
	const shipped = 1000
	type copies = map[string]replica.State
	for _, row := range []struct {
		name       string
		copies     copies
		heir, most string
	}{
		{"nobody has anything", copies{"n2": {}, "n3": {}}, "", ""},
		{"a fence only", copies{"n2": {Epoch: 3}}, "", ""},
		{"the standby is up to date", copies{"n2": {Run: 900, High: 1000, Full: true}}, "", ""},
		{"a commit was under way", copies{"n2": {Run: 900, High: 1001, Full: true}}, "", ""},
		{"one frame more than a crash leaves", copies{"n2": {Run: 900, High: 1002, Full: true}}, "n2", "n2"},
		{"a later run", copies{"n2": {Run: 5000, High: 4999, Full: true}}, "n2", "n2"},
		{"a former standby lags", copies{"n2": {Run: 900, High: 950, Full: true}, "n3": {Run: 900, High: 1200, Full: true}}, "n3", "n3"},
		{"the furthest is not complete", copies{"n2": {Run: 900, High: 1100, Full: true}, "n3": {Run: 900, High: 1200}}, "n2", "n3"},
		{"none is complete", copies{"n3": {Run: 900, High: 1200, Damaged: true}}, "", "n3"},
	} {
		if heir, most := ahead(row.copies, shipped); heir != row.heir || most != row.most {
			t.Errorf("%s: heir %q, furthest %q, want %q and %q", row.name, heir, most, row.heir, row.most)
		}
	}
}
