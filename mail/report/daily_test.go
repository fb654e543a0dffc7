package report

import (
	"strings"
	"testing"
	"time"
)

func TestDaily(t *testing.T) {
	d := Daily{Notify: "ann@shop.example", Host: "relay.test", ID: "0001", At: time.Date(2026, 3, 10, 0, 30, 0, 0, time.UTC), Date: "2026/03/09",
		Tenant: "店", Sent: 649, Done: 600, Failed: 40, Refused: 3, Blocked: 4, Rates: [2]string{"92.4", "6.2"}, Missing: []string{"n2", "n3"}}
	want := `From: postmaster@relay.test
To: ann@shop.example
Subject: Delivery report 2026/03/09
Date: Tue, 10 Mar 2026 00:30:00 +0000
Message-ID: <0001@relay.test>
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii

Mail accepted on 2026/03/09, tenant \x{E5}\x{BA}\x{97}

sent                  649
delivered             600   92.4 %
undelivered            40    6.2 %
refused                 3
waiting                 9
not sent                4  (lists)

Not counted, because they did not answer: n2, n3
`
	if got := strings.ReplaceAll(string(d.Mail()), "\r\n", "\n"); got != want {
		t.Errorf("%s", got)
	}
	d.User, d.Missing = "own@shop.example", nil
	if got := string(d.Mail()); !strings.Contains(got, ", user own@shop.example\r\n") || !strings.HasSuffix(got, "(lists)\r\n") {
		t.Errorf("%s", got)
	}
}
