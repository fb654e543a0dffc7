package node_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
)

// TestAlignment: what the DNS says of a sender is held against its mail where the tenant asks for it, once it is known: with
// a note, or with a refusal that names the fault and the remedy; never before, and never where servers give no answer (N19).
func TestAlignment(t *testing.T) {
	for _, tt := range []struct {
		name, setting string
		spoil         func(*dnstest.Zone)
		want          string // of the reply or the note; "" = taken without a word
	}{
		{"warned", "warn", func(*dnstest.Zone) {}, "warning: ptr: 192.0.2.8 has no name"},
		{"refused", "refuse", func(*dnstest.Zone) {}, "550 5.7.25 192.0.2.8 has no name (PTR record): have the owner"},
		{"off", "off", func(*dnstest.Zone) {}, ""},
		{"nothing wrong", "refuse", func(z *dnstest.Zone) { z.PTR["192.0.2.8"] = []string{"relay.shop.test"} }, ""},
		{"servers fail", "refuse", func(z *dnstest.Zone) { z.Rcode = map[string]int{"8.2.0.192.in-addr.arpa": 2} }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			z := dnstest.Zone{TTL: 600,
				PTR: map[string][]string{"192.0.2.7": {"relay.shop.test"}},
				A:   map[string][]string{"relay.shop.test": {"192.0.2.7", "192.0.2.8"}, "shop.test": {"192.0.2.7"}},
				TXT: map[string][]string{
					"shop.test":              {"v=spf1 a:relay.shop.test -all"},
					"_dmarc.shop.test":       {"v=DMARC1; p=reject"},
					"k._domainkey.shop.test": {"k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
				}}
			tt.spoil(&z)
			names := dnstest.Start(t, z)
			sink := startReceiver(t, "127.0.0.1:0", nil)
			r := newRigWith(t, to(sink), "", func(s string) string {
				s = strings.Replace(s, "name: shop,", "name: shop, alignment: "+tt.setting+",", 1)
				s = strings.Replace(s, "name: main,", "name: main, pool: public,", 1)
				return s + "pools: [{name: default}, {name: public, sources: [192.0.2.7, 192.0.2.8]}]\n"
			}, func(s string) string {
				return s + fmt.Sprintf("dns: {servers: ['%s'], timeout: 300ms}\n", names.Addr)
			}, func(s string) string {
				return strings.Replace(s, "delivery: {", "delivery: {helo: relay.shop.test, ", 1)
			})
			c := r.session()
			n := 0
			send := func() string {
				n++
				return c.send("sender@shop.test", text("DKIM-Signature: v=1; d=shop.test; s=k; h=from; b=AAAA\n"), fmt.Sprintf("u%d@x.test", n))
			}
			if a := send(); a[:3] != "250" {
				t.Fatalf("the first message was judged before anything was known: %s", a)
			}
			if tt.setting != "off" {
				mustBecome(t, "looked up", func() bool {
					return names.Asked("_dmarc.shop.test TXT") > 0 && names.Asked("8.2.0.192.in-addr.arpa PTR") > 0
				})
			}
			heard := func() string {
				a := send()
				if a[:3] != "250" {
					return a
				}
				return r.events(fmt.Sprintf("to=u%d@x.test", n))[0].Detail
			}
			if tt.want != "" {
				mustBecome(t, tt.want, func() bool { return strings.HasPrefix(heard(), tt.want) })
				return
			}
			for range 20 {
				if got := heard(); got != "" {
					t.Fatalf("heard %q", got)
				}
			}
			if tt.setting == "off" && names.Asked("_dmarc.shop.test TXT") > 0 {
				t.Error("the DNS was asked although nobody wants it")
			}
		})
	}
}
