package node_test

import (
	"bufio"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// reports is a session with the bounce listener.
func (r *rig) reports() *client {
	r.Helper()
	c, err := net.Dial("tcp", r.node.Ready().SMTP[1])
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { c.Close() })
	s := &client{T: r.T, Conn: c, in: bufio.NewReader(c)}
	s.reply()
	s.cmd("EHLO mx.carrier.test")
	return s
}

func withBounceListener(s string) string {
	return strings.Replace(s, `{address: "127.0.0.1:0"}]}`, `{address: "127.0.0.1:0"}, {address: "127.0.0.1:0", role: bounce}]}`, 1)
}

func dsn(to, code string) string {
	return strings.ReplaceAll("From: MAILER-DAEMON@mx.carrier.test\nSubject: Undelivered Mail\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"+
		"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.carrier.test\n\nFinal-Recipient: rfc822; "+to+
		"\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; "+code+"\n\n--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <1@shop.test>\n\n--b--\n", "\n", "\r\n")
}

// TestReportsAreAttributed: mail goes out under return addresses, a report to one becomes a late event of the right delivery,
// the success stays, and the customer is told (R59, R65, R93-R95, N17).
func TestReportsAreAttributed(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), ", envelope_from: {rewrite: true, domain: return.shop.test}", withBounceListener)
	c := r.session()
	c.mustSend(text(""), "a@ezweb.ne.jp", "b@ezweb.ne.jp", "c@ezweb.ne.jp")
	sink.mustGet(t, 3)
	from := map[string]string{}
	for _, m := range sink.messages {
		if from[m.to] = m.from; !strings.HasSuffix(m.from, "@return.shop.test") || !strings.HasPrefix(m.from, "bounce-") {
			t.Fatalf("%s went out from %q", m.to, m.from)
		}
	}
	mustBecome(t, "three delivered", func() bool { return len(r.events("status=succeeded")) == 3 })
	for _, e := range r.events("status=succeeded") {
		if e.Detail != "accepted_unverified" {
			t.Errorf("%s: %q", e.To, e.Detail)
		}
	}
	in := r.reports()
	for range 2 { // whatever comes twice counts once
		if a := in.send("", dsn("b@ezweb.ne.jp", "550 <b@ezweb.ne.jp>: User unknown"), from["b@ezweb.ne.jp"]); a[:3] != "250" {
			t.Fatal(a)
		}
	}
	late := r.events("status=bounced")
	if len(late) != 1 || late[0].To != "b@ezweb.ne.jp" || late[0].Class != 2 || late[0].Detail != "reported by mx.carrier.test" {
		t.Fatalf("late: %+v", late)
	}
	if m := sink.bounceOf(t, "b@ezweb.ne.jp"); m.to != "sender@shop.test" || !strings.HasSuffix(m.data, "\r\n\r\nb@ezweb.ne.jp\r\nunknown user\r\n") {
		t.Errorf("told: %+v", m)
	}
	if a := in.send("", "From: postmaster@ezweb.ne.jp\r\nSubject: Mail System Error\r\nX-SPASIGN: NG\r\n\r\nCould not be delivered to: <a@ezweb.ne.jp>\r\n",
		strings.ToUpper(from["a@ezweb.ne.jp"])); a[:3] != "250" {
		t.Fatal(a)
	}
	if late = r.events("status=bounced&to=a@ezweb.ne.jp"); len(late) != 1 || late[0].Class != 4 {
		t.Errorf("filtered: %+v", late)
	}
	complaint := "From: fbl@isp.test\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n" +
		"Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\r\n--b--\r\n"
	if a := in.send("fbl@isp.test", complaint, from["c@ezweb.ne.jp"]); a[:3] != "250" {
		t.Fatal(a)
	}
	if late = r.events("status=complained"); len(late) != 1 || late[0].To != "c@ezweb.ne.jp" || late[0].Detail != "abuse" {
		t.Errorf("complaint: %+v", late)
	}
	// The mail that told of it is kept, and shown where it is asked for (R71).
	if rows := r.rows("log/bounce"); len(rows) != 3 || !strings.Contains(rows[1][9], `\r\nX-SPASIGN: NG\r\n\r\nCould not be delivered`) || !strings.Contains(rows[2][9], "Feedback-Type: abuse") {
		t.Errorf("bounce log: %q", rows)
	}
	var told struct{ Events []struct{ Mail []byte } }
	for query, want := range map[string]string{"status=complained&mail=true": complaint, "status=complained": ""} {
		r.call("GET", "/v1/events?"+query, nil, &told)
		if len(told.Events) != 1 || !strings.HasSuffix(string(told.Events[0].Mail), want) || want == "" && len(told.Events[0].Mail) > 0 {
			t.Errorf("%s: %q", query, told.Events)
		}
		told.Events = nil
	}
	r.atRest()
	if got := r.counters("unit=total")[0]; got["succeeded"] != 3 || got["failed"] != 0 {
		t.Errorf("counters %v", got)
	}
	// Late news counts against the address like any other (R100, R103), and a complaint ends the tenant's mail to it.
	listed := func(list, address, reason string) func() bool {
		return func() bool {
			var out struct {
				Suppressions []struct{ Address, Reason, Evidence string }
			}
			r.call("GET", "/v1/suppressions?list="+list, nil, &out)
			for _, s := range out.Suppressions {
				if s.Address == address && s.Reason == reason && strings.Contains(s.Evidence, "message ") {
					return true
				}
			}
			return false
		}
	}
	mustBecome(t, "the black box has learned the address", listed("blackbox", "b@ezweb.ne.jp", "unknown user"))
	mustBecome(t, "who complained is blocked", listed("blocklist", "c@ezweb.ne.jp", "complaint"))
	if listed("blackbox", "a@ezweb.ne.jp", "unknown user")() {
		t.Error("the black box has learned an address whose mail was filtered")
	}
	c.mustSend(text(""), "c@ezweb.ne.jp")
	mustBecome(t, "suppressed", func() bool { return len(r.events("status=suppressed&to=c@ezweb.ne.jp")) == 1 })
	r.atRest()
}

