package source

import (
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
)

// Totals counts connections that the sources of a node have together where limits say so (requirement R40): each book
// keeps to its own, and asks here before it opens one more. The zero value is ready.
type Totals struct {
	mu   sync.Mutex
	used map[string]int // by lane
}

// Figures of shared connections.
const (
	totalLook  = 100 * time.Millisecond // how often a source with mail in line looks whether another has given one back
	totalAgain = time.Second            // when to ask a source again that has none while others have
)

// take counts one more of a lane; false where there are as many as may be.
func (t *Totals) take(lane string, most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used[lane] >= most {
		return false
	}
	if t.used == nil {
		t.used = map[string]int{}
	}
	t.used[lane]++
	return true
}

// full tells whether there are as many of a lane as may be.
func (t *Totals) full(lane string, most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used[lane] >= most
}

// give counts one less.
func (t *Totals) give(lane string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used[lane]--; t.used[lane] <= 0 {
		delete(t.used, lane)
	}
}

// share takes one connection out of what all sources may have of a lane. ok is false where none is left; name is what to
// give back, "" where the lane has no such bound.
func (b *Book) share(l *lane) (name string, ok bool) {
	if l.limits.Total <= 0 {
		return "", true
	}
	name = laneName(l.limits)
	return name, b.cfg.Totals.take(name, l.limits.Total)
}

// crowded is for a lane whose sources have as many connections together as they may. Whoever has some of them serves who
// waits in turn; the others send away who asks, so that he asks those.
func (b *Book) crowded(now time.Time, l *lane) {
	if l.open == 0 {
		b.refuseAll(l, protocol.ReasonSlots, now.Add(totalAgain))
		return
	}
	b.makeRoom(l)
	b.alarm(l, now.Add(totalLook))
}

func (b *Book) unshare(name string) {
	if name != "" {
		b.cfg.Totals.give(name)
	}
}
