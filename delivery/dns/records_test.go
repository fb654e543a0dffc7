package dns

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
)

// TestRecords: TXT and PTR records come over real packets as they were published, in parts and by TCP where they are long.
func TestRecords(t *testing.T) {
	long := "v=DKIM1; p=" + strings.Repeat("A", 600)
	big := strings.Repeat("x", 3000)
	s := dnstest.Start(t, dnstest.Zone{TTL: 300,
		TXT: map[string][]string{
			"short.test": {"v=spf1 -all", `with "quotes" and \ and ;`}, "long.test": {long}, "big.test": {big}, "key.test": {long},
			"huge.test": {strings.Repeat("y", MaxText+1)},
		},
		CNAME: map[string]string{"alias.test": "key.test"},
		PTR:   map[string][]string{"192.0.2.7": {"Relay.Shop.Example", "other.example"}, "2001:db8::7": {"six.example"}},
	})
	r := mustResolver(t, Config{Servers: []string{s.Addr}})
	ctx := t.Context()
	for name, want := range map[string][]string{
		"short.test": {"v=spf1 -all", `with "quotes" and \ and ;`}, "SHORT.test.": {"v=spf1 -all", `with "quotes" and \ and ;`},
		"long.test": {long}, "big.test": {big}, "alias.test": {long}} {
		got, until, err := r.TXT(ctx, name)
		if err != nil || !slices.Equal(got, want) || until.IsZero() {
			t.Errorf("%s: %q, until %s, %v", name, got, until, err)
		}
	}
	if got := unescape(`a\009\"\\\255`); got != "a\t\"\\\xff" {
		t.Errorf("octets: %q", got)
	}
	if s.Asked("tcp big.test TXT") == 0 {
		t.Error("a long answer did not come by TCP")
	}
	if _, _, err := r.TXT(ctx, "none.test"); !errors.Is(err, ErrNoName) {
		t.Errorf("none.test: %v", err)
	}
	if got, _, err := r.TXT(ctx, "huge.test"); len(got) != 0 || !errors.Is(err, ErrNoData) {
		t.Errorf("huge.test: %d, %v", len(got), err)
	}
	for ip, want := range map[string][]string{"192.0.2.7": {"relay.shop.example", "other.example"}, "2001:db8::7": {"six.example"}, "::ffff:192.0.2.7": {"relay.shop.example", "other.example"}} {
		if got, _, err := r.PTR(ctx, netip.MustParseAddr(ip)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", ip, got, err)
		}
	}
	if _, _, err := r.PTR(ctx, netip.MustParseAddr("192.0.2.8")); !errors.Is(err, ErrNoName) {
		t.Errorf("192.0.2.8: %v", err)
	}
	if _, _, err := r.PTR(ctx, netip.Addr{}); !errors.Is(err, ErrNoName) {
		t.Errorf("no address: %v", err)
	}
}
