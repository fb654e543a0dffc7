package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
)

// A receiver knows a source by its address, and so does what it bears: one member keeps the book of each (requirement N6). Which
// one stands in the members' book: whoever puts an address in there sends from it, and no other member does, until that one gives
// it up or owns no queue any more, which is when nothing it sends can leave. A member puts it in anew for each queue that it
// serves: what it had before may have gone to another one meanwhile.

// Figures of claims.
const (
	claimEvery  = 5 * time.Second
	sharedAlarm = "source_shared" // its name
)

// claims are the sources that an engine has, as its configuration names them.
type claims struct {
	alone bool // there are no other members
	now   atomic.Pointer[map[netip.Addr]string]
}

// holds tells whether mail may leave by a. An address that the system chooses is nobody's.
func (c *claims) holds(a netip.Addr) bool {
	if c.alone || !a.IsValid() {
		return true
	}
	why, known := c.all()[a]
	return known && why == ""
}

// words say why no mail leaves by a; "" = it does, or a is not of the configuration.
func (c *claims) words(a netip.Addr) string {
	if why := c.all()[a]; why != "" {
		return a.String() + ": " + why
	}
	return ""
}

// all is why mail does not leave by each source; "" = it does.
func (c *claims) all() map[netip.Addr]string {
	if now := c.now.Load(); now != nil {
		return *now
	}
	return nil
}

// mind claims what is configured and free, and gives up what is not this member's any more.
func (c *claims) mind(m *member, e *engine) {
	n := m.node
	book := map[string]ledger.Object{}
	for _, o := range m.book.State().Objects(ledger.KindSource) {
		book[o.Name] = o
	}
	before, next := c.all(), map[netip.Addr]string{}
	var changes []ledger.ObjectChange
	for _, a := range n.allSources() {
		if !a.IsValid() {
			continue
		}
		o := book[a.String()]
		was, known := before[a]
		if next[a] = c.refuses(m, a, string(o.Data)); next[a] == "" && !(known && was == "" && string(o.Data) == n.cfg.Node.Name) {
			changes = append(changes, ledger.ObjectChange{Kind: ledger.KindSource, Name: a.String(), Base: o.Version, Data: []byte(n.cfg.Node.Name)})
			next[a] = unclaimed
		}
	}
	gained := len(changes) > 0 && m.agrees(e.life, &ledger.PutObjects{Changes: changes})
	for i := range changes {
		if a := netip.MustParseAddr(changes[i].Name); gained {
			next[a] = ""
		}
	}
	c.now.Store(&next)
	if gained {
		e.actors.Destinations().Changed()
	}
	for a, why := range next {
		if why != "" && before[a] != why {
			n.log.Warn("no mail leaves by a source", "source", a, "reason", why)
		}
	}
	c.release(m, e, book)
}

// unclaimed is why no mail leaves by a source that the book has not been asked for, or has been in vain.
const unclaimed = "the members have not agreed yet on who sends from it"

// refuses tells why this member may not have an address, whose holder the book names; "" = it may, or has it.
func (c *claims) refuses(m *member, a netip.Addr, holder string) (why string) {
	self, own := m.node.cfg.Node.Name, m.node.cfg.Node.SourceIPs
	switch {
	case len(own) > 0 && !slices.Contains(own, a):
		why = "it is none of the source_ips of " + self
	case !available(a):
		why = "it is not an address of this machine"
	case holder != "" && holder != self && m.sends(holder):
		m.node.alarms.raise(alarm{sharedAlarm, a.String(), fmt.Sprintf(
			"%s is a source of both %s and %s: mail leaves by it from %s alone; give it to one of them", a, holder, self, holder), 3 * claimEvery})
		return holder + " sends from it"
	}
	m.node.alarms.lower(sharedAlarm, a.String())
	return why
}

// release takes what this member does not send from any more out of the book, once no connection is open there.
func (c *claims) release(m *member, e *engine, book map[string]ledger.Object) {
	busy := map[string]bool{}
	for _, r := range e.actors.Sources().Snapshot() {
		for i := range r.Receivers {
			if r.Receivers[i].Connections > 0 {
				busy[r.Source.String()] = true
			}
		}
	}
	now := c.all()
	var changes []ledger.ObjectChange
	for name, o := range book {
		a, err := netip.ParseAddr(name)
		why, known := now[a]
		if string(o.Data) == m.node.cfg.Node.Name && !busy[name] && err == nil && (!known || why != "" && why != unclaimed) {
			changes = append(changes, ledger.ObjectChange{Kind: ledger.KindSource, Name: name, Base: o.Version, Delete: true})
		}
	}
	if len(changes) > 0 {
		m.agrees(e.life, &ledger.PutObjects{Changes: changes})
	}
}

// sends tells whether a member may send: it owns a queue.
func (m *member) sends(name string) bool {
	for _, l := range m.book.State().Lineages() {
		if l.Owner == name && l.Phase != ledger.Closed {
			return true
		}
	}
	return false
}

// available tells whether this machine has an address; it does where that cannot be found out.
func available(a netip.Addr) bool {
	l, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		return !errors.Is(err, syscall.EADDRNOTAVAIL)
	}
	_ = l.Close()
	return true
}
