package settings

import (
	"net/netip"
	"strings"
	"testing"
)

func mustIndex(t *testing.T, src string) *Index {
	t.Helper()
	x, err := NewIndex(mustDecode(t, src))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

const twoTenants = `
tenants:
  - name: a
    compositions:
      - {name: wide, networks: [10.0.0.0/8, "2001:db8::/32"]}
      - {name: one, networks: [10.1.2.3], from_domains: [Shop.example, news.shop.example]}
      - {name: twice, networks: [10.1.0.0/16, 10.1.2.3/32]}
  - name: b
    compositions:
      - name: one
        networks: [10.1.2.3/32]
        users: [{name: app, secret_hash: "argon2id:$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"}]
        priority: [{name: p, header: X-P, pattern: high|higher, priority: 90}]
pools: [{name: fast, sources: [127.0.0.2, "::1"]}]
`

func TestByNetwork(t *testing.T) {
	x := mustIndex(t, twoTenants)
	tests := []struct{ name, addr, want string }{
		{"longest first, file order among equals", "10.1.2.3", "a/one a/twice b/one a/wide"},
		{"mapped into IPv6", "::ffff:10.1.2.3", "a/one a/twice b/one a/wide"},
		{"shorter ones", "10.1.9.9", "a/twice a/wide"},
		{"shortest only", "10.9.9.9", "a/wide"},
		{"IPv6", "2001:db8::7", "a/wide"},
		{"IPv6 with zone", "2001:db8::7%eth0", "a/wide"},
		{"nobody", "192.0.2.1", ""},
		{"invalid", "", ""},
	}
	for range 2 { // a look-up must not disturb the next
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				addr, _ := netip.ParseAddr(tt.addr)
				var got []string
				for _, m := range x.ByNetwork(addr) {
					got = append(got, m.Tenant.Name+"/"+m.Composition.Name)
				}
				if strings.Join(got, " ") != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestIndex(t *testing.T) {
	x := mustIndex(t, twoTenants)
	if m, u := x.ByUser("app"); m == nil || m.Tenant.Name != "b" || u.Name != "app" || len(u.Permissions) != 2 {
		t.Errorf("user: %v, %v", m, u)
	}
	if m, u := x.ByUser("App"); m != nil || u != nil {
		t.Error("names of users are exact")
	}
	m := x.Composition("a", "one")
	if m == nil || !m.AllowsFrom("shop.example") || !m.AllowsFrom("news.shop.example") || m.AllowsFrom("x.shop.example") || m.AllowsFrom("") {
		t.Errorf("FROM domains of %+v", m)
	}
	if m := x.Composition("a", "wide"); !m.AllowsFrom("any.example") || !m.AllowsFrom("") {
		t.Error("no FROM domains: any")
	}
	if x.Composition("b", "wide") != nil || len(x.Members()) != 4 {
		t.Error("compositions belong to their tenant")
	}
	for _, tt := range []struct {
		header string
		want   uint8
	}{{"X-P: higher\r\n", 90}, {"X-P: highest\r\n", 0}} {
		v := x.Composition("b", "one").Filters.Read([]byte(tt.header))
		if got := v.Priority("a@b.example"); got != tt.want {
			t.Errorf("%q: priority %d, not %d", tt.header, got, tt.want)
		}
	}
	if p, ok := x.Pool("fast"); !ok || len(p) != 2 || p[0] != netip.MustParseAddr("127.0.0.2") {
		t.Errorf("pool %v", p)
	}
	if p, ok := x.Pool(DefaultName); !ok || len(p) != 0 {
		t.Errorf("default pool %v, %v", p, ok)
	}
	if _, ok := x.Pool("none"); ok {
		t.Error("a pool that is not there")
	}
}

func TestDefaultRelaysForLoopback(t *testing.T) {
	x, err := NewIndex(Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		addr string
		want int
	}{{"127.0.0.1", 1}, {"127.9.9.9", 1}, {"::1", 1}, {"::ffff:127.0.0.1", 1}, {"192.0.2.1", 0}, {"::2", 0}} {
		t.Run(tt.addr, func(t *testing.T) {
			if got := len(x.ByNetwork(netip.MustParseAddr(tt.addr))); got != tt.want {
				t.Errorf("%d compositions", got)
			}
		})
	}
}

// TestAllows: without entries all addresses are allowed; with the first one only what an entry names (R124).
func TestAllows(t *testing.T) {
	for _, row := range []struct {
		name  string
		allow []Allow
		from  string
		want  bool
	}{
		{"no entries", nil, "192.0.2.1", true},
		{"listed", []Allow{{Address: "192.0.2.1", ConsoleAPI: true}}, "192.0.2.1", true},
		{"listed, mapped", []Allow{{Address: "192.0.2.0/24", ConsoleAPI: true}}, "::ffff:192.0.2.9", true},
		{"listed for another thing", []Allow{{Address: "192.0.2.1", Console: true}}, "192.0.2.1", false},
		{"another", []Allow{{Address: "192.0.2.1", ConsoleAPI: true}}, "192.0.2.2", false},
		{"the second entry", []Allow{{Address: "192.0.2.1"}, {Address: "2001:db8::/32", ConsoleAPI: true}}, "2001:db8::1", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := Default()
			s.Allow = row.allow
			x, err := NewIndex(s)
			if err != nil {
				t.Fatal(err)
			}
			if got := x.Allows(netip.MustParseAddr(row.from), func(a *Allow) bool { return a.ConsoleAPI }); got != row.want {
				t.Errorf("%v", got)
			}
		})
	}
}
