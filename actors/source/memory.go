package source

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Figures of memory.
const (
	keepFor  = 48 * time.Hour // what a receiver bore so long ago says nothing about today
	keepMost = 100_000        // receivers a source remembers; names come from foreign DNS
)

// warm puts a plan in force for a receiver. A static route leads to a relay of the operator's: nothing is new to that.
func (r *receiver) warm(now time.Time, p *shaping.Plan) {
	r.plan = p
	if strings.HasPrefix(r.name, "route:") {
		p = nil
	}
	r.control.Warm(now, p)
}

// remind tells a new controller what is known of its receiver: from this source, else from another.
func (b *Book) remind(now time.Time, r *receiver) {
	r.warm(now, b.plan)
	if y, ok := b.kept[r.name]; ok {
		delete(b.kept, r.name)
		r.control.Recall(now, y)
		if r.watch.Store(watchFor); y.Until > 0 {
			return
		}
	}
	if y, ok := b.cfg.Hints.of(r.name); ok {
		r.control.Hint(now, y)
	}
}

// Forget drops the receivers and lanes that nobody has used for a while, and keeps what they learned.
func (b *Book) Forget(now time.Time, after time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.order = slices.DeleteFunc(b.order, func(r *receiver) bool {
		if state, _ := r.control.State(); state == shaping.Blocked || state == shaping.Probing {
			return false
		}
		r.lanes = slices.DeleteFunc(r.lanes, func(l *lane) bool {
			if l.open > 0 || l.waiting > 0 || l.riders() > 0 || now.Sub(l.used) < after {
				return false
			}
			b.keep(l.limits.Lane(), l.own.Remember())
			r.drop(l)
			return true
		})
		if len(r.lanes) > 0 {
			return false
		}
		b.keep(r.name, r.control.Remember(now))
		delete(b.by, r.name)
		return true
	})
	maps.DeleteFunc(b.kept, func(_ string, y shaping.Memory) bool { return stale(now, &y) })
}

func (b *Book) keep(name string, y shaping.Memory) {
	if y != (shaping.Memory{}) && len(b.kept) < keepMost {
		b.kept[name] = y
	}
}

// stale tells whether nothing in y matters any more.
func stale(now time.Time, y *shaping.Memory) bool {
	old := now.Add(-keepFor).Unix()
	return y.Plan == 0 && y.Objected < old && y.Until < old && y.NamedUntil < old && int64(y.Day) < now.Unix()/86400
}

// Memories returns all that the source knows of its receivers, by name, and of the caps of kinds of mail, by lane.
func (b *Book) Memories(now time.Time) map[string]shaping.Memory {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := maps.Clone(b.kept)
	put := func(name string, y shaping.Memory) {
		if y != (shaping.Memory{}) {
			out[name] = y
		}
	}
	for _, r := range b.order {
		put(r.name, r.control.Remember(now))
		for _, l := range r.lanes {
			if l.own != nil {
				put(l.limits.Lane(), l.own.Remember())
			}
		}
	}
	return out
}

// Remind gives back what Memories returned, before the first ask.
func (b *Book) Remind(now time.Time, all map[string]shaping.Memory) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for receiver, y := range all {
		if _, ok := b.by[receiver]; !ok && !stale(now, &y) {
			b.keep(receiver, y)
		}
	}
}

// Hints is what sources of this node and others learned about receivers, for those that know nothing yet.
type Hints struct {
	mu  sync.Mutex
	all map[string]shaping.Memory
}

// NewHints returns none.
func NewHints() *Hints { return &Hints{all: map[string]shaping.Memory{}} }

func (h *Hints) of(receiver string) (shaping.Memory, bool) {
	if h == nil {
		return shaping.Memory{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	y, ok := h.all[receiver]
	return y, ok
}

// Learn takes up what some source learned; what is newer wins, and what has no ceiling says nothing.
func (h *Hints) Learn(now time.Time, receiver string, y shaping.Memory) {
	y = shaping.Memory{Pace: y.Pace, Ceiling: y.Ceiling, Conns: y.Conns, Objected: min(y.Objected, now.Unix())}
	if y.Ceiling <= 0 || y.Pace <= 0 || stale(now, &y) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	old, known := h.all[receiver]
	if !known && len(h.all) >= keepMost {
		maps.DeleteFunc(h.all, func(_ string, y shaping.Memory) bool { return stale(now, &y) })
		if len(h.all) >= keepMost {
			return
		}
	}
	if !known || y.Objected >= old.Objected {
		h.all[receiver] = y
	}
}
