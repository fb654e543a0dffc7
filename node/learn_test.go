package node_test

import (
	"strings"
	"testing"
	"time"
)

// TestListsLearn: failures exclude an address (R100), stop its deliveries (R101, R102) and teach the black box (R103), each
// with its evidence; what is reset or released is sent again.
func TestListsLearn(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		switch {
		case stage == "rcpt" && strings.Contains(strings.ToLower(arg), "gone@"):
			return "550 5.1.1 User unknown"
		case stage == "rcpt" && strings.Contains(arg, "full@"):
			return "552 5.2.2 Mailbox full"
		case stage == "rcpt" && strings.Contains(arg, "held@"):
			return "550 The user's account is disabled: <" + arg + ">"
		}
		return ""
	})
	r := newRigWith(t, to(sink), ", delivery_stop: {run_at: '03:00', release_after_days: 1, reasons: {5: 1}}", func(s string) string {
		return strings.Replace(s, "name: shop,", "name: shop, exclusion: {enabled: true, threshold: 2},", 1)
	})
	type entry struct {
		Address, Reason, Evidence string
		Expires                   time.Time
	}
	list := func(name string) []entry {
		t.Helper()
		var out struct{ Suppressions []entry }
		if status := r.call("GET", "/v1/suppressions?list="+name, nil, &out); status != 200 {
			t.Fatalf("list: %d", status)
		}
		return out.Suppressions
	}
	reason := func(name, address string) string {
		for _, e := range list(name) {
			if e.Address == address && strings.Contains(e.Evidence, "5.") {
				return e.Reason
			}
		}
		return ""
	}
	send := func(address, status string, n int) {
		t.Helper()
		if a := r.session().send("app@shop.example", "Subject: x\r\n\r\nx\r\n", address); a[:3] != "250" {
			t.Fatal(a)
		}
		mustBecome(t, address+" "+status, func() bool { return len(r.events("to="+address+"&status="+status)) == n })
	}

	send("Gone@a.example", "failed", 1)
	mustBecome(t, "the first error is counted", func() bool { return reason("errors", "gone@a.example") == "2=1" })
	mustBecome(t, "the black box knows", func() bool { return reason("blackbox", "gone@a.example") == "unknown user" })
	send("gone@a.example", "failed", 2) // the tenant does not use the black box
	mustBecome(t, "the second error is counted", func() bool { return reason("errors", "gone@a.example") == "2=2" })
	send("gone@a.example", "suppressed", 1)
	r.again()
	send("gone@a.example", "suppressed", 2)
	var reset struct{ Reset int }
	body := map[string]any{"tenant": "shop", "addresses": []string{"gone@a.example"}}
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/ResetErrors", body, &reset); status != 200 || reset.Reset != 1 {
		t.Fatalf("reset: %d, %+v", status, reset)
	}
	send("gone@a.example", "failed", 3)

	send("full@a.example", "failed", 1)
	mustBecome(t, "its error is counted", func() bool { return reason("errors", "full@a.example") == "5=1" })
	if status := r.call("POST", "/testing/jobs/blocklist", nil, nil); status != 200 {
		t.Fatalf("job: %d", status)
	}
	if got := reason("blocklist", "full@a.example"); got != "delivery stop: status 5, occurred 1" || reason("errors", "full@a.example") != "" {
		t.Errorf("after the run: %q", got)
	}
	send("full@a.example", "suppressed", 1)
	for _, e := range r.events("to=full@a.example&status=suppressed") {
		if e.Class != 10 {
			t.Errorf("status %d, want 10", e.Class)
		}
	}
	// What its receiver only holds for a while is learned for a while: the rule says for how long.
	send("held@ezweb.ne.jp", "failed", 1)
	mustBecome(t, "the black box knows", func() bool { return len(list("blackbox")) == 2 })
	for _, e := range list("blackbox") {
		if e.Expires.IsZero() != (e.Address != "held@ezweb.ne.jp") {
			t.Errorf("%s is released at %v", e.Address, e.Expires)
		}
	}
	r.advance(25 * time.Hour)
	send("full@a.example", "failed", 2) // released by itself
	r.atRest()
}
