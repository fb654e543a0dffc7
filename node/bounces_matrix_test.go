package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
)

// TestMatrixD3: every row of the matrix of requirements D3 over real sockets: the status it gets, and the bounce that the
// sender gets byte by byte, or none (R85 to R89, R96).
func TestMatrixD3(t *testing.T) {
	const unknown = "unknown user"
	rows := []struct {
		to           string
		stage, reply string // "" = taken
		tells        string // "" = no bounce
		class        int    // 0 = succeeded
	}{
		{"gone@docomo.ne.jp", "rcpt", "550 Unknown user gone@docomo.ne.jp", unknown, 2},
		{"filter@docomo.ne.jp", "dot", "550 Unknown user filter@docomo.ne.jp", "reject", 4},
		{"full@docomo.ne.jp", "dot", "552 Too much mail data full@docomo.ne.jp", "", 5},
		{"gone@ezweb.ne.jp", "rcpt", "550 <gone@ezweb.ne.jp>: User unknown", unknown, 2},
		{"filter@ezweb.ne.jp", "rcpt", "550 : User unknown", "", 4},
		{"gone@softbank.ne.jp", "rcpt", "550 Invalid recipient: <gone@softbank.ne.jp>", unknown, 2},
		{"gone@t.vodafone.ne.jp", "rcpt", "550 Invalid recipient: <gone@t.vodafone.ne.jp>", unknown, 2},
		{"gone@disney.ne.jp", "rcpt", "550 Invalid recipient: <gone@disney.ne.jp>", unknown, 2},
		{"gone@ymobile.ne.jp", "rcpt", "550 Invalid recipient: <gone@ymobile.ne.jp>", unknown, 2},
		{"refusing@softbank.ne.jp", "", "", "", 0},
		{"gone@hotmail.co.jp", "rcpt", "550 5.5.0 Requested action not taken: mailbox unavailable", unknown, 2},
		{"gone@live.jp", "rcpt", "550 5.5.0 Requested action not taken: mailbox unavailable", unknown, 2},
		{"gone@gmail.com", "rcpt", "550 5.1.1 The email account that you tried to reach does not exist", unknown, 2},
		{"gone@ybb.ne.jp", "rcpt", "550 5.1.1 user unknown", unknown, 2},
		{"gone@yahoo.co.jp", "rcpt", "550 5.1.1 user unknown", unknown, 2},
		{"gone@mail.goo.ne.jp", "rcpt", "550 5.1.1 user unknown", unknown, 2},
		{"gone@infoseek.jp", "rcpt", "550 5.1.1 user unknown", unknown, 2},
		{"gone@livedoor.com", "rcpt", "550 5.1.1 user unknown", unknown, 2},
		{"gone@ivedoor.com", "rcpt", "550 5.1.1 user unknown", unknown, 2},
		{"gone@sampledomain.com", "rcpt", "550 5.1.1 user unknown", "unknown user (maybe)", 2},
		{"policy@sampledomain.com", "dot", "554 5.7.1 Message rejected due to content", "", 4},
		{"full@sampledomain.com", "rcpt", "552 5.2.2 Mailbox full", "", 5},
		{"large@sampledomain.com", "dot", "552 5.3.4 Message too big for system", "", 8},
		{"slow@sampledomain.com", "rcpt", "451 4.3.0 later", "", 3},
		{"u@missing.invalid", "", "", "unknown host", 1},
		{"u@null.invalid", "", "", "unknown host", 1},
		{"u@empty.invalid", "", "", "unknown host", 1},
		{"black@sampledomain.com", "", "", unknown, 2}, // never with (maybe)
		{"blocked@sampledomain.com", "", "", "", 10},
		{"left@sampledomain.com", "", "", "", 11},
	}
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
		strings.TrimSuffix(routes, ", "), names.Addr), "", func(settings string) string {
		return strings.Replace(settings, "{name: shop, ", "{name: shop, blackbox: true, ", 1)
	})
	for _, s := range []map[string]string{{"address": "black@sampledomain.com", "list": "blackbox"},
		{"address": "blocked@sampledomain.com", "list": "blocklist", "tenant": "shop"},
		{"address": "left@sampledomain.com", "list": "unsubscribe", "tenant": "shop"}} {
		if status := r.call("POST", "/v1/suppressions", s, nil); status/100 != 2 {
			t.Fatalf("suppress %v: %d", s, status)
		}
	}
	c := r.session()
	for _, row := range rows {
		c.mustSend(text("X-Relay-Lifetime: 60\n"), row.to)
	}
	mustBecome(t, "the slow one was tried", func() bool { return sink.tried("slow@sampledomain.com") > 0 })
	r.advance(3 * time.Minute)
	told := 0
	for _, row := range rows {
		var last event
		mustBecome(t, "the end of mail to "+row.to, func() bool {
			all := r.events("to=" + row.to + "&tenant=shop")
			if len(all) == 0 {
				return false
			}
			last = all[len(all)-1]
			return last.Status != "queued" && last.Status != "deferred"
		})
		if last.Class != row.class || (row.class == 0) != (last.Status == "succeeded") {
			t.Errorf("%s: %+v, want status %d", row.to, last, row.class)
		}
		if row.tells == "" {
			continue
		}
		told++
		m := sink.bounceOf(t, row.to)
		if _, body, _ := strings.Cut(m.data, "\r\n\r\n"); body != row.to+"\r\n"+row.tells+"\r\n" || m.to != "sender@shop.test" {
			t.Errorf("%s: to %s: %q, want %q", row.to, m.to, body, row.tells)
		}
	}
	r.atRest()
	if n := sink.bounces(); n != told {
		t.Errorf("%d bounces, want %d", n, told)
	}
}
