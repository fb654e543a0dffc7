package filter

import (
	"regexp"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Speed is a tenant's delivery-speed filter: how what it matches is sent (requirements R40-R42). It never changes once
// it is in use.
type Speed struct {
	Tenant, Name string
	Patterns     []*regexp.Regexp // any of them matches the whole recipient address …
	HostName     bool             // … or the name of a host of the receiver instead
	Connections  int              // at once, over all sources of a node, 1-100; 0 = as the receiver's rules say
	Interval     time.Duration    // from one message's begin to the next on one connection; 0 = as the rules say
	Fixed        bool             // nothing is learned from answers (R41)
	Sources      int              // how many of the pool's sources may be used, the first ones; 0 = all
	Route        mail.Route       // where what matches goes instead of to its domain's hosts (R42); without hosts = nowhere else
}

// Key tells the filters of all tenants apart.
func (s *Speed) Key() string { return s.Tenant + "/" + s.Name }

// Routed tells whether what matches goes elsewhere.
func (s *Speed) Routed() bool { return s != nil && len(s.Route.Hosts) > 0 }

func (s *Speed) matches(to mail.Address, hosts []mail.Host) bool {
	for _, p := range s.Patterns {
		if !s.HostName {
			if p.MatchString(string(to)) {
				return true
			}
			continue
		}
		for i := range hosts {
			if p.MatchString(hosts[i].Name) {
				return true
			}
		}
	}
	return false
}

// Traffic is what the tenants of a node want of the way their mail is sent. It is built by AddSpeed and AddCap and not
// changed once in use; the nil Traffic wants nothing.
type Traffic struct {
	speeds  map[string][]*Speed // by tenant, in the order of its list
	byHosts bool
	caps    map[owner]*Cap
}

// AddSpeed adds a filter behind those of its tenant.
func (x *Traffic) AddSpeed(s Speed) {
	if x.speeds == nil {
		x.speeds = map[string][]*Speed{}
	}
	x.speeds[s.Tenant] = append(x.speeds[s.Tenant], &s)
	x.byHosts = x.byHosts || s.HostName
}

// ByHosts tells whether any filter looks at the receiver's hosts.
func (x *Traffic) ByHosts() bool { return x != nil && x.byHosts }

// Speed is the first filter of a tenant that matches (requirement E-27), nil = none does; hosts are the receiver's, nil
// while they are not known. For addresses it costs a match of each pattern, so ask once for each delivery.
func (x *Traffic) Speed(tenant string, to mail.Address, hosts []mail.Host) *Speed {
	if x == nil {
		return nil
	}
	for _, s := range x.speeds[tenant] {
		if s.matches(to, hosts) {
			return s
		}
	}
	return nil
}

// Cap bounds how many messages of the engine, of a tenant or of one of its compositions begin in a span of time
// (requirement R57). It never changes once it is in use.
type Cap struct {
	Name     string // "" = the engine's, "shop" a tenant's, "shop/main" a composition's
	Messages int    // at least 1
	Per      time.Duration
}

// owner is whose mail a cap bounds.
type owner struct{ tenant, composition string }

// AddCap adds the cap of a composition; of a tenant where that is empty, of the engine where both are.
func (x *Traffic) AddCap(tenant, composition string, messages int, per time.Duration) {
	if x.caps == nil {
		x.caps = map[owner]*Cap{}
	}
	name := tenant
	if composition != "" {
		name += "/" + composition
	}
	x.caps[owner{tenant, composition}] = &Cap{Name: name, Messages: messages, Per: per}
}

// Caps appends to out what bounds a composition's mail, the widest first.
func (x *Traffic) Caps(tenant, composition string, out []*Cap) []*Cap {
	if x == nil || x.caps == nil {
		return out
	}
	for _, o := range [...]owner{{}, {tenant, ""}, {tenant, composition}} {
		if c := x.caps[o]; c != nil && (len(out) == 0 || out[len(out)-1] != c) {
			out = append(out, c)
		}
	}
	return out
}

// Bound names the narrowest cap of a composition's mail that is not all mail's; "" = none.
func (x *Traffic) Bound(tenant, composition string) string {
	if x == nil || x.caps == nil {
		return ""
	}
	for _, o := range [...]owner{{tenant, composition}, {tenant, ""}} {
		if c := x.caps[o]; c != nil {
			return c.Name
		}
	}
	return ""
}
