package standing

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/alignment"
)

// zone is a sender without fault but for its DMARC record, behind an SPF record of several steps.
func zone() dnstest.Zone {
	return dnstest.Zone{TTL: 600,
		PTR: map[string][]string{"192.0.2.7": {"relay.shop.test"}},
		A:   map[string][]string{"relay.shop.test": {"192.0.2.7"}, "mx.shop.test": {"192.0.2.7"}, "shop.test": {"192.0.2.7"}},
		MX:  map[string][]dnstest.MX{"hosts.shop.test": {{Pref: 1, Host: "mx.shop.test"}}},
		TXT: map[string][]string{
			"shop.test":                 {"v=spf1 include:inner.shop.test -all"},
			"inner.shop.test":           {"v=spf1 mx:hosts.shop.test -all"},
			"k._domainkey.shop.test":    {"k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
			"neutral.test":              {"v=spf1 mx -all"},
			"_dmarc.neutral.test":       {"v=DMARC1; p=none"},
			"k._domainkey.neutral.test": {"k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
		}}
}

func identity(d mail.Domain) alignment.Identity {
	return alignment.Identity{From: d, Envelope: d, Helo: "relay.shop.test", Signatures: []alignment.Signature{{Domain: d, Selector: "k"}},
		Sources: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
}

func mustBook(t *testing.T, z dnstest.Zone) (*Book, *dnstest.Server) {
	t.Helper()
	s := dnstest.Start(t, z)
	r, err := dns.New(dns.Config{Servers: []string{s.Addr}, Timeout: 300 * time.Millisecond, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	b := New(r)
	t.Cleanup(b.Close)
	return b, s
}

func rules(found []alignment.Finding) string {
	var out []string
	for _, f := range found {
		out = append(out, f.Rule)
	}
	return strings.Join(out, " ")
}

// TestJudge: the first message is not judged and does not wait; once the DNS has answered, over real packets and in as many
// steps as the records need, later ones are, without a further question.
func TestJudge(t *testing.T) {
	b, s := mustBook(t, zone())
	if found := b.Judge(identity("shop.test")); found != nil {
		t.Fatalf("judged without an answer: %v", found)
	}
	b.work.Wait()
	if got := rules(b.Judge(identity("shop.test"))); got != "dmarc" {
		t.Errorf("found %q", got)
	}
	for range 100 {
		b.Judge(identity("shop.test"))
	}
	b.work.Wait()
	for _, q := range []string{"shop.test TXT", "inner.shop.test TXT", "hosts.shop.test MX", "mx.shop.test A", "k._domainkey.shop.test TXT", "_dmarc.shop.test TXT"} {
		if n := s.Asked(q); n != 1 {
			t.Errorf("%s was asked %d times", q, n)
		}
	}
}

// TestNoImplicitMX: a domain without MX that has an address is no mail host of its own to SPF (RFC 7208 §5.4).
func TestNoImplicitMX(t *testing.T) {
	z := zone()
	z.A["neutral.test"] = []string{"192.0.2.7"}
	b, _ := mustBook(t, z)
	found, _ := b.Look(t.Context(), identity("neutral.test"))
	if rules(found) != "spf" {
		t.Errorf("found %v", found)
	}
}

// TestTroubleIsNoFault: where servers do not answer or fail, nothing is held against the sender, and it is asked again soon.
func TestTroubleIsNoFault(t *testing.T) {
	for name, spoil := range map[string]func(*dnstest.Zone){
		"SERVFAIL": func(z *dnstest.Zone) {
			z.Rcode = map[string]int{"inner.shop.test": 2, "_dmarc.shop.test": 2, "k._domainkey.shop.test": 2, "7.2.0.192.in-addr.arpa": 2, "relay.shop.test": 2}
		},
		"silence": func(z *dnstest.Zone) {
			z.Silent = map[string]bool{"inner.shop.test": true, "_dmarc.shop.test": true, "k._domainkey.shop.test": true, "7.2.0.192.in-addr.arpa": true, "relay.shop.test": true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			z := zone()
			spoil(&z)
			b, _ := mustBook(t, z)
			found, fresh := b.Look(t.Context(), identity("shop.test"))
			if len(found) > 0 || fresh != freshLeft {
				t.Errorf("found %v, kept for %s", found, fresh)
			}
		})
	}
}

// TestFreshness: a good standing lasts as long as the DNS says, a bad one for a minute at most.
func TestFreshness(t *testing.T) {
	z := zone()
	b, s := mustBook(t, z)
	if found, fresh := b.Look(t.Context(), identity("shop.test")); len(found) != 1 || fresh != freshBad {
		t.Errorf("bad: %v, %s", found, fresh)
	}
	s.Set(func(z *dnstest.Zone) { z.TXT["_dmarc.other.test"] = []string{"v=DMARC1; p=none"} })
	id := identity("shop.test")
	id.From, id.Signatures[0] = "other.test", alignment.Signature{Domain: "other.test", Selector: "k"}
	s.Set(func(z *dnstest.Zone) { z.TXT["k._domainkey.other.test"] = z.TXT["k._domainkey.shop.test"] })
	if found, fresh := b.Look(t.Context(), id); len(found) != 0 || fresh < 9*time.Minute || fresh > 10*time.Minute {
		t.Errorf("good: %v, %s", found, fresh)
	}
}

// TestBounds: neither what is kept nor what is asked at once grows without end.
func TestBounds(t *testing.T) {
	z := zone()
	z.Silent = map[string]bool{"relay.shop.test": true}
	b, _ := mustBook(t, z)
	for i := range 2 * maxKept {
		b.Judge(identity(mail.Domain(fmt.Sprintf("d%d.test", i))))
	}
	b.mu.Lock()
	kept, under := len(b.kept), b.under
	b.mu.Unlock()
	if under > maxUnder || kept > maxKept+maxUnder {
		t.Errorf("%d kept, %d looked up at once", kept, under)
	}
	b.work.Wait()
	for i := range 2 * maxKept {
		b.mu.Lock()
		b.makeRoom(time.Now())
		b.kept[fmt.Sprint(i)] = &entry{}
		b.mu.Unlock()
	}
	if len(b.kept) > maxKept {
		t.Errorf("%d kept", len(b.kept))
	}
	b.Close()
	if b.Judge(identity("late.test")); b.under != 0 {
		t.Error("a closed book asks")
	}
}

func BenchmarkJudge(b *testing.B) {
	book := New(nil)
	id := identity("shop.test")
	book.kept[string(appendKey(nil, &id))] = &entry{until: time.Now().Add(time.Hour)}
	b.ReportAllocs()
	for b.Loop() {
		book.Judge(id)
	}
}
