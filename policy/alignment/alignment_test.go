package alignment

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
)

// zone is a small DNS: "name TYPE" to values. Types are TXT, A, MX and PTR; the value "?" is not known.
type zone map[string][]string

// Lookup implements Records.
func (z zone) Lookup(q Question) (a Answer, ok bool) {
	values := z[q.Name+" "+[...]string{"TXT", "A", "MX", "PTR"}[q.Type]]
	if slices.Contains(values, "?") {
		return a, false
	}
	switch q.Type {
	case TXT:
		a.Texts = values
	case Hosts:
		for _, v := range values {
			a.Addrs = append(a.Addrs, netip.MustParseAddr(v))
		}
	default:
		a.Names = values
	}
	return a, true
}

// with is z with more.
func (z zone) with(name string, values ...string) zone {
	z = maps.Clone(z)
	z[name] = values
	return z
}

func mustKey(t testing.TB, bits int) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

// TestCheck: each rule finds its fault alone, with what to do about it, and is silent where the DNS does not tell.
func TestCheck(t *testing.T) {
	good := zone{
		"192.0.2.7 PTR": {"relay1.shop.example."}, "relay1.shop.example A": {"192.0.2.7"},
		"192.0.2.8 PTR": {"relay2.shop.example."}, "relay2.shop.example A": {"192.0.2.8"},
		"shop.example MX": {"mx.shop.example"},
		"esp.example A":   {"192.0.2.50"}, "bounce.shop.example A": {"192.0.2.50"},
		"shop.example TXT":               {"v=spf1 ip4:192.0.2.0/24 -all", "something else"},
		"s1._domainkey.shop.example TXT": {mustKey(t, 2048)},
		"_dmarc.shop.example TXT":        {"v=DMARC1; p=quarantine"},
	}
	id := Identity{From: "shop.example", Envelope: "shop.example", Helo: "relay1.shop.example", Signatures: []Signature{{"shop.example", "s1"}},
		Sources: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")}}
	edit := func(f func(*Identity)) Identity {
		c := id
		f(&c)
		return c
	}
	tests := []struct {
		name string
		zone zone
		id   Identity
		want string // rule: text; …
	}{
		{"all is well", good, id, ""},
		{"no PTR", good.with("192.0.2.8 PTR"), id, "ptr: 192.0.2.8 has no name (PTR record)"},
		{"no PTR of both", good.with("192.0.2.7 PTR").with("192.0.2.8 PTR"), id, "ptr: 192.0.2.7 and 1 more has no name (PTR record)"},
		{"PTR leads elsewhere", good.with("relay2.shop.example A", "192.0.2.99"), id, "ptr: 192.0.2.8 is called relay2.shop.example, which does not lead back to it"},
		{"the second of two names leads back", good.with("192.0.2.8 PTR", "stray.example", "relay2.shop.example"), id, ""},
		{"PTR not known", good.with("192.0.2.8 PTR", "?"), id, ""},
		{"forward not known", good.with("relay2.shop.example A", "?"), id, ""},
		{"EHLO without address", good, edit(func(i *Identity) { i.Helo = "gone.shop.example" }), "helo: the EHLO name gone.shop.example has no address"},
		{"EHLO of one label", good, edit(func(i *Identity) { i.Helo = "relay" }), `helo: the EHLO name "relay" is not a full domain name`},
		{"a sender that is nowhere", good.with("shop.example MX"), id, "sender: the envelope sender's domain shop.example has neither MX nor address"},
		{"a sender with an address", good.with("shop.example MX").with("shop.example A", "192.0.2.50"), id, ""},
		{"a sender of whom nobody knows", good.with("shop.example MX", "?"), id, ""},
		{"no SPF", good.with("shop.example TXT"), id, "spf: shop.example has no SPF record"},
		{"SPF without one", good.with("shop.example TXT", "v=spf1 ip4:192.0.2.7 ~all"), id, "spf: the SPF record of shop.example does not allow 192.0.2.8 (softfail)"},
		{"two SPF records", good.with("shop.example TXT", "v=spf1 +all", "v=spf1 -all"), id,
			"spf: the SPF record of shop.example cannot be evaluated: shop.example has 2 SPF records, which counts as none"},
		{"SPF not known", good.with("shop.example TXT", "?"), id, ""},
		{"null sender: the EHLO name's SPF", good.with("relay1.shop.example TXT", "v=spf1 a -all"), edit(func(i *Identity) { i.Envelope = "" }),
			"spf: the SPF record of relay1.shop.example does not allow 192.0.2.8 (fail)"},
		{"not signed", good, edit(func(i *Identity) { i.Signatures = nil }), "dkim: the message has no DKIM signature"},
		{"no key", good.with("s1._domainkey.shop.example TXT"), id, "dkim: the key s1._domainkey.shop.example does not count: no key is published"},
		{"revoked", good.with("s1._domainkey.shop.example TXT", "v=DKIM1; p="), id, "dkim: the key s1._domainkey.shop.example does not count: the key is revoked (empty p=)"},
		{"key not known", good.with("s1._domainkey.shop.example TXT", "?"), id, ""},
		{"no DMARC", good.with("_dmarc.shop.example TXT"), id, "dmarc: shop.example has no DMARC record"},
		{"two DMARC", good.with("_dmarc.shop.example TXT", "v=DMARC1; p=none", "v=DMARC1;p=none"), id, "dmarc: _dmarc.shop.example has 2 DMARC records, which counts as none"},
		{"bad DMARC", good.with("_dmarc.shop.example TXT", "v=DMARC1; p=maybe"), id, `dmarc: p= must be none, quarantine or reject, and is "maybe"`},
		{"DMARC not known", good.with("_dmarc.shop.example TXT", "?"), id, ""},
		{"aligned by the signature alone", good.with("esp.example TXT", "v=spf1 ip4:192.0.2.0/24 -all"), edit(func(i *Identity) { i.Envelope = "esp.example" }), ""},
		{"aligned by SPF alone", good.with("k._domainkey.esp.example TXT", mustKey(t, 1024)), edit(func(i *Identity) { i.Signatures = []Signature{{"esp.example", "k"}} }), ""},
		{"aligned by neither", good.with("esp.example TXT", "v=spf1 ip4:192.0.2.0/24 -all").with("k._domainkey.esp.example TXT", mustKey(t, 1024)),
			edit(func(i *Identity) { i.Envelope, i.Signatures = "esp.example", []Signature{{"esp.example", "k"}} }),
			"dmarc: neither SPF nor a signature speaks for shop.example, so its policy quarantine counts against the message"},
		{"a sub-domain is aligned", good.with("bounce.shop.example TXT", "v=spf1 ip4:192.0.2.0/24 -all"),
			edit(func(i *Identity) {
				i.Envelope, i.Signatures[0] = "bounce.shop.example", Signature{"shop.example", "s1"}
			}), ""},
		{"a sub-domain is not aligned strictly", good.with("bounce.shop.example TXT", "v=spf1 ip4:192.0.2.0/24 -all").
			with("s1._domainkey.x.shop.example TXT", mustKey(t, 1024)).with("_dmarc.shop.example TXT", "v=DMARC1; p=reject; aspf=s; adkim=s"),
			edit(func(i *Identity) {
				i.Envelope, i.Signatures = "bounce.shop.example", []Signature{{"x.shop.example", "s1"}}
			}),
			"dmarc: neither SPF nor a signature speaks for shop.example, so its policy reject counts against the message"},
		{"the organization's policy", good.with("s1._domainkey.x.example TXT", mustKey(t, 1024)).with("_dmarc.shop.example TXT", "v=DMARC1; p=reject; sp=none; aspf=s"),
			edit(func(i *Identity) { i.From, i.Signatures = "news.shop.example", []Signature{{"x.example", "s1"}} }),
			"dmarc: neither SPF nor a signature speaks for news.shop.example, so its policy none counts against the message"},
		{"private addresses are nobody's business", zone{"shop.example A": {"192.0.2.50"}, "_dmarc.shop.example TXT": {"v=DMARC1; p=none"}, "s1._domainkey.shop.example TXT": good["s1._domainkey.shop.example TXT"]},
			edit(func(i *Identity) {
				i.Sources = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("10.0.0.1"), {}}
			}), ""},
		{"what others publish is not printed", good.with("shop.example TXT", "v=spf1 redirect=b\xff\x1b[1m"), id,
			"spf: the SPF record of shop.example cannot be evaluated: shop.example names b????[1m, which has no SPF record"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.id.Signatures = slices.Clone(tt.id.Signatures)
			var got []string
			for _, f := range Check(tt.zone, tt.id) {
				got = append(got, f.Rule+": "+f.Text)
				if f.Advice == "" || f.Code.Class != 5 || f.Code.Subject != 7 && f.Rule != RuleFrom {
					t.Errorf("%+v", f)
				}
			}
			if s := strings.Join(got, "; "); s != tt.want {
				t.Errorf("found %q\nwant  %q", s, tt.want)
			}
		})
	}
}

