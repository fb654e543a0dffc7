package gate

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Table is every gate that was ever closed here. Reading costs one atomic load while there is none. The zero Table, and
// a nil one, hold none. Safe for concurrent use.
type Table struct {
	mu   sync.Mutex // of writers
	book atomic.Pointer[book]
}

// book is one state of a table; immutable.
type book struct {
	by     map[Key]Gate
	closed int // how many are
}

func (t *Table) load() *book {
	if t == nil {
		return nil
	}
	return t.book.Load()
}

// Merge takes g in. It returns the gate that holds from now on, and whether that is another than before.
func (t *Table) Merge(g Gate) (holds Gate, changed bool) {
	for _, t := range [...]*time.Time{&g.Since, &g.Resumed, &g.Discard} {
		*t = t.UTC().Round(0) // so that equal moments are equal values
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next := &book{by: map[Key]Gate{}}
	if old := t.book.Load(); old != nil {
		have, known := old.by[g.Key()]
		if holds = g; known {
			holds = merge(have, g)
		}
		if known && holds == have {
			return have, false
		}
		next.by, next.closed = maps.Clone(old.by), old.closed
		if known && have.Closed {
			next.closed--
		}
	} else {
		holds = g
	}
	next.by[g.Key()] = holds
	if holds.Closed {
		next.closed++
	}
	t.book.Store(next)
	return holds, true
}

// Get returns the gate of just this key, whether it is closed or not.
func (t *Table) Get(k Key) (Gate, bool) {
	b := t.load()
	if b == nil {
		return Gate{Tenant: k.Tenant, Group: k.Group}, false
	}
	g, ok := b.by[k]
	if !ok {
		g = Gate{Tenant: k.Tenant, Group: k.Group}
	}
	return g, ok
}

// Find returns the closed gate that holds back mail of the tenant's group: its own, else that of every tenant.
func (t *Table) Find(tenant, group string) (Gate, bool) {
	b := t.load()
	if b == nil || b.closed == 0 || group == "" {
		return Gate{}, false
	}
	if g := b.by[Key{tenant, group}]; g.Closed {
		return g, true
	}
	g := b.by[Key{"", group}]
	return g, g.Closed
}

// Closed tells whether mail of the tenant's group must not go.
func (t *Table) Closed(tenant, group string) bool {
	b := t.load()
	if b == nil || b.closed == 0 || group == "" {
		return false
	}
	return b.by[Key{tenant, group}].Closed || b.by[Key{"", group}].Closed
}

// Refuses tells whether new mail of the tenant's group must not be taken.
func (t *Table) Refuses(tenant, group string) bool {
	b := t.load()
	if b == nil || b.closed == 0 || group == "" {
		return false
	}
	own, all := b.by[Key{tenant, group}], b.by[Key{"", group}]
	return own.Closed && own.RefuseIntake || all.Closed && all.RefuseIntake
}

// Discards tells whether mail of the tenant's group that was accepted at accepted, of the machine's clock, is to end as
// interrupted, also after the group was resumed.
func (t *Table) Discards(tenant, group string, accepted time.Time) bool {
	b := t.load()
	if b == nil || group == "" {
		return false
	}
	return accepted.Before(b.by[Key{tenant, group}].Discard) || accepted.Before(b.by[Key{"", group}].Discard)
}

// Ends returns when the lifetime really ends of mail that was accepted at accepted, of the machine's clock, and whose
// record says expires: later by the time its group was held. The zero time means not now, and never where expires is
// zero.
func (t *Table) Ends(tenant, group string, accepted, expires time.Time) time.Time {
	b := t.load()
	if b == nil || group == "" || expires.IsZero() {
		return expires
	}
	for i, k := range [...]Key{{tenant, group}, {"", group}} {
		g, ok := b.by[k]
		switch {
		case !ok || i == 1 && tenant == "":
		case g.Closed && g.HoldExpiry:
			return time.Time{}
		case g.Paused > 0 && accepted.Before(g.Resumed):
			expires = expires.Add(g.Paused)
		}
	}
	return expires
}

// Next returns a version for a new word about k, given at now of the machine's clock.
func (t *Table) Next(k Key, now time.Time) uint64 {
	g, _ := t.Get(k)
	return max(g.Version+1, uint64(max(now.UnixMicro(), 0)))
}

// List returns every gate, by group and tenant.
func (t *Table) List() []Gate {
	b := t.load()
	if b == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(b.by), func(x, y Gate) int {
		return cmp.Or(cmp.Compare(x.Group, y.Group), cmp.Compare(x.Tenant, y.Tenant))
	})
}
