package destination

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Suspension stops sending for a while. Empty fields match everything; at least one field is set.
type Suspension struct {
	Domain   mail.Domain
	Receiver string
	Source   netip.Addr
	Tenant   string
	Since    time.Time // when it was put in force
	Until    time.Time // zero: until it is lifted
	Reason   string
	Author   string
}

// same tells whether two suspensions match the same mail.
func (s *Suspension) same(o *Suspension) bool {
	return s.Domain == o.Domain && s.Receiver == o.Receiver && s.Source == o.Source && s.Tenant == o.Tenant
}

// Suspensions holds the operator's suspensions of this node. Reading costs one atomic load while there are none.
type Suspensions struct {
	mu   sync.Mutex
	list atomic.Pointer[[]Suspension]
}

// Add puts a suspension in force; one that matches the same mail is replaced.
func (x *Suspensions) Add(s Suspension) {
	x.edit(func(l []Suspension) []Suspension { return append(x.without(l, &s), s) })
}

// Remove lifts the suspension that matches the same mail as s.
func (x *Suspensions) Remove(s Suspension) {
	x.edit(func(l []Suspension) []Suspension { return x.without(l, &s) })
}

// List returns what is in force at now.
func (x *Suspensions) List(now time.Time) []Suspension {
	var out []Suspension
	if l := x.list.Load(); l != nil {
		for _, s := range *l {
			if s.Until.IsZero() || s.Until.After(now) {
				out = append(out, s)
			}
		}
	}
	return out
}

func (x *Suspensions) edit(f func([]Suspension) []Suspension) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var old []Suspension
	if l := x.list.Load(); l != nil {
		old = *l
	}
	next := f(slices.Clone(old))
	if len(next) == 0 {
		x.list.Store(nil)
		return
	}
	x.list.Store(&next)
}

func (x *Suspensions) without(l []Suspension, s *Suspension) []Suspension {
	return slices.DeleteFunc(l, func(o Suspension) bool { return o.same(s) })
}

// match finds the suspension that concerns the given mail at now. A field of a suspension that the caller leaves empty
// because it does not know it yet does not match.
func (x *Suspensions) match(now time.Time, d mail.Domain, receiver string, source netip.Addr, tenant string) *Suspension {
	l := x.list.Load()
	if l == nil {
		return nil
	}
	for i := range *l {
		s := &(*l)[i]
		if (s.Until.IsZero() || s.Until.After(now)) &&
			(s.Domain == "" || s.Domain == d) &&
			(s.Receiver == "" || s.Receiver == receiver) &&
			(!s.Source.IsValid() || s.Source == source) &&
			(s.Tenant == "" || s.Tenant == tenant) {
			return s
		}
	}
	return nil
}