// TestNothingKnown: where no question has an answer, nothing is held against anybody but what the message itself shows.
func TestNothingKnown(t *testing.T) {
	id := Identity{From: "a.example", Envelope: "b.example", Helo: "c.example", Signatures: []Signature{{"d.example", "s"}}, Sources: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	if found := Check(silent{}, id); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// silent knows nothing.
type silent struct{}

func (silent) Lookup(Question) (Answer, bool) { return Answer{}, false }

func TestParseKey(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	short := b64([]byte{0x30, 0x1b, 0x02, 0x14, 0x7f, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0x02, 0x03, 1, 0, 1})
	tests := []struct {
		name, record, want string
		bits               int
	}{
		{"RSA", mustKey(t, 2048), "", 2048},
		{"RSA of PKCS #1", "p=" + b64(x509.MarshalPKCS1PublicKey(&pkcs1.PublicKey)), "", 1024},
		{"Ed25519", "v=DKIM1;k=ed25519;p=" + b64(public), "", 0},
		{"white space inside", "k=ed25519; p=" + b64(public)[:20] + " \t" + b64(public)[20:], "", 0},
		{"another service", "s=other; p=AAAA", "not for mail", 0},
		{"all services", "s=other:*; k=ed25519; p=" + b64(public), "", 0},
		{"another version", "v=DKIM2; p=AAAA", "is not DKIM1", 0},
		{"another kind", "k=dsa; p=AAAA", "neither rsa nor ed25519", 0},
		{"no base64", "p=!!", "no base64", 0},
		{"no key", "p=AAAA", "no RSA key", 0},
		{"a short key", "p=" + short, "bits, at least 1024", 0},
		{"a short Ed25519 key", "k=ed25519; p=AAAA", "of 3 octets", 0},
		{"nothing", "hello", "no p=", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := ParseKey([]string{tt.record})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if err == nil && (k.Public == nil || k.Bits != tt.bits) {
				t.Errorf("%+v", k)
			}
		})
	}
	if _, err := ParseKey([]string{"p=AAAA", "p=AAAA"}); err == nil {
		t.Error("two records count")
	}
}

func TestSignatures(t *testing.T) {
	sig := func(tags string) string { return "DKIM-Signature: v=1; a=rsa-sha256;\r\n " + tags + "\r\n" }
	msg := sig("d=a.example; s=s1; h=from; b=x") + "Subject: x\r\n" + sig("d=; s=s1") + sig("s=only") + sig("d=bad..name; s=x") + sig("d=b.example;s=t.u") +
		strings.Repeat(sig("d=c.example; s=s"), 5) + "\r\n" + sig("d=body.example; s=s")
	want := []Signature{{"a.example", "s1"}, {"b.example", "t.u"}, {"c.example", "s"}, {"c.example", "s"}}
	if got := Signatures([]byte(msg)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := Signers([]byte(msg)), "a.example,b.example,c.example"; got != want {
		t.Errorf("signers %q, want %q", got, want)
	}
}

func TestOrganization(t *testing.T) {
	for d, want := range map[mail.Domain]mail.Domain{"a.b.shop.example": "shop.example", "x.shop.co.jp": "shop.co.jp", "co.jp": "co.jp", "shop.example": "shop.example"} {
		if got := Organization(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

func FuzzSignatures(f *testing.F) {
	f.Add([]byte("DKIM-Signature: d=a.example; s=x\r\n\r\n"))
	f.Add([]byte("dkim-signature:;;==;d=\r\n"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, s := range Signatures(msg) {
			if s.Domain == "" || s.Selector == "" {
				t.Fatalf("%+v", s)
			}
		}
	})
}
