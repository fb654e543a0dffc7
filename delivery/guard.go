package delivery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Errors of the Guard. They are wrapped with the address.
var (
	ErrForbidden = errors.New("address is not for mail")             // threat T15
	ErrOurselves = errors.New("address is one of our own listeners") // threat T14
)

// Guard decides which addresses may be dialled. It is asked about the address the kernel is about to be given, after
// every look-up, so an answer that changes between look-up and connect gains nothing. Safe for concurrent use.
type Guard struct {
	allowPrivate bool
	own          []netip.AddrPort
	local        func() ([]net.Addr, error)

	mu      sync.Mutex
	mine    map[netip.Addr]bool // addresses of this machine, as of then
	asOf    time.Time
	anyPort map[uint16]bool // ports of own listeners on the unspecified address
}

// NewGuard returns a Guard. With allowPrivate it lets loopback, private and link-local addresses pass (contract 3:
// tests and in-house relays). own are the listeners whose mail would come straight back; one on the unspecified
// address stands for every address of this machine.
func NewGuard(allowPrivate bool, own []netip.AddrPort) *Guard {
	g := &Guard{allowPrivate: allowPrivate, local: net.InterfaceAddrs, anyPort: map[uint16]bool{}}
	for _, a := range own {
		if a.Addr().IsUnspecified() {
			g.anyPort[a.Port()] = true
		} else {
			g.own = append(g.own, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
		}
	}
	return g
}

// Check returns nil if a may be dialled.
func (g *Guard) Check(a netip.AddrPort) error {
	addr := a.Addr().WithZone("").Unmap()
	if g.isOwn(netip.AddrPortFrom(addr, a.Port())) {
		return fmt.Errorf("%v: %w", a, ErrOurselves)
	}
	if inner, ok := embedded(addr); ok && g.Check(netip.AddrPortFrom(inner, a.Port())) != nil {
		return fmt.Errorf("%v: %w", a, ErrForbidden)
	}
	if never(addr) || private(addr) && !g.allowPrivate {
		return fmt.Errorf("%v: %w", a, ErrForbidden)
	}
	return nil
}

// never tells of addresses nobody receives mail at, not even in a test.
func never(a netip.Addr) bool {
	return !a.IsValid() || a.IsMulticast() || a.IsUnspecified() ||
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// private tells of addresses that mean something else in every network: a stranger's DNS has no business naming them.
func private(a netip.Addr) bool {
	if a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() {
		return true
	}
	if a.Is4() {
		b := a.As4()
		switch {
		case b[0] == 0, // "this network", RFC 1122: Linux takes it for itself
			b[0] == 100 && b[1]&0xc0 == 64,        // carrier NAT, RFC 6598
			b[0] == 192 && b[1] == 0 && b[2] == 0, // RFC 6890
			b[0] == 198 && b[1]&0xfe == 18,        // benchmarks, RFC 2544
			b[0] >= 240:                           // reserved
			return true
		}
		return false
	}
	b := a.As16()
	return b[0] == 0xfe && b[1]&0xc0 == 0xc0 // site-local, RFC 3879
}

// embedded returns the IPv4 address that an IPv6 address leads to: NAT64 (RFC 6052), 6to4 (RFC 3056) and the old
// IPv4-compatible form. The mapped form is unmapped before.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	tail := netip.AddrFrom4([4]byte(b[12:]))
	switch {
	case [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b}: // 64:ff9b::/96
		return tail, true
	case [6]byte(b[:6]) == [6]byte{0, 0x64, 0xff, 0x9b, 0, 1}: // 64:ff9b:1::/48, RFC 8215: for local use
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	case b[0] == 0x20 && b[1] == 0x02: // 2002::/16
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case [12]byte(b[:12]) == [12]byte{} && !a.IsLoopback() && !a.IsUnspecified(): // ::/96
		return tail, true
	}
	return netip.Addr{}, false
}

// localFresh is how long the list of this machine's addresses is believed.
const localFresh = time.Minute

func (g *Guard) isOwn(a netip.AddrPort) bool {
	for _, o := range g.own {
		if o == a {
			return true
		}
	}
	if !g.anyPort[a.Port()] {
		return false
	}
	if a.Addr().IsLoopback() || a.Addr().IsUnspecified() {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mine == nil || clock.Since(g.asOf) > localFresh {
		g.mine, g.asOf = map[netip.Addr]bool{}, clock.Wall()
		addrs, _ := g.local() // without the list, what remains are the private ranges and the listeners by address
		for _, n := range addrs {
			if p, err := netip.ParsePrefix(n.String()); err == nil {
				g.mine[p.Addr().WithZone("").Unmap()] = true
			}
		}
	}
	return g.mine[a.Addr()]
}
