package settings

import (
	"net/netip"
	"slices"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
)

// Index answers the questions of the hot path about one Settings. It is built once and never changes, so it may be
// read from anywhere without a lock.
type Index struct {
	Settings *Settings

	members  []*Member
	byName   map[memberName]*Member
	byUser   map[string]login
	bits     []netBits // the prefix lengths in use, longest first
	networks map[netip.Prefix][]*Member
	pools    map[string][]netip.Addr
	hours    domainHours
	traffic  *filter.Traffic
	allowed  []allowed
}

// allowed is an entry of the allow-list, made ready.
type allowed struct {
	network netip.Prefix
	entry   *Allow
}

type memberName struct{ tenant, composition string }

type login struct {
	member *Member
	user   *User
}

type netBits struct {
	bits int
	v6   bool
}

// Member is a composition of a tenant with everything that can be prepared from its text.
type Member struct {
	Tenant      *Tenant
	Composition *Composition
	Prefixes    []netip.Prefix
	FromDomains []mail.Domain // sorted; empty: any
	Filters     *filter.Set   // nil = none
}

// AllowsFrom tells whether m takes mail with an envelope sender in d (R2, E-25).
func (m *Member) AllowsFrom(d mail.Domain) bool {
	if len(m.FromDomains) == 0 {
		return true
	}
	_, ok := slices.BinarySearch(m.FromDomains, d)
	return ok
}

// NewIndex prepares s, which must be validated; it fails only where Validate would have.
func NewIndex(s *Settings) (*Index, error) {
	x := &Index{
		Settings: s,
		byName:   map[memberName]*Member{},
		byUser:   map[string]login{},
		networks: map[netip.Prefix][]*Member{},
		pools:    map[string][]netip.Addr{},
	}
	for i := range s.Pools {
		addrs := make([]netip.Addr, 0, len(s.Pools[i].Sources))
		for _, src := range s.Pools[i].Sources {
			a, err := netip.ParseAddr(src)
			if err != nil {
				return nil, err
			}
			addrs = append(addrs, a.Unmap())
		}
		x.pools[s.Pools[i].Name] = addrs
	}
	x.hours = quietHours(s.SendingHours)
	for i := range s.Allow {
		p, err := ParseNetwork(s.Allow[i].Address)
		if err != nil {
			return nil, err
		}
		x.allowed = append(x.allowed, allowed{p, &s.Allow[i]})
	}
	for i := range s.Tenants {
		t := &s.Tenants[i]
		for j := range t.Compositions {
			if err := x.add(t, &t.Compositions[j]); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if x.traffic, err = traffic(s); err != nil {
		return nil, err
	}
	slices.SortFunc(x.bits, func(a, b netBits) int { return b.bits - a.bits })
	return x, nil
}

func (x *Index) add(t *Tenant, k *Composition) error {
	m := &Member{Tenant: t, Composition: k}
	for _, n := range k.Networks {
		p, err := ParseNetwork(n)
		if err != nil {
			return err
		}
		m.Prefixes = append(m.Prefixes, p)
		if same := x.networks[p]; !slices.Contains(same, m) {
			x.networks[p] = append(same, m)
		}
		if b := (netBits{p.Bits(), p.Addr().Is6()}); !slices.Contains(x.bits, b) {
			x.bits = append(x.bits, b)
		}
	}
	for _, d := range k.FromDomains {
		dom, err := mail.ParseDomain(d)
		if err != nil {
			return err
		}
		m.FromDomains = append(m.FromDomains, dom)
	}
	slices.Sort(m.FromDomains)
	var err error
	if m.Filters, err = filters(k); err != nil {
		return err
	}
	for i := range k.Users {
		x.byUser[k.Users[i].Name] = login{m, &k.Users[i]}
	}
	x.members = append(x.members, m)
	x.byName[memberName{t.Name, k.Name}] = m
	return nil
}

// Traffic is what the tenants want of the way their mail is sent; nil = nothing.
func (x *Index) Traffic() *filter.Traffic { return x.traffic }

// Members returns all compositions in the order of the file. Not to be changed.
func (x *Index) Members() []*Member { return x.members }

// ByNetwork returns the compositions whose networks hold a: those with the longest matching network first, and in the
// order of the file among equals. The first whose FROM domains take the sender is the one to use. Each appears once.
func (x *Index) ByNetwork(a netip.Addr) []*Member {
	a = a.Unmap().WithZone("")
	var out []*Member
	shared := false // out belongs to the index until a second network matches
	for _, b := range x.bits {
		if b.v6 != a.Is6() {
			continue
		}
		p, err := a.Prefix(b.bits)
		if err != nil {
			continue
		}
		found := x.networks[p]
		switch {
		case len(found) == 0:
		case out == nil:
			out, shared = found, true
		default:
			if shared {
				out, shared = slices.Clone(out), false
			}
			for _, m := range found {
				if !slices.Contains(out, m) {
					out = append(out, m)
				}
			}
		}
	}
	return out
}

// ByUser returns the user of that AUTH name and the composition it belongs to, or nil.
func (x *Index) ByUser(name string) (*Member, *User) {
	l := x.byUser[name]
	return l.member, l.user
}

// Composition returns a composition by the names of its tenant and its own, or nil.
func (x *Index) Composition(tenant, name string) *Member {
	return x.byName[memberName{tenant, name}]
}

// Pool returns the source addresses of a pool; none means those of the node, or what the system chooses.
func (x *Index) Pool(name string) ([]netip.Addr, bool) {
	p, ok := x.pools[name]
	return p, ok
}

// Allows tells whether an address may reach what may tells of an entry; a list without entries allows all (R124).
func (x *Index) Allows(a netip.Addr, may func(*Allow) bool) bool {
	a = a.Unmap().WithZone("")
	for _, e := range x.allowed {
		if e.network.Contains(a) && may(e.entry) {
			return true
		}
	}
	return len(x.allowed) == 0
}
