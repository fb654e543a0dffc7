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

// Traffic is what the tenants of a node want of the way their mail is sent. It is built by AddSpeed and not changed once
// in use; the nil Traffic wants nothing.
type Traffic struct {
	speeds  map[string][]*Speed // by tenant, in the order of its list
	byHosts bool
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
