package source

import (
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
)

// TestLineSheds: asks whose time is over are dropped behind one that goes ahead, too, or they would gather there.
func TestLineSheds(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var l line
	for i := range 10 {
		l.push(protocol.Ask{Tenant: "shop", Shelf: i, Deadline: now.Add(time.Duration(i) * time.Second)})
	}
	l.push(protocol.Ask{Tenant: "shop", Shelf: 10, Ahead: true, Deadline: now.Add(time.Minute)})
	l.push(protocol.Ask{Tenant: "gone", Shelf: 11, Deadline: now})
	l.push(protocol.Ask{Tenant: "other", Shelf: 12, Deadline: now.Add(time.Minute)})
	var dropped []int
	l.shed(now.Add(5*time.Second), func(a *protocol.Ask) { dropped = append(dropped, a.Shelf) })
	if !slices.Equal(dropped, []int{0, 1, 2, 3, 4, 5}) || l.len() != 7 || l.first().Shelf != 10 {
		t.Errorf("dropped %v, %d left, first %d", dropped, l.len(), l.first().Shelf)
	}
	l.pop()
	l.shed(now.Add(5*time.Second), func(a *protocol.Ask) { dropped = append(dropped, a.Shelf) })
	if l.len() != 5 || l.first().Shelf != 12 {
		t.Errorf("%d left, first %d", l.len(), l.first().Shelf)
	}
}