// TestUnwantedReports: what is no report changes nothing, and what is forged, foreign or in a loop is not taken (R94, T14).
func TestUnwantedReports(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), ", envelope_from: {rewrite: true, domain: return.shop.test}", withBounceListener)
	r.session().mustSend(text(""), "a@x.test")
	from := sink.mustGet(t, 1).from
	mustBecome(t, "delivered", func() bool { return len(r.events("status=succeeded")) == 1 })
	forged := []byte(from)
	if forged[20]++; forged[20] > 'z' || forged[20] == '8' {
		forged[20] = 'a'
	}
	tests := []struct{ name, rcpt, data, reply string }{
		{"foreign domain", "x@else.test", "", "550 5.7.1"},
		{"forged", string(forged), dsn("a@x.test", "550 user unknown"), "550 5.1.1"},
		{"own domain in From", from, "From: x@return.shop.test\r\n\r\nbuy\r\n", "550 5.7.1"},
		{"From is To", from, "From: x@a.test\r\nTo: X@a.test\r\n\r\nbuy\r\n", "550 5.7.1"},
		{"loop", from, strings.Repeat("Received: from a by b\r\n", 100) + dsn("a@x.test", "550 user unknown"), "554 5.4.6"},
		{"vacation", from, "From: p@a.test\r\nSubject: Out of office\r\nAuto-Submitted: auto-replied\r\n\r\n550 5.1.1 user unknown\r\n", "250"},
		{"person", from, "From: p@a.test\r\nSubject: Re: news\r\n\r\nstop\r\n", "250"},
		{"somebody at the domain", "info@return.shop.test", dsn("z@x.test", "550 user unknown"), "250"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := r.reports()
			if a := in.send("", tt.data, tt.rcpt); !strings.HasPrefix(a, tt.reply) {
				t.Errorf("%s, want %s", a, tt.reply)
			}
			if late := r.events("status=bounced"); len(late) != 0 {
				t.Errorf("late: %+v", late)
			}
		})
	}
	if becomes(100*time.Millisecond, func() bool { return sink.count() > 1 }) {
		t.Error("something was answered")
	}
	r.atRest()
}

