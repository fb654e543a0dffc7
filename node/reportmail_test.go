package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/secret"
)

// TestReportMail: who wants it gets one mail about each day, and one with own data about its own mail (requirement R84).
func TestReportMail(t *testing.T) {
	far := startReceiver(t, "127.0.0.1:0", nobodyUnknown)
	hash := secret.Make("secret-key-1")
	r := newRigWith(t, to(far), fmt.Sprintf(", users: [{name: ann@shop.test, secret_hash: '%s', report_mail: true}, "+
		"{name: own@shop.test, secret_hash: '%s', report_mail: true, own_data: true}, {name: bob@shop.test, secret_hash: '%s'}]", hash, hash, hash),
		func(settings string) string {
			return strings.Replace(settings, "{name: shop, ", "{name: shop, bounce: {format: none}, ", 1)
		})
	nightly := func() {
		t.Helper()
		if status := r.call("POST", "/testing/jobs/nightly", nil, nil); status != 200 && status != 204 {
			t.Fatalf("nightly: %d", status)
		}
	}
	reports := func() (out []received) {
		far.mu.Lock()
		defer far.mu.Unlock()
		for _, m := range far.messages {
			if strings.Contains(m.data, "Subject: Delivery report ") {
				out = append(out, m)
			}
		}
		return out
	}
	r.setClock(12, 0) // an hour before midnight another day would begin below
	nightly()         // nothing was before the first day
	r.session().mustSend(text(""), "a@a.test", "b@a.test", "nobody@a.test")
	mustBecome(t, "all three ended", func() bool { return len(r.events("status=succeeded")) == 2 && len(r.events("status=failed")) == 1 })
	r.atRest()
	if n := len(reports()); n != 0 {
		t.Fatalf("%d reports of no day", n)
	}
	day := time.Unix(r.now(), 0).Format("2006/01/02")
	r.advance(24 * time.Hour)
	for range 3 {
		nightly()
	}
	mustBecome(t, "two reports", func() bool { return len(reports()) == 2 })
	r.advance(time.Hour)
	nightly()
	r.atRest()
	seen := map[string]string{}
	for _, m := range reports() {
		if m.from != "" {
			t.Errorf("from %s", m.from)
		}
		seen[strings.Trim(m.to, "<>")] = m.data
	}
	if len(seen) != 2 || len(reports()) != 2 {
		t.Fatalf("%d reports to %d", len(reports()), len(seen))
	}
	for _, row := range []struct{ to, want string }{
		{"ann@shop.test", "sent                    3\r\ndelivered               2   66.7 %\r\nundelivered             1   33.3 %"},
		{"own@shop.test", "sent                    0\r\ndelivered               0      0 %"},
	} {
		if got := seen[row.to]; !strings.Contains(got, "Mail accepted on "+day) || !strings.Contains(got, row.want) {
			t.Errorf("to %s: %s", row.to, got)
		}
	}
	r.advance(24 * time.Hour)
	nightly()
	mustBecome(t, "reports of the next day", func() bool { return len(reports()) == 4 })

	r.advance(-30 * 24 * time.Hour) // the clock was wrong: from here on every day is told again
	nightly()
	r.advance(24 * time.Hour)
	nightly()
	mustBecome(t, "reports after the clock was set back", func() bool { return len(reports()) == 6 })
}
