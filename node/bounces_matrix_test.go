package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
)

// d3 is one row of the matrix of requirements D3, and what else is needed to have each error status once (R96).
type d3 struct {
	to           string
	stage, reply string // what the receiver answers and where; "" = it takes the mail; ndr = it takes it and reports this
	tells        string // second line of the bounce; "" = there is none
	class        int    // 0 = succeeded
	screen       string // what the customer's results count: success and NG
}

const (
	ndr         = "ndr"
	won, lost   = "success:1,ng:0", "success:0,ng:1"
	uncounted   = "" // the results have no row of it
	wonThenLost = "success:1,ng:1"
)

func matrixD3() []d3 {
	const unknown = "unknown user"
	return []d3{
		{"gone@docomo.ne.jp", "rcpt", "550 Unknown user gone@docomo.ne.jp", unknown, 2, lost},
		{"filter@docomo.ne.jp", "dot", "550 Unknown user filter@docomo.ne.jp", "reject", 4, lost},
		{"full@docomo.ne.jp", "dot", "552 Too much mail data full@docomo.ne.jp", "", 5, uncounted},
		{"gone@ezweb.ne.jp", "rcpt", "550 <gone@ezweb.ne.jp>: User unknown", unknown, 2, lost},
		{"filter@ezweb.ne.jp", "rcpt", "550 : User unknown", "", 4, lost},
		{"late@ezweb.ne.jp", ndr, "From: postmaster@ezweb.ne.jp\r\nSubject: Mail System Error\r\nX-SPASIGN: NG\r\n\r\n" +
			"Could not be delivered to: <late@ezweb.ne.jp>\r\n", "", 4, wonThenLost},
		{"gone@softbank.ne.jp", "rcpt", "550 Invalid recipient: <gone@softbank.ne.jp>", unknown, 2, lost},
		{"gone@t.vodafone.ne.jp", "rcpt", "550 Invalid recipient: <gone@t.vodafone.ne.jp>", unknown, 2, lost},
		{"gone@disney.ne.jp", "rcpt", "550 Invalid recipient: <gone@disney.ne.jp>", unknown, 2, lost},
		{"gone@ymobile.ne.jp", "rcpt", "550 Invalid recipient: <gone@ymobile.ne.jp>", unknown, 2, lost},
		{"refusing@softbank.ne.jp", "", "", "", 0, won},
		{"refusing@t.vodafone.ne.jp", "", "", "", 0, won},
		{"refusing@disney.ne.jp", "", "", "", 0, won},
		{"refusing@ymobile.ne.jp", "", "", "", 0, won},
		{"gone@hotmail.co.jp", "rcpt", "550 5.5.0 Requested action not taken: mailbox unavailable", unknown, 2, lost},
		{"gone@live.jp", "rcpt", "550 5.5.0 Requested action not taken: mailbox unavailable", unknown, 2, lost},
		{"gone@gmail.com", "rcpt", "550 5.1.1 The email account that you tried to reach does not exist", unknown, 2, lost},
		{"gone@ybb.ne.jp", "rcpt", "550 5.1.1 user unknown", unknown, 2, lost},
		{"gone@yahoo.co.jp", "rcpt", "550 5.1.1 user unknown", unknown, 2, lost},
		{"gone@mail.goo.ne.jp", "rcpt", "550 5.1.1 user unknown", unknown, 2, lost},
		{"gone@infoseek.jp", "rcpt", "550 5.1.1 user unknown", unknown, 2, lost},
		{"gone@livedoor.com", "rcpt", "550 5.1.1 user unknown", unknown, 2, lost},
		{"gone@ivedoor.com", "rcpt", "550 5.1.1 user unknown", unknown, 2, lost},
		{"gone@sampledomain.com", "rcpt", "550 5.1.1 user unknown", "unknown user (maybe)", 2, lost},
		{"policy@sampledomain.com", "dot", "554 5.7.1 Message rejected due to content", "", 4, lost},
		{"full@sampledomain.com", "rcpt", "552 5.2.2 Mailbox full", "", 5, lost},
		{"moved@sampledomain.com", "rcpt", "550 5.1.1 <somebody@elsewhere.example>: user unknown", "", 6, lost},
		{"relay@sampledomain.com", "rcpt", "554 5.7.1 <relay@sampledomain.com>: Relay access denied", "", 7, lost},
		{"large@sampledomain.com", "dot", "552 5.3.4 Message too big for system", "", 8, lost},
		{"odd@sampledomain.com", "rcpt", "554 transaction failed", "", 99, lost},
		{"slow@sampledomain.com", "rcpt", "451 4.3.0 later", "", 3, lost},
		{"u@missing.invalid", "", "", "unknown host", 1, lost},
		{"u@null.invalid", "", "", "unknown host", 1, lost},
		{"u@empty.invalid", "", "", "unknown host", 1, lost},
		{"u@_bad.example", "", "", "", 9, lost},              // of no row of D3; its bounce is never sent (E-16)
		{"black@sampledomain.com", "", "", unknown, 2, lost}, // never with (maybe)
		{"blocked@sampledomain.com", "", "", "", 10, uncounted},
		{"left@sampledomain.com", "", "", "", 11, uncounted},
	}
}