// TestReceivedMailIsOnRecord: what comes to a return address and is no failure of a delivery is a line of the bounce log, with
// its mail, and changes nothing (requirement R71).
func TestReceivedMailIsOnRecord(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRigWith(t, to(sink), ", envelope_from: {rewrite: true, domain: return.shop.test}", func(s string) string {
		return strings.Replace(s, "name: shop,", "name: shop, blackbox: true, exclusion: {enabled: true, threshold: 1},", 1)
	}, withBounceListener)
	r.session().mustSend(text("X-Relay-Group: g1\n"), "a@x.test")
	from := sink.mustGet(t, 1).from
	mustBecome(t, "delivered", func() bool { return len(r.events("status=succeeded")) == 1 })
	before := r.counters("unit=total")[0]
	vacation := "From: a@x.test\r\nSubject: Out of office\r\nAuto-Submitted: auto-replied\r\n\r\n550 5.1.1 user unknown\r\n"
	long := vacation + strings.Repeat("I am on the islands\r\n", 2000)
	in := r.reports()
	for _, m := range []struct{ name, rcpt, data, to, group, detail string }{
		{"vacation", from, vacation, "a@x.test", "g1", "automatic answer"},
		{"long", from, long, "a@x.test", "g1", "automatic answer"},
		{"delay", from, strings.Replace(dsn("a@x.test", "451 later"), "Action: failed", "Action: delayed", 1), "a@x.test", "g1", "delay or success notice"},
		{"letter", from, "From: a@x.test\r\nSubject: Re: news\r\n\r\nthanks\r\n", "a@x.test", "g1", "letter"},
		{"fits none", "info@return.shop.test", dsn("z@x.test", "550 5.1.1 user unknown"), "z@x.test", "", "unattributed bounce"},
		{"answer to nobody", "info@return.shop.test", vacation, "", "", "automatic answer"},
	} {
		known := len(r.events("status=received"))
		for range 2 { // whatever comes twice is one line
			if a := in.send("", m.data, m.rcpt); a[:3] != "250" {
				t.Fatalf("%s: %s", m.name, a)
			}
		}
		got := r.events("status=received")
		if len(got) != known+1 {
			t.Fatalf("%s: %d lines, want %d: %+v", m.name, len(got), known+1, got)
		}
		if e := got[known]; e.To != m.to || e.Group != m.group || e.Detail != m.detail || e.Class != 0 {
			t.Errorf("%s: %+v", m.name, e)
		}
		row := r.rows("log/bounce")[known]
		if row[4] != m.to || row[5] != "no error" || row[6] != m.detail || !strings.Contains(row[9], strings.ReplaceAll(m.data[:40], "\r\n", `\r\n`)) {
			t.Errorf("%s: bounce log %q", m.name, row)
		}
	}
	if a := in.send("", "From: spam@else.test\r\nSubject: buy\r\n\r\nbuy\r\n", "info@return.shop.test"); a[:3] != "250" {
		t.Error(a)
	}
	var told struct{ Events []struct{ Mail []byte } }
	r.call("GET", "/v1/events?status=received&mail=true", nil, &told)
	if len(told.Events) != 6 || len(told.Events[1].Mail) != mail.MaxReportMail {
		t.Errorf("%d kept, of the long one %d octets", len(told.Events), len(told.Events[1].Mail))
	}
	if after := r.counters("unit=total")[0]; !maps.Equal(before, after) {
		t.Errorf("counters %v, before %v", after, before)
	}
	var listed struct{ Suppressions []any }
	for _, list := range []string{"", "errors"} {
		if r.call("GET", "/v1/suppressions?list="+list, nil, &listed); len(listed.Suppressions) != 0 {
			t.Errorf("list %q: %v", list, listed.Suppressions)
		}
	}
	r.session().mustSend(text(""), "a@x.test")
	sink.mustGet(t, 2)
	r.atRest()
}

// TestReportsWithoutRewriting: where the customer's own sender is under our domain, recipient, sender and Message-ID together
// tell which delivery it was.
func TestReportsWithoutRewriting(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), ", envelope_from: {domain: shop.test}", withBounceListener)
	r.session().mustSend(text(""), "a@x.test")
	if m := sink.mustGet(t, 1); m.from != "sender@shop.test" {
		t.Fatalf("from %q", m.from)
	}
	mustBecome(t, "delivered", func() bool { return len(r.events("status=succeeded")) == 1 })
	in := r.reports()
	other := strings.Replace(dsn("a@x.test", "550 5.1.1 user unknown"), "<1@shop.test>", "<2@shop.test>", 1)
	for _, data := range []string{other, dsn("a@x.test", "550 5.1.1 user unknown")} {
		if a := in.send("", data, "sender@shop.test"); a[:3] != "250" {
			t.Fatal(a)
		}
	}
	if late := r.events("status=bounced"); len(late) != 1 || late[0].Class != 2 {
		t.Errorf("late: %+v", late)
	}
	r.atRest()
}

// TestBounceListenerBounds: a bounce listener takes so many sessions at once, gives each mail its time, and takes none that
// is larger than it says (requirement R93).
func TestBounceListenerBounds(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), ", envelope_from: {rewrite: true, domain: return.shop.test}", withBounceListener, func(s string) string {
		return strings.Replace(s, "role: bounce}", "role: bounce, sessions: 1, interval: 150ms, size_kb: 2}", 1)
	})
	in := r.reports()
	if a := in.cmd("MAIL FROM:<a@carrier.test> SIZE=3000"); a[:3] != "552" {
		t.Errorf("announced as large: %q", a)
	}
	c, err := net.Dial("tcp", r.node.Ready().SMTP[1])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(line, "421 ") {
		t.Errorf("a second session: %q %v", line, err)
	}
	letter := "From: a@carrier.test\r\nSubject: x\r\n\r\n"
	begun := time.Now()
	for range 2 {
		if a := in.send("a@carrier.test", letter+"x\r\n", "anybody@return.shop.test"); a[:3] != "250" {
			t.Fatal(a)
		}
	}
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("two mails took %v", took)
	}
	if a := in.send("a@carrier.test", letter+strings.Repeat("0123456789\r\n", 200), "anybody@return.shop.test"); a[:3] != "552" {
		t.Errorf("a large one: %q", a)
	}
}
