package queue

import (
	"slices"
	"sync"
)

// index is what the store keeps in memory of the queue: per destination and priority how many deliveries wait and
// where the first may be, so that a scan starts behind what was deleted. About 150 bytes per destination with work;
// nothing per delivery.
type index struct {
	mu      sync.Mutex
	by      map[destination]*lane
	waiting int
	live    int64 // bytes, estimated
	least   int   // dead records worth a seek
}

// lane is one destination's classes, the most urgent first.
type lane struct{ classes []*class }

// class is one priority of a destination. It exists exactly while something waits in it.
//
// Invariant: no committed delivery that the index was told of lies before head or within a gap.
type class struct {
	inv     uint8
	waiting int
	head    place
	gaps    []gap
	scans   int   // running; while there are any, low is the lowest delivery put since the first of them began
	low     place // a scan's snapshot may not have seen it
}

// gap is a run of deleted records from from up to, not including, to.
type gap struct {
	from, to place
	dead     int
}

const (
	minGap  = 64
	maxGaps = 8 // per class
)

func (x *index) find(dest destination, inv uint8) (*lane, int, bool) {
	l := x.by[dest]
	if l == nil {
		return nil, 0, false
	}
	i, ok := slices.BinarySearchFunc(l.classes, inv, func(c *class, inv uint8) int { return int(c.inv) - int(inv) })
	return l, i, ok
}

// put notes a delivery whose commit is done.
func (x *index) put(s *spot) {
	x.waiting++
	l, i, ok := x.find(s.dest, s.inv)
	if !ok {
		if l == nil {
			l = &lane{}
			x.by[s.dest] = l
		}
		l.classes = slices.Insert(l.classes, i, &class{inv: s.inv, head: s.at, waiting: 1})
		return
	}
	c := l.classes[i]
	c.waiting++
	if s.at.less(c.head) {
		c.head = s.at
	}
	if c.scans > 0 && s.at.less(c.low) {
		c.low = s.at
	}
	c.split(s.at)
}

// split ends every gap that at lies in, for they may overlap, and keeps what the longest of them has behind it.
func (c *class) split(at place) {
	behind := gap{from: at.next()}
	for i := range c.gaps {
		if g := &c.gaps[i]; !at.less(g.from) && at.less(g.to) {
			if behind.to.less(g.to) {
				behind.to, behind.dead = g.to, g.dead
			}
			g.to = at
		}
	}
	if behind.dead > 0 {
		c.remember(behind)
	}
}

// drop notes that a delivery is gone.
func (x *index) drop(s *spot) {
	l, i, ok := x.find(s.dest, s.inv)
	if !ok {
		return
	}
	x.waiting--
	if l.classes[i].waiting--; l.classes[i].waiting > 0 {
		return
	}
	if l.classes = slices.Delete(l.classes, i, i+1); len(l.classes) == 0 {
		delete(x.by, s.dest)
	}
}

// view is a class as a scan found it.
type view struct {
	class *class
	inv   uint8
	head  place
	gaps  []gap
	least int // dead records that make a gap

	// What the scan learnt, valid where it walked from head.
	walked bool
	first  place
	found  []gap
}

// begin returns the classes of a destination for a scan. It must come before the scan's snapshot is taken, and end
// after its last look.
func (x *index) begin(dest destination) []view {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.by[dest]
	if l == nil {
		return nil
	}
	views := make([]view, len(l.classes))
	for i, c := range l.classes {
		if c.scans++; c.scans == 1 {
			c.low = lastPlace
		}
		views[i] = view{class: c, inv: c.inv, head: c.head, gaps: slices.Clone(c.gaps), least: x.least}
	}
	return views
}

// end takes over what the scan learnt, but for what was put meanwhile.
func (x *index) end(views []view) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range views {
		v := &views[i]
		c := v.class
		c.scans--
		if v.walked {
			if to := minPlace(v.first, c.low); c.head.less(to) && !c.head.less(v.head) {
				c.head = to
			}
		}
		for _, g := range v.found {
			if !c.low.less(g.from) && c.low.less(g.to) {
				g.to = c.low
			} else if c.low.less(g.from) {
				continue // something later may lie in it too
			}
			c.remember(g)
		}
	}
}

// remember keeps g, in place of the smallest gap where there are too many.
func (c *class) remember(g gap) {
	for i := range c.gaps {
		if c.gaps[i].from == g.from {
			c.gaps[i] = g
			return
		}
	}
	if len(c.gaps) < maxGaps {
		c.gaps = append(c.gaps, g)
		return
	}
	least := 0
	for i := range c.gaps {
		if c.gaps[i].dead < c.gaps[least].dead {
			least = i
		}
	}
	if c.gaps[least].dead < g.dead {
		c.gaps[least] = g
	}
}

// skip returns where to go on instead of p: behind the gap p lies in.
func (v *view) skip(p place) place {
	for _, g := range v.gaps {
		if !p.less(g.from) && p.less(g.to) {
			return g.to
		}
	}
	return p
}

func minPlace(a, b place) place {
	if a.less(b) {
		return a
	}
	return b
}
