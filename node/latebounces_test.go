package node_test

import (
	"strings"
	"testing"
)

// TestLateBouncesAlarm: a receiver that reports failures of what it had taken raises its alarm, counts go on after a
// restart, and the settings say from what on (requirement N17).
func TestLateBouncesAlarm(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	adjust := func(s string) string { return s + "alarms: {late_bounces: 50, late_bounces_least: 2}\n" }
	r := newRigWith(t, to(sink), ", envelope_from: {rewrite: true, domain: return.shop.test}", adjust, withBounceListener)
	c := r.session()
	c.mustSend(text(""), "a@ezweb.ne.jp", "b@ezweb.ne.jp", "c@ezweb.ne.jp", "d@docomo.ne.jp")
	sink.mustGet(t, 4)
	mustBecome(t, "all delivered", func() bool { return len(r.events("status=succeeded")) == 4 })
	report := func(to string) {
		t.Helper()
		for _, m := range sink.messages {
			if m.to == to {
				if a := r.reports().send("", dsn(to, "550 <"+to+">: User unknown"), m.from); a[:3] != "250" {
					t.Fatal(a)
				}
			}
		}
	}
	alarms := func() (out []string) {
		for _, n := range r.status().Notices {
			if n.Code == "late_bounces" {
				out = append(out, n.Detail)
			}
		}
		return out
	}
	report("a@ezweb.ne.jp")
	report("d@docomo.ne.jp")
	if got := alarms(); len(got) != 0 {
		t.Errorf("one report is too few: %q", got)
	}
	r.stop()
	code := r.code
	r.start()
	if got := r.unseal(code); got != 200 {
		t.Fatalf("unseal: %d", got)
	}
	report("b@ezweb.ne.jp")
	got := alarms()
	if len(got) != 1 || !strings.HasPrefix(got[0], "au reported 2 failures within a day after it had taken the mail (3 taken)") {
		t.Errorf("alarms %q", got)
	}
}
