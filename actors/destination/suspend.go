package destination

import (
	"net/netip"
	"slices"
	"strings"
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
	Network  netip.Prefix // every source of a netblock
	Tenant   string
	From     string    // domain of the envelope sender, lower case
	Group    string    // delivery group of Tenant; "" = all of its mail
	Rule     string    // the rule that put it in force by itself; "" = an operator did
	Since    time.Time // when it was put in force
	Until    time.Time // zero: until it is lifted
	Reason   string
	Author   string
}

// same tells whether two suspensions match the same mail.
func (s *Suspension) same(o *Suspension) bool {
	return s.Domain == o.Domain && s.Receiver == o.Receiver && s.Source == o.Source && s.Network == o.Network &&
		s.Tenant == o.Tenant && s.From == o.From && s.Group == o.Group && s.Rule == o.Rule
}

// ID names an automatic suspension: its rule, the receiver and whose mail it holds, such as "google/rate-dkim google
// from=shop.example". It is empty for an operator's.
func (s *Suspension) ID() string {
	if s.Rule == "" {
		return ""
	}
	id := s.Rule + " " + s.Receiver
	if s.Tenant != "" {
		id += " tenant=" + s.Tenant
	}
	if s.Group != "" {
		id += " group=" + s.Group
	}
	if s.From != "" {
		id += " from=" + s.From
	}
	if s.Network.IsValid() {
		id += " network=" + s.Network.String()
	}
	return id
}

// Suspensions holds the operator's suspensions of this node, and those that rules put in force. Reading costs one atomic
// load while there are none.
type Suspensions struct {
	mu   sync.Mutex
	list atomic.Pointer[[]Suspension]
}

// Add puts a suspension in force; one that matches the same mail is replaced.
func (x *Suspensions) Add(s Suspension) {
	x.edit(func(l []Suspension) []Suspension { return append(x.without(l, &s), s) })
}

// addAutomatic is Add for a rule's, whose number is bounded: those that are over, and beyond holdsMost the oldest, go.
func (x *Suspensions) addAutomatic(s Suspension) {
	x.edit(func(l []Suspension) []Suspension {
		l = slices.DeleteFunc(x.without(l, &s), func(o Suspension) bool { return o.Rule != "" && !o.Until.After(s.Since) })
		if len(l) >= holdsMost {
			if i := slices.IndexFunc(l, func(o Suspension) bool { return o.Rule != "" }); i >= 0 {
				l = slices.Delete(l, i, i+1)
			}
		}
		return append(l, s)
	})
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

// match finds the suspension that concerns a delivery at now; d nil = any mail to the domain. What a suspension names
// and the caller does not know yet does not match.
func (x *Suspensions) match(now time.Time, domain mail.Domain, receiver string, source netip.Addr, d *mail.Delivery) *Suspension {
	l := x.list.Load()
	if l == nil {
		return nil
	}
	for i := range *l {
		s := &(*l)[i]
		if (s.Until.IsZero() || s.Until.After(now)) &&
			(s.Domain == "" || s.Domain == domain) &&
			(s.Receiver == "" || s.Receiver == receiver) &&
			(!s.Source.IsValid() || s.Source == source) &&
			network(s.Network, source) && s.concerns(d) {
			return s
		}
	}
	return nil
}

// concerns tells whether the suspension is for d as far as tenant, sender and group go.
func (s *Suspension) concerns(d *mail.Delivery) bool {
	if s.Tenant == "" && s.From == "" {
		return true
	}
	if d == nil || s.Tenant != "" && s.Tenant != d.Tenant || s.Group != "" && s.Group != d.Group {
		return false
	}
	if s.From == "" {
		return true
	}
	i := strings.LastIndexByte(string(d.From), '@')
	return i >= 0 && strings.EqualFold(string(d.From)[i+1:], s.From)
}
