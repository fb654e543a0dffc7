package alignment

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
)

// TestSPF evaluates records as RFC 7208 has it.
func TestSPF(t *testing.T) {
	z := zone{
		"mx.d.example A":                   {"192.0.2.10"},
		"d.example A":                      {"192.0.2.1", "2001:db8::1"},
		"d.example MX":                     {"mx.d.example"},
		"pass.example TXT":                 {"v=spf1 +all"},
		"deny.example TXT":                 {"v=spf1 -all"},
		"loop.example TXT":                 {"v=spf1 include:loop.example"},
		"late.example TXT":                 {"?"},
		"192.0.2.1 PTR":                    {"host.d.example"},
		"host.d.example A":                 {"192.0.2.1"},
		"1.2.0.192.in-addr.list.example A": {"127.0.0.2"},
		"192.0.2.1.ok.d.example A":         {"127.0.0.2"},
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.list.example A": {"127.0.0.2"},
	}
	many := strings.Repeat(" exists:%{i}.ok.d.example", 11)
	hosts := make([]string, 11)
	for i := range hosts {
		hosts[i] = "mx.d.example"
	}
	z["many.example MX"] = hosts
	tests := []struct {
		name, record, ip string
		want             Verdict
		why              string
	}{
		{"all", "v=spf1 +all", "192.0.2.1", Pass, ""},
		{"nothing matches", "v=spf1", "192.0.2.1", Neutral, ""},
		{"no record", "v=spf10 +all", "192.0.2.1", None, ""},
		{"any case", "V=SPF1 IP4:192.0.2.1 -ALL", "192.0.2.1", Pass, ""},
		{"softfail", "v=spf1 ~all", "192.0.2.1", SoftFail, ""},
		{"neutral", "v=spf1 ?all", "192.0.2.1", Neutral, ""},
		{"the first counts", "v=spf1 -ip4:192.0.2.1 +all", "192.0.2.1", Fail, ""},
		{"ip4", "v=spf1 ip4:192.0.2.0/28 -all", "192.0.2.15", Pass, ""},
		{"outside ip4", "v=spf1 ip4:192.0.2.0/28 -all", "192.0.2.16", Fail, ""},
		{"ip6", "v=spf1 ip6:2001:db8::/32 -all", "2001:db8::9", Pass, ""},
		{"a", "v=spf1 a -all", "192.0.2.1", Pass, ""},
		{"a of IPv6", "v=spf1 a -all", "2001:db8::1", Pass, ""},
		{"a with length", "v=spf1 a/24 -all", "192.0.2.200", Pass, ""},
		{"a with two lengths", "v=spf1 a:d.example/32//64 -all", "2001:db8::ffff", Pass, ""},
		{"a with the IPv6 length only", "v=spf1 a//64 -all", "2001:db8::ffff", Pass, ""},
		{"a without match", "v=spf1 a -all", "192.0.2.2", Fail, ""},
		{"mx", "v=spf1 mx -all", "192.0.2.10", Pass, ""},
		{"mx with length", "v=spf1 mx:d.example/28 -all", "192.0.2.3", Pass, ""},
		{"too many mx", "v=spf1 mx:many.example -all", "192.0.2.3", PermError, "more than 10 mail hosts"},
		{"ptr", "v=spf1 ptr -all", "192.0.2.1", Pass, ""},
		{"ptr of another", "v=spf1 ptr:other.example -all", "192.0.2.1", Fail, ""},
		{"exists", "v=spf1 exists:%{ir}.%{v}.list.example -all", "192.0.2.1", Pass, ""},
		{"exists of IPv6", "v=spf1 exists:%{ir}.%{v}.list.example -all", "2001:db8::1", Pass, ""},
		{"exists not", "v=spf1 exists:%{ir}.%{v}.list.example -all", "192.0.2.2", Fail, ""},
		{"parts of a macro", "v=spf1 exists:%{i}.ok.%{d2} -all", "192.0.2.1", Pass, ""},
		{"a macro of the message", "v=spf1 exists:%{l}.list.example -all", "192.0.2.1", Unknown, ""},
		{"a macro that is none", "v=spf1 exists:%{q}.list.example -all", "192.0.2.1", PermError, "no macro"},
		{"a macro without end", "v=spf1 exists:%{i -all", "192.0.2.1", PermError, "without end"},
		{"a stray percent", "v=spf1 exists:100%.example -all", "192.0.2.1", PermError, "no macro"},
		{"include", "v=spf1 include:pass.example -all", "192.0.2.1", Pass, ""},
		{"include of a denial goes on", "v=spf1 include:deny.example ~all", "192.0.2.1", SoftFail, ""},
		{"include of nothing", "v=spf1 include:none.example -all", "192.0.2.1", PermError, "none.example, which has no SPF record"},
		{"include of what is not known", "v=spf1 include:late.example +all", "192.0.2.1", Unknown, ""},
		{"what is not known is not reached", "v=spf1 ip4:192.0.2.1 include:late.example", "192.0.2.1", Pass, ""},
		{"redirect", "v=spf1 redirect=deny.example", "192.0.2.1", Fail, ""},
		{"redirect behind all", "v=spf1 ~all redirect=deny.example", "192.0.2.1", SoftFail, ""},
		{"a loop", "v=spf1 include:loop.example", "192.0.2.1", PermError, "more than 10 terms"},
		{"too many terms", "v=spf1" + many + " -all", "192.0.2.2", PermError, "more than"},
		{"too many voids", "v=spf1 a:x.example a:y.example a:z.example +all", "192.0.2.1", PermError, "more than 2 terms name"},
		{"modifiers of others", "v=spf1 exp=%{d}.example moo=1 +all", "192.0.2.1", Pass, ""},
		{"no term", "v=spf1 ipv4:192.0.2.1 -all", "192.0.2.1", PermError, "a term that is none"},
		{"no network", "v=spf1 ip4:192.0.2.0/33 -all", "192.0.2.1", PermError, "is no network"},
		{"no length", "v=spf1 a/64 -all", "192.0.2.1", PermError, "prefix length"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, why := SPF(z.with("d.example TXT", tt.record), "d.example", netip.MustParseAddr(tt.ip))
			if v != tt.want || !strings.Contains(why, tt.why) || (why == "") != (tt.why == "") {
				t.Errorf("%s %q, want %s %q", v, why, tt.want, tt.why)
			}
		})
	}
}

// FuzzSPF: a record of any form ends with a verdict, after a bounded number of questions.
func FuzzSPF(f *testing.F) {
	f.Add("v=spf1 a/24//64 mx include:b.example exists:%{ir2-}.x ?all redirect=%{d}", "192.0.2.1")
	f.Add("v=spf1 %{ exists:%", "::1")
	f.Fuzz(func(t *testing.T, record, ip string) {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return
		}
		z := counted{zone: zone{"d.example TXT": {"v=spf1 " + record}, "b.example TXT": {"v=spf1 include:d.example"}, "b.example A": {"192.0.2.1"}}}
		SPF(&z, mail.Domain("d.example"), a)
		if z.asked > 2+maxTerms*(2+maxHosts) {
			t.Fatalf("%d questions", z.asked)
		}
	})
}

// counted counts questions.
type counted struct {
	zone
	asked int
}

func (c *counted) Lookup(q Question) (Answer, bool) {
	c.asked++
	return c.zone.Lookup(q)
}
