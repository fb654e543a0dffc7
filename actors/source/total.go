package source

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
)

// Totals counts connections that the sources of a node have together where limits say so (requirement R40): each book
// keeps to its own, and asks here before it opens one more. In a cluster the node has a share of them only, which others
// hand out and take back (requirement N6). The zero value is ready: the node has all of them.
type Totals struct {
	mu    sync.Mutex
	lanes map[string]*total

	begin func() Share
	now   func() time.Duration
	lack  func()
}

// total is one lane's.
type total struct {
	most   int // of the whole cluster
	used   int // connections there are
	ending int // of them those that end because the share has shrunk
	lacked time.Duration
	share  Share // nil: all of most
}

// Share is what a node may have of a limit that it shares with others, by a clock that never jumps.
type Share interface {
	// Offer tells how many of wants units are kept; the others are given up.
	Offer(now time.Duration, wants int) int
	// Fill says how many units may be in use, for some time from asked on.
	Fill(asked time.Duration, units int)
	// Units is how many may be in use at now.
	Units(now time.Duration) int
}

// Demand is what a node has and wants of one shared limit.
type Demand struct {
	Limit            string
	Most, Has, Wants int // connections; Most is the whole cluster's
}

// Figures of shared connections.
const (
	totalLook  = 100 * time.Millisecond // how often a source with mail in line looks whether another has given one back
	totalAgain = time.Second            // when to ask a source again that has none while others have
	totalWants = 3 * time.Second        // a lane that lacked connections wants some for so long
)

// Divide has the node share what sources have together with other nodes. now is the clock of shares; lack is called, and
// must not block, when a lane could use more than it has, and when it has given up what is too much. It is called before the first source begins.
func (t *Totals) Divide(begin func() Share, now func() time.Duration, lack func()) {
	t.begin, t.now, t.lack = begin, now, lack
}

// may is how many connections the node may have of a lane.
func (t *Totals) may(x *total) int {
	if x.share == nil {
		return x.most
	}
	return min(x.most, x.share.Units(t.now()))
}

// take counts one more of a lane; false where there are as many as may be.
func (t *Totals) take(lane string, most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.lanes[lane]
	if x == nil {
		if t.lanes == nil {
			t.lanes = map[string]*total{}
		}
		x = &total{}
		if t.begin != nil {
			x.share = t.begin()
		}
		t.lanes[lane] = x
	}
	x.most = most
	if x.used < t.may(x) {
		x.used++
		return true
	}
	if x.share != nil {
		if now := t.now(); x.lacked == 0 || now-x.lacked >= totalLook {
			x.lacked = now
			t.lack()
		}
	}
	return false
}

// full tells whether there are as many of a lane as may be.
func (t *Totals) full(lane string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.lanes[lane]
	return x != nil && x.used >= t.may(x)
}

// give counts one less; ended tells that it was one that had to go: another node waits to hear of it.
func (t *Totals) give(lane string, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.lanes[lane]
	x.used--
	if ended {
		x.ending--
		if x.share != nil {
			t.lack()
		}
	}
	if x.used <= 0 && x.share == nil {
		delete(t.lanes, lane)
	}
}

// taken tells whether the node has any connection of a lane.
func (t *Totals) taken(lane string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.lanes[lane]
	return x != nil && x.used > 0
}

// end tells whether one more connection of a lane has to go, and counts it.
func (t *Totals) end(lane string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.lanes[lane]
	if x == nil || x.used-x.ending <= t.may(x) {
		return false
	}
	x.ending++
	return true
}

// Over tells whether there are more connections of a lane than may be, and not all of them end already.
func (t *Totals) Over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.lanes {
		if x.used-x.ending > t.may(x) {
			return true
		}
	}
	return false
}

// Demands is what the node has and wants of every shared limit; what it does not want it has given up when this returns.
func (t *Totals) Demands() []Demand {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Demand
	for _, lane := range slices.Sorted(maps.Keys(t.lanes)) {
		x := t.lanes[lane]
		if x.share == nil {
			continue
		}
		now := t.now()
		wants := x.used
		if x.lacked != 0 && now-x.lacked < totalWants {
			wants = max(wants, x.most)
		}
		// What is in use counts as had, also beyond a share that has shrunk: nobody else may have it yet.
		out = append(out, Demand{lane, x.most, max(x.used, x.share.Offer(now, wants)), wants})
		if wants == 0 {
			delete(t.lanes, lane) // given back with this
		}
	}
	return out
}

// Fill says how many connections of a limit the node may have, for some time from asked on.
func (t *Totals) Fill(limit string, asked time.Duration, units int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.lanes[limit]; x != nil && x.share != nil {
		x.share.Fill(asked, units)
	}
}

// share takes one connection out of what all sources may have of a lane. ok is false where none is left; name is what to
// give back, "" where the lane has no such bound.
func (b *Book) share(l *lane) (name string, ok bool) {
	if l.limits.Kind.Total <= 0 {
		return "", true
	}
	name = l.limits.Lane()
	return name, b.cfg.Totals.take(name, l.limits.Kind.Total)
}

// crowded is for a lane whose sources have as many connections together as they may. Whoever has some of them serves who
// waits in turn; the others send away who asks, so that he asks those. Where the node has none, who asks waits: its share
// may come at any moment.
func (b *Book) crowded(now time.Time, l *lane) {
	if l.open == 0 && b.cfg.Totals.taken(l.limits.Lane()) {
		b.refuseAll(l, protocol.ReasonSlots, now.Add(totalAgain))
		return
	}
	l.makeRoom(b)
	b.alarm(l.to, now.Add(totalLook))
}

func (b *Book) unshare(name string, ended bool) {
	if name != "" {
		b.cfg.Totals.give(name, ended)
	}
}

// keepShare ends sessions where the node has more connections than its share of a lane, those without work first.
func (b *Book) keepShare(l *lane) {
	if l.limits.Kind.Total <= 0 || l.open == 0 {
		return
	}
	name := l.limits.Lane()
	var list []*Session
	for _, id := range slices.Sorted(maps.Keys(b.live)) {
		if s := b.live[id]; s.total == name && !s.surplus {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(x, y *Session) int { return cmp.Compare(working(x), working(y)) })
	for _, s := range list {
		if !b.cfg.Totals.end(name) {
			return
		}
		s.surplus = true
		b.end(s)
	}
}

// working puts sessions in the order in which they go: those that end in any case, those without work, the others.
func working(s *Session) int {
	switch {
	case s.quit.Load():
		return -1
	case s.box == nil || s.queued:
		return 0
	}
	return 1
}
