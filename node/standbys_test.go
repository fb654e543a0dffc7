package node

import (
	"slices"
	"testing"
)

// TestStandbysBeforeTheLease: what is heard of full standbys while the queue has no lease is kept to be told.
func TestStandbysBeforeTheLease(t *testing.T) {
	e := &engine{}
	e.noteStandbys(nil, []string{"n2"})
	if told := e.untold.Load(); told == nil || !slices.Equal(*told, []string{"n2"}) {
		t.Errorf("kept to be told: %v", told)
	}
}
