package destination

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// traffic is what tenants want of the way their mail is sent; nil = nothing.
func (e *Env) traffic() *filter.Traffic {
	if e.Traffic == nil {
		return nil
	}
	return e.Traffic()
}

// sameFilter tells whether two filters are one, perhaps before and after an edit.
func sameFilter(a, b *filter.Speed) bool {
	return a == b || a != nil && b != nil && a.Tenant == b.Tenant && a.Name == b.Name
}

// Sort puts what waits in memory where it belongs by the filters in force. hosts are those of the route, nil = as before.
// Where a session carries mail already it goes on as it was.
func (b *Outbox) Sort(hosts []mail.Host) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if hosts != nil {
		b.hosts = slices.Clone(hosts)
	}
	b.sort()
}

// sort is Sort with the mutex held.
func (b *Outbox) sort() {
	var all []ref
	for _, s := range b.shelves {
		all = append(all, s.waiting...)
		clear(s.waiting)
		s.waiting = s.waiting[:0]
	}
	for i := range all {
		b.shelves[b.shelf(&all[i].p.Job.Delivery)].waiting.push(all[i])
	}
}

// filtered tells whether any shelf is a filter's, a cap's or a source's, so that an edit of those may concern it.
func (b *Outbox) filtered() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.shelves, func(s *shelf) bool { return s.speed != nil || s.bound != "" || s.source.IsValid() })
}

// bySpeed is what a receiver bears of the mail of a filter.
type bySpeed struct {
	speed    *filter.Speed
	cleaning bool
}

// limitsOf is what the receiver bears of a shelf's kind of mail; nil where nobody knows yet.
func (m *Machine) limitsOf(s *Shelf) *shaping.Limits {
	if !s.Cleaning && s.Speed == nil || m.limits == nil && !s.Speed.Routed() {
		return m.limits
	}
	k := bySpeed{s.Speed, s.Cleaning}
	if l, ok := m.kinds[k]; ok {
		return l
	}
	var l shaping.Limits
	if s.Speed.Routed() {
		l = shaping.Relay(s.Speed.Route.Hosts[0])
	} else {
		l = *m.limits
	}
	if s.Speed != nil {
		l = l.Filtered(s.Speed.Key(), s.Speed.Connections, s.Speed.Interval, s.Speed.Fixed)
	}
	if s.Cleaning {
		l = l.Cleaning()
	}
	if m.kinds == nil {
		m.kinds = map[bySpeed]*shaping.Limits{}
	}
	m.kinds[k] = &l
	return &l
}

// candidates are the sources that a shelf's mail may use. What was greylisted waits for its own, unless that is gone or
// has refused for now: a source never stops what others can carry (R43). One whose pace leaves something within half a
// minute does not refuse.
func (m *Machine) candidates(now time.Time, s *Shelf) []netip.Addr {
	all := m.env.Sources(s.Pool)
	if s.Speed != nil && s.Speed.Sources > 0 && s.Speed.Sources < len(all) {
		all = all[:s.Speed.Sources]
	}
	if i := slices.Index(all, s.Source); s.Source.IsValid() && i >= 0 {
		if l := m.limitsOf(s); l != nil && m.serves(now, s.Source, l.Kind.Name) {
			return all[i : i+1]
		}
	}
	return all
}

// most is how many sessions n sources may have for a shelf.
func (m *Machine) most(s *Shelf, n int) int {
	l := m.limitsOf(s)
	most := l.Most() * n
	if l.Kind.Total > 0 {
		most = min(most, l.Kind.Total)
	}
	if s.Useful > 0 {
		most = min(most, s.Useful)
	}
	return most
}

// relimit has new rules take effect: what a source said by the old ones is not true any more, and sources may have
// connections that keep to them.
func (m *Machine) relimit(v *View) {
	m.changed = false
	for i := range m.sources {
		if o := &m.sources[i]; !o.failing {
			*o = origin{addr: o.addr, lane: o.lane}
		}
	}
	for i := range v.Shelves {
		if s := &v.Shelves[i]; s.Sessions > 0 {
			for _, a := range m.env.Sources(s.Pool) {
				m.do(Effect{Kind: EffectRelimit, Source: a, Limits: m.limitsOf(s)})
			}
		}
	}
}
