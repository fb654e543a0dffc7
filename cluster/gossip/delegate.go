package gossip

import (
	"bytes"
	"errors"
	"net/netip"

	"github.com/hashicorp/memberlist"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// delegate is Gossip as memberlist calls it, mostly under its lock: nothing here blocks or calls memberlist.
type delegate Gossip

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
	_ memberlist.AliveDelegate    = (*delegate)(nil)
)

// errRefused is for a member that was removed.
var errRefused = errors.New("is no member any more")

func (d *delegate) NodeMeta(int) []byte                { return (*Gossip)(d).askMeta() }
func (d *delegate) NotifyMsg(msg []byte)               { (*Gossip)(d).receive(msg) }
func (d *delegate) LocalState(bool) []byte             { return nil }
func (d *delegate) MergeRemoteState([]byte, bool)      {}
func (d *delegate) NotifyJoin(n *memberlist.Node)      { d.here(n) }
func (d *delegate) NotifyUpdate(n *memberlist.Node)    { d.here(n) }
func (d *delegate) GetBroadcasts(over, m int) [][]byte { return d.rumours.GetBroadcasts(over, m) }

// here books a member. memberlist goes on to change n, so what is kept is copied.
func (d *delegate) here(n *memberlist.Node) {
	m := Member{Name: n.Name, Addr: nodeAddr(n), Meta: bytes.Clone(n.Meta)}
	d.mu.Lock()
	d.alive[n.Name] = m
	if n.Name != d.cfg.Name {
		d.known[n.Name] = sighting{addr: m.Addr}
	}
	d.mu.Unlock()
	nudge(d.changed)
}

// NotifyLeave books that a member is dead or has left.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.mu.Lock()
	delete(d.alive, n.Name)
	if seen, ok := d.known[n.Name]; ok {
		d.known[n.Name] = sighting{addr: seen.addr, gone: clock.Wall()}
	}
	d.mu.Unlock()
	nudge(d.changed)
}

// NotifyConflict passes a conflict on. memberlist finds it again at every gossip: what is too much is dropped.
func (d *delegate) NotifyConflict(known, seen *memberlist.Node) {
	select {
	case d.conflicts <- Conflict{Name: known.Name, Known: nodeAddr(known), Seen: nodeAddr(seen)}:
	default:
	}
}

// NotifyAlive keeps removed members out.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if d.cfg.Refuse != nil && n.Name != d.cfg.Name && d.cfg.Refuse(n.Name) {
		return errRefused
	}
	return nil
}

func nodeAddr(n *memberlist.Node) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(ip.Unmap(), n.Port)
}