// matrixRig starts a node whose receivers answer as rows say, and its receiver.
func matrixRig(t *testing.T, rows []d3) (*rig, *receiver) {
	answers := map[string]string{}
	for _, row := range rows {
		answers[row.stage+" "+row.to] = row.reply
	}
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string { return answers[stage+" "+arg] })
	names := dnstest.Start(t, dnstest.Zone{MX: map[string][]dnstest.MX{"null.invalid": {{Pref: 0, Host: "."}}},
		TXT: map[string][]string{"empty.invalid": {"neither MX nor address"}}})
	routes := ""
	for _, domain := range []string{"*.jp", "*.com", "*.test"} {
		routes += fmt.Sprintf("{domain: '%s', to: '%s'}, ", domain, sink.Addr())
	}
	r := newRigWith(t, fmt.Sprintf("delivery: {allow_private: true, routes: [%s]}\ndns: {servers: ['%s'], timeout: 2s}\n",
		strings.TrimSuffix(routes, ", "), names.Addr), ", envelope_from: {rewrite: true, domain: return.shop.test}", func(settings string) string {
		return strings.Replace(settings, "{name: shop, ", "{name: shop, blackbox: true, ", 1)
	}, withBounceListener)
	noon := time.Date(2026, 3, 1, 12, 20, 0, 0, time.Local) // carriers are busy at the full hour (D2)
	if status := r.call("POST", "/testing/clock", map[string]int64{"set": noon.Unix()}, nil); status != 200 {
		t.Fatal(status)
	}
	for _, s := range []map[string]string{{"address": "black@sampledomain.com", "list": "blackbox"},
		{"address": "blocked@sampledomain.com", "list": "blocklist", "tenant": "shop"},
		{"address": "left@sampledomain.com", "list": "unsubscribe", "tenant": "shop"}} {
		if status := r.call("POST", "/v1/suppressions", s, nil); status/100 != 2 {
			t.Fatalf("suppress %v: %d", s, status)
		}
	}
	return r, sink
}

// returnOf waits for the message to an address and returns what it was sent from.
func (r *receiver) returnOf(t *testing.T, to string) (from string) {
	t.Helper()
	mustBecome(t, "mail to "+to, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, m := range r.messages {
			if m.to == to {
				from = m.from
			}
		}
		return from != ""
	})
	return from
}

// TestMatrixD3: every row of the matrix of requirements D3 over real sockets: the status it gets, the bounce that the
// sender gets byte by byte, or none, and what the customer's results count of it (R83, R85 to R89, R96).
func TestMatrixD3(t *testing.T) {
	rows := matrixD3()
	r, sink := matrixRig(t, rows)
	c := r.session()
	sender := func(i int) string { return fmt.Sprintf("sender@row%d.test", i) } // a row of the results of its own
	for i, row := range rows {
		if a := c.send(sender(i), text("X-Relay-Lifetime: 60\n"), row.to); a[:3] != "250" {
			t.Fatalf("%s: %s", row.to, a)
		}
		if row.stage == ndr {
			from := sink.returnOf(t, row.to)
			mustBecome(t, "success is written down", func() bool { return len(r.events("status=succeeded&to="+row.to)) == 1 })
			if a := r.reports().send("", row.reply, from); a[:3] != "250" {
				t.Fatal(a)
			}
		}
	}
	ended := func(row d3) (last event) {
		t.Helper()
		mustBecome(t, "the end of mail to "+row.to, func() bool {
			all := r.events("to=" + row.to + "&tenant=shop")
			if len(all) == 0 {
				return false
			}
			last = all[len(all)-1]
			return last.Status != "queued" && last.Status != "deferred"
		})
		return last
	}
	for _, row := range rows {
		if row.class != 3 { // the slow one ends by the clock, and no other may
			ended(row)
		}
	}
	r.advance(3 * time.Minute)
	told, had := 0, map[int]bool{}
	for i, row := range rows {
		last := ended(row)
		if last.Class != row.class || (row.class == 0) != (last.Status == "succeeded") {
			t.Errorf("%s: %+v, want status %d", row.to, last, row.class)
		}
		had[last.Class] = true
		if row.tells == "" {
			continue
		}
		told++
		m := sink.bounceOf(t, row.to)
		if _, body, _ := strings.Cut(m.data, "\r\n\r\n"); body != row.to+"\r\n"+row.tells+"\r\n" || m.to != sender(i) {
			t.Errorf("%s: to %s: %q, want %q", row.to, m.to, body, row.tells)
		}
	}
	r.atRest()
	if n := sink.bounces(); n != told {
		t.Errorf("%d bounces, want %d", n, told)
	}
	for _, class := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 99} {
		if !had[class] {
			t.Errorf("nothing failed with status %d", class)
		}
	}
	r.advance(24 * time.Hour)
	if status := r.call("POST", "/testing/jobs/nightly", nil, nil); status != 200 {
		t.Fatalf("nightly: %d", status)
	}
	for i, row := range rows {
		screen := ""
		for _, line := range r.statistics(fmt.Sprintf("view=results&domain=row%d.test&from=2026/03/01&to=2026/03/01", i)) {
			if strings.HasPrefix(line, "date:2026/03/01,") {
				_, screen, _ = strings.Cut(line, "cleaning:--,")
				screen, _, _ = strings.Cut(screen, ",rate:")
			}
		}
		if screen != row.screen {
			t.Errorf("%s: the results show %q, want %q", row.to, screen, row.screen)
		}
	}
}
