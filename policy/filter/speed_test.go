package filter_test

import (
	"regexp"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
)

func TestSpeed(t *testing.T) { // R40, E-27
	re := func(p string) []*regexp.Regexp { return []*regexp.Regexp{regexp.MustCompile("^(?:" + p + ")$")} }
	var x filter.Traffic
	x.AddSpeed(filter.Speed{Tenant: "a", Name: "first", Patterns: append(re(`.+@one\.example`), re(`vip@.+`)...)})
	x.AddSpeed(filter.Speed{Tenant: "a", Name: "second", Patterns: re(`.+@.+\.example`)})
	x.AddSpeed(filter.Speed{Tenant: "a", Name: "hosts", Patterns: re(`mx\d\.big\.example`), HostName: true})
	hosts := []mail.Host{{Name: "mx1.big.example"}, {Name: "backup.example"}}
	for _, row := range []struct {
		tenant string
		to     mail.Address
		hosts  []mail.Host
		want   string
	}{
		{"a", "u@one.example", nil, "first"},
		{"a", "vip@elsewhere.test", nil, "first"},
		{"a", "u@two.example", nil, "second"},
		{"a", "u@two.example.test", nil, ""},
		{"a", "u@elsewhere.test", nil, ""},
		{"a", "u@elsewhere.test", hosts, "hosts"},
		{"a", "u@elsewhere.test", hosts[1:], ""},
		{"b", "u@one.example", hosts, ""},
	} {
		got := ""
		if s := x.Speed(row.tenant, row.to, row.hosts); s != nil {
			got = s.Name
		}
		if got != row.want {
			t.Errorf("%s to %s at %v: filter %q, want %q", row.tenant, row.to, row.hosts, got, row.want)
		}
	}
	var none *filter.Traffic
	if none.Speed("a", "u@one.example", hosts) != nil || none.ByHosts() {
		t.Error("no filters match")
	}
}
