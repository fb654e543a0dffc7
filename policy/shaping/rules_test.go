package shaping

import (
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

func mustRules(t *testing.T, extra ...settings.ReceiverRule) *Rules {
	t.Helper()
	r, err := NewRules(extra)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mx(hosts ...string) mail.Route {
	var r mail.Route
	for i, h := range hosts {
		r.Hosts = append(r.Hosts, mail.Host{Name: h, Port: 25, Pref: uint16(10 * i)})
	}
	return r
}

func TestByRoute(t *testing.T) {
	r := mustRules(t)
	tests := []struct {
		name     string
		domain   mail.Domain
		route    mail.Route
		receiver string
		queue    string
	}{
		{"docomo", "docomo.ne.jp", mx("mfsmax.docomo.ne.jp"), "docomo", "docomo"},
		{"docomo sub-domain is pc", "x.docomo.ne.jp", mx("mail.example.net"), "mx:mail.example.net", "pc"},
		{"au", "ezweb.ne.jp", mx("lsean.ezweb.ne.jp"), "au", "ezweb"},
		{"au business sub-domain", "a.biz.ezweb.ne.jp", mx("lsean.ezweb.ne.jp"), "au", "ezweb"},
		{"au legacy", "k.sky.tu-ka.ne.jp", mx("x.example"), "au", "ezweb"},
		{"UQ behaves as au", "uqmobile.jp", mx("x.example"), "au", "ezweb"},
		{"softbank", "i.softbank.jp", mx("x.example"), "softbank", "softbank"},
		{"vodafone", "t.vodafone.ne.jp", mx("x.example"), "vodafone", "vodafone"},
		{"J-PHONE", "jp-q.ne.jp", mx("x.example"), "vodafone", "vodafone"},
		{"no tenth J-PHONE", "jp-x.ne.jp", mx("x.example"), "mx:x.example", "pc"},
		{"disney", "disney.ne.jp", mx("x.example"), "disney", "disney"},
		{"ymobile", "dx.pdx.ne.jp", mx("x.example"), "ymobile", "softbank"},
		{"rakuten", "rakumail.jp", mx("x.example"), "rakuten", "pc"},
		{"gmail by MX", "gmail.com", mx("gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com"), "google", "pc"},
		{"hosted at google", "shop.example", mx("aspmx.l.google.com"), "google", "pc"},
		{"suffix needs a label", "shop.example", mx("notgoogle.com"), "mx:notgoogle.com", "pc"},
		{"the preferred host names the receiver", "shop.example", mail.Route{Hosts: []mail.Host{
			{Name: "b.example", Pref: 10}, {Name: "a.example", Pref: 10}, {Name: "0.example", Pref: 20}}}, "mx:a.example", "pc"},
		{"static route", "shop.example", mail.Route{Static: true, Hosts: []mail.Host{{Name: "127.0.0.2", Port: 2526}}}, "route:127.0.0.2:2526", "pc"},
		{"a domain rule beats a static route", "docomo.ne.jp", mail.Route{Static: true, Hosts: []mail.Host{{Name: "127.0.0.2", Port: 2526}}}, "docomo", "docomo"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := r.ByRoute(tt.domain, tt.route)
			if l.Receiver != tt.receiver || l.Queue != tt.queue {
				t.Errorf("got %q in queue %q, want %q in %q", l.Receiver, l.Queue, tt.receiver, tt.queue)
			}
			if l.Connections < 1 || l.TLS == "" || l.BlockPause == 0 {
				t.Errorf("incomplete limits %+v", l)
			}
		})
	}
}

func TestCarrierProfile(t *testing.T) {
	l, ok := mustRules(t).ByDomain("docomo.ne.jp")
	want := Limits{Receiver: "docomo", Queue: "docomo", Connections: 10, PerConnection: 50, SessionTime: time.Minute,
		Interval: 100 * time.Millisecond, Rate: 100, Start: 10, ConnectionRate: 1.6667, TLS: "opportunistic", BlockPause: time.Minute, TopOfHour: time.Minute}
	if !ok || l != want {
		t.Errorf("got %+v", l)
	}
}

// TestPublishedSizes: what carriers publish is in the data (requirements D2), and nobody has one that does not.
func TestPublishedSizes(t *testing.T) {
	r := mustRules(t, settings.ReceiverRule{Name: "softbank", Domains: []string{"i.softbank.jp"}})
	for d, want := range map[mail.Domain]int{"ezweb.ne.jp": 3 << 20, "uqmobile.jp": 3 << 20, "t.vodafone.ne.jp": 1 << 20, "disney.ne.jp": 1 << 20,
		"ymobile.ne.jp": 1 << 20, "docomo.ne.jp": 0, "rakumail.jp": 0, "i.softbank.jp": 0} {
		if l, ok := r.ByDomain(d); !ok || l.Size != want {
			t.Errorf("%s takes %d octets, want %d", d, l.Size, want)
		}
	}
}

func TestExtraRules(t *testing.T) {
	r := mustRules(t,
		settings.ReceiverRule{Name: "docomo", Domains: []string{"docomo.ne.jp"}, Queue: "docomo", Connections: 3, Rate: -1},
		settings.ReceiverRule{Name: "mine", Domains: []string{"gmail.com"}, MX: []string{".google.com"}, PerConnection: -1},
		settings.ReceiverRule{Name: "default", Connections: 2},
	)
	if l, _ := r.ByDomain("docomo.ne.jp"); l.Connections != 3 || l.Rate != 0 || l.Interval != 0 || l.TopOfHour != 0 {
		t.Errorf("a replaced rule keeps nothing of the old: %+v", l)
	}
	if l := r.ByRoute("shop.example", mx("aspmx.l.google.com")); l.Receiver != "mine" || l.PerConnection != 0 || l.Connections != 2 {
		t.Errorf("an extra rule wins over a built-in one: %+v", l)
	}
	if l := r.ByRoute("shop.example", mx("mx.shop.example")); l.Connections != 2 {
		t.Errorf("default replaced: %+v", l)
	}
}

// TestEveryRowServes: a rule that can never match, or that does not say where it comes from, is a fault of the data.
func TestEveryRowServes(t *testing.T) {
	r := mustRules(t)
	for _, rule := range r.All() {
		t.Run(rule.Name, func(t *testing.T) {
			if rule.Source == "" || rule.Date == "" {
				t.Error("no provenance")
			}
			if rule.Name == defaultRule {
				return
			}
			if len(rule.Domains)+len(rule.MX) == 0 {
				t.Error("matches nothing")
			}
			for _, d := range rule.Domains {
				example := mail.Domain(strings.Replace(d, "*", "host", 1))
				if l := r.ByRoute(example, mx("mx.elsewhere.example")); l.Receiver != rule.Name {
					t.Errorf("%s is served as %s", example, l.Receiver)
				}
			}
			for _, h := range rule.MX {
				example := h
				if strings.HasPrefix(h, ".") {
					example = "mx1" + h
				}
				if l := r.ByRoute("customer.example", mx(example)); l.Receiver != rule.Name {
					t.Errorf("MX %s is served as %s", example, l.Receiver)
				}
			}
		})
	}
}

// A rule that only says what answers mean leaves the receiver's limits as they are.
func TestRepliesLeaveLimits(t *testing.T) {
	built, err := NewRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	const replies = "replies: [{name: a, codes: [550], status: user, scope: recipient}]}\n"
	extra, err := settings.DecodeRules([]byte("- {name: docomo, " + replies + "- {name: default, " + replies + "- {name: au, connections: 3, " + replies))
	if err != nil {
		t.Fatal(err)
	}
	with, err := NewRules(extra)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []mail.Domain{"docomo.ne.jp", "ezweb.ne.jp"} {
		was, _ := built.ByDomain(d)
		is, found := with.ByDomain(d)
		if replaced := d == "ezweb.ne.jp"; found == replaced || !replaced && is != was {
			t.Errorf("%s: %+v, was %+v", d, is, was)
		}
	}
}
