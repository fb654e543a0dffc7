package node

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/ekiden-mta/ekiden/policy/settings"
)

// TestPoolsOfAMember: the settings name the sources of all members; each sends from its own (contract 11).
func TestPoolsOfAMember(t *testing.T) {
	const pools = `tenants: [{name: t, compositions: [{name: c, networks: [127.0.0.0/8]}]}]
pools: [{name: default, sources: [192.0.2.1, 192.0.2.2]}, {name: bulk, sources: [192.0.2.3]}, {name: empty}]`
	for _, row := range []struct {
		name   string
		own    []string
		shared bool
		want   map[string][]string
	}{
		{"alone", []string{"192.0.2.1"}, false, map[string][]string{"default": {"192.0.2.1", "192.0.2.2"}, "bulk": {"192.0.2.3"}, "empty": nil}},
		{"a member that names none", nil, true, map[string][]string{"default": {"192.0.2.1", "192.0.2.2"}, "bulk": {"192.0.2.3"}, "empty": nil}},
		{"some of both", []string{"192.0.2.2", "192.0.2.3"}, true, map[string][]string{"default": {"192.0.2.2"}, "bulk": {"192.0.2.3"}, "empty": nil}},
		{"some that no pool names", []string{"192.0.2.2", "192.0.2.9"}, true, map[string][]string{"default": {"192.0.2.2"}, "bulk": {"192.0.2.9"}, "empty": nil}},
		{"none for a pool", []string{"192.0.2.2"}, true, map[string][]string{"default": {"192.0.2.2"}, "bulk": {"192.0.2.3"}, "empty": nil}},
	} {
		s, err := settings.Decode([]byte(pools), nil)
		if err != nil {
			t.Fatal(err)
		}
		index, err := settings.NewIndex(s)
		if err != nil {
			t.Fatal(err)
		}
		var own []netip.Addr
		for _, a := range row.own {
			own = append(own, netip.MustParseAddr(a))
		}
		got := poolsOf(s, index, own, row.shared)
		for pool, want := range row.want {
			var have []string
			for _, a := range got[pool] {
				have = append(have, a.String())
			}
			if !slices.Equal(have, want) {
				t.Errorf("%s: pool %s has %v, want %v", row.name, pool, have, want)
			}
		}
	}
}
