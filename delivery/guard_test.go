package delivery

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

// TestGuard is table T15 of the threats.
func TestGuard(t *testing.T) {
	for _, tc := range []struct {
		addr            string
		strict, lenient error
	}{
		{"192.0.2.1", nil, nil},
		{"8.8.8.8", nil, nil},
		{"2606:4700::1111", nil, nil},
		{"127.0.0.1", ErrForbidden, nil},
		{"127.255.255.254", ErrForbidden, nil},
		{"::1", ErrForbidden, nil},
		{"0.0.0.0", ErrForbidden, ErrForbidden},
		{"0.1.2.3", ErrForbidden, nil},
		{"::", ErrForbidden, ErrForbidden},
		{"::ffff:127.0.0.1", ErrForbidden, nil},
		{"::ffff:0.0.0.0", ErrForbidden, ErrForbidden},
		{"::ffff:10.1.2.3", ErrForbidden, nil},
		{"::127.0.0.1", ErrForbidden, nil},
		{"169.254.169.254", ErrForbidden, nil},
		{"10.0.0.1", ErrForbidden, nil},
		{"172.16.0.1", ErrForbidden, nil},
		{"172.32.0.1", nil, nil},
		{"192.168.1.1", ErrForbidden, nil},
		{"100.64.0.1", ErrForbidden, nil},
		{"100.127.255.255", ErrForbidden, nil},
		{"100.128.0.1", nil, nil},
		{"198.18.0.1", ErrForbidden, nil},
		{"224.0.0.1", ErrForbidden, ErrForbidden},
		{"ff02::1", ErrForbidden, ErrForbidden},
		{"255.255.255.255", ErrForbidden, ErrForbidden},
		{"240.0.0.1", ErrForbidden, nil},
		{"fc00::1", ErrForbidden, nil},
		{"fdff::1", ErrForbidden, nil},
		{"fe80::1", ErrForbidden, nil},
		{"fec0::1", ErrForbidden, nil},
		{"64:ff9b::7f00:1", ErrForbidden, nil},
		{"64:ff9b::0a00:1", ErrForbidden, nil},
		{"64:ff9b::0808:0808", nil, nil},
		{"64:ff9b:1::1", ErrForbidden, nil},
		{"2002:7f00:1::", ErrForbidden, nil},
		{"2002:a9fe:a9fe::", ErrForbidden, nil},
		{"203.0.113.9", ErrOurselves, ErrOurselves},
		{"::ffff:203.0.113.9", ErrOurselves, ErrOurselves},
		{"64:ff9b::cb00:7109", ErrForbidden, ErrForbidden},
	} {
		own := []netip.AddrPort{netip.MustParseAddrPort("203.0.113.9:25")}
		a := netip.AddrPortFrom(netip.MustParseAddr(tc.addr), 25)
		if err := NewGuard(false, own).Check(a); !errors.Is(err, tc.strict) {
			t.Errorf("%v: %v, want %v", a, err, tc.strict)
		}
		if err := NewGuard(true, own).Check(a); !errors.Is(err, tc.lenient) {
			t.Errorf("%v with allow_private: %v, want %v", a, err, tc.lenient)
		}
	}
}

func TestGuardKnowsAllOurAddresses(t *testing.T) {
	g := NewGuard(true, []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:25")})
	g.local = func() ([]net.Addr, error) {
		_, n, err := net.ParseCIDR("192.0.2.7/32")
		return []net.Addr{n}, err
	}
	for addr, want := range map[string]error{
		"192.0.2.7:25": ErrOurselves, "192.0.2.8:25": nil, "192.0.2.7:2525": nil, "127.0.0.9:25": ErrOurselves, "[::1]:25": ErrOurselves,
	} {
		if err := g.Check(netip.MustParseAddrPort(addr)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", addr, err, want)
		}
	}
}
