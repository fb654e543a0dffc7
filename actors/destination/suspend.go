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
	Signer   string    // d= of a DKIM signature, normal form
	Group    string    // delivery group, of Tenant where that is named; "" = all mail
	Rule     string    // the rule that put it in force by itself; "" = an operator did
	Since    time.Time // when it was put in force
	Until    time.Time // zero: until it is lifted
	Reason   string
	Author   string
	Node     string // that put it in force; "" = this one, lately
	Probe    bool   // ends with a probe, not with Until (see probation)
	Phase    string `json:"-"` // of one that does, where it is listed

	trial *trial // of one that does, at this node
}

// same tells whether two suspensions match the same mail.
func (s *Suspension) same(o *Suspension) bool {
	return s.Domain == o.Domain && s.Receiver == o.Receiver && s.Source == o.Source && s.Network == o.Network &&
		s.Tenant == o.Tenant && s.From == o.From && s.Signer == o.Signer && s.Group == o.Group && s.Rule == o.Rule
}

// ID names a suspension by its rule, the receiver and whose mail it holds, such as "google/rate-dkim google
// dkim=shop.example"; an operator's by whose mail it holds alone, such as "domain=a.example". It is unique.
func (s *Suspension) ID() string {
	var parts []string
	add := func(key, value string) {
		if value != "" {
			parts = append(parts, key+"="+value)
		}
	}
	if s.Rule != "" {
		if parts = append(parts, s.Rule); s.Receiver != "" {
			parts = append(parts, s.Receiver)
		}
	} else {
		add("receiver", s.Receiver)
	}
	add("domain", string(s.Domain))
	if s.Source.IsValid() {
		add("source", s.Source.String())
	}
	add("tenant", s.Tenant)
	add("group", s.Group)
	add("from", s.From)
	add("dkim", s.Signer)
	if s.Network.IsValid() {
		add("network", s.Network.String())
	}
	return strings.Join(parts, " ")
}

// Suspensions holds the suspensions in force at this node: those that the members agreed on, and such as a rule put in
// force here a moment ago. Reading costs one atomic load while there are none.
type Suspensions struct {
	Self string // this node's name; set before use

	mu     sync.Mutex
	list   atomic.Pointer[[]Suspension]
	trials atomic.Int32 // of list, such as have one
}

// Add puts a suspension in force; one that matches the same mail is replaced.
func (x *Suspensions) Add(s Suspension) {
	x.edit(func(l []Suspension) []Suspension { return append(x.without(l, &s), s) })
}

// addAutomatic is Add for a rule's, whose number is bounded: those that are over, and beyond holdsMost the oldest, go. Of
// two that hold the same mail the longer counts.
func (x *Suspensions) addAutomatic(s Suspension) {
	x.edit(func(l []Suspension) []Suspension {
		for i := range l {
			if o := &l[i]; o.same(&s) {
				s.Until = later(s.Until, o.Until)
				if !s.Longer(o) { // the book need not hear of it: still the same node's to end
					s.Node = o.Node
				}
			}
		}
		l = slices.DeleteFunc(x.without(l, &s), func(o Suspension) bool { return o.Rule != "" && !o.alive(s.Since) })
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

// Update takes over what the members agreed on: put is in force from now on, drop no longer. Where an answer renewed an
// automatic one meanwhile, the longer of the two counts, unless it was lifted before its time.
func (x *Suspensions) Update(now time.Time, put, drop []Suspension) {
	x.edit(func(l []Suspension) []Suspension {
		for i := range drop {
			d := &drop[i]
			over := !d.Until.IsZero() && !d.Until.After(now)
			l = slices.DeleteFunc(l, func(o Suspension) bool { return o.same(d) && !(over && o.Until.After(now)) })
		}
		for i := range put {
			p := &put[i]
			if j := slices.IndexFunc(l, func(o Suspension) bool { return o.same(p) }); j >= 0 && p.Rule != "" {
				if o := &l[j]; o.Until.After(p.Until) {
					if !o.Longer(p) {
						o.Node = p.Node
					}
					continue
				} else if o.Until.Equal(p.Until) {
					p.trial = o.trial
				}
			}
			l = append(x.without(l, p), *p)
		}
		return l
	})
}

// Longer tells whether the suspension lasts so much longer than o that the book should know.
func (s *Suspension) Longer(o *Suspension) bool {
	return s.Until.Sub(o.Until) > o.Until.Sub(o.Since)/10
}

// List returns what is in force at now.
func (x *Suspensions) List(now time.Time) []Suspension {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []Suspension
	if l := x.list.Load(); l != nil {
		for _, s := range *l {
			if !s.alive(now) {
				continue
			}
			if s.Probe {
				if s.Phase = PhaseHeld; !s.holds(now, x.Self) {
					s.Phase = s.trial.phase()
				}
			}
			out = append(out, s)
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
	trials := int32(0)
	for i := range next {
		if s := &next[i]; s.Probe {
			if trials++; s.trial == nil {
				s.trial = &trial{}
			}
		}
	}
	x.trials.Store(trials)
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
		if s.holds(now, x.Self) && s.names(domain, receiver, source) && s.concerns(d) {
			return s
		}
	}
	return nil
}

// names tells whether the suspension is for mail that goes that way.
func (s *Suspension) names(domain mail.Domain, receiver string, source netip.Addr) bool {
	return (s.Domain == "" || s.Domain == domain) && (s.Receiver == "" || s.Receiver == receiver) &&
		(!s.Source.IsValid() || s.Source == source) && network(s.Network, source)
}

// concerns tells whether the suspension is for d as far as tenant, sender and group go.
func (s *Suspension) concerns(d *mail.Delivery) bool {
	if s.Tenant == "" && s.From == "" && s.Signer == "" && s.Group == "" {
		return true
	}
	if d == nil || s.Tenant != "" && s.Tenant != d.Tenant || s.Group != "" && s.Group != d.Group ||
		s.Signer != "" && !signedBy(d, s.Signer) {
		return false
	}
	if s.From == "" {
		return true
	}
	i := strings.LastIndexByte(string(d.From), '@')
	return i >= 0 && strings.EqualFold(string(d.From)[i+1:], s.From)
}

// signedBy tells whether one of the signatures of d is of a domain.
func signedBy(d *mail.Delivery, domain string) bool {
	for rest := d.Signers; rest != ""; {
		var one string
		if one, rest, _ = strings.Cut(rest, ","); one == domain {
			return true
		}
	}
	return false
}
