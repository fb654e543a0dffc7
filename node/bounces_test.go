package node_test

import (
	"strings"
	"testing"
)

// bounceOf waits for the bounce about to, which comes to the sender with the null sender.
func (r *receiver) bounceOf(t *testing.T, to string) (m received) {
	t.Helper()
	mustBecome(t, "bounce about "+to, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, m = range r.messages {
			if m.from == "" && strings.Contains(m.data, to) {
				return true
			}
		}
		return false
	})
	return m
}

func (r *receiver) bounces() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.messages {
		if m.from == "" {
			n++
		}
	}
	return n
}

// refuses answers as carriers do, by the address.
func refuses(stage, arg string) string {
	switch {
	case arg == "gone@docomo.ne.jp" && stage == "rcpt", arg == "filter@docomo.ne.jp" && stage == "dot":
		return "550 Unknown user " + arg
	case arg == "full@docomo.ne.jp" && stage == "dot":
		return "552 Too much mail data " + arg
	case arg == "gone@ezweb.ne.jp" && stage == "rcpt":
		return "550 <" + arg + ">: User unknown"
	case arg == "filter@ezweb.ne.jp" && stage == "rcpt":
		return "550 : User unknown"
	case strings.HasPrefix(arg, "gone@") && stage == "rcpt":
		return "550 5.1.1 user unknown"
	}
	return ""
}

// TestClassicBounces: the matrix of requirements D3 over real sockets, bodies byte by byte, and no bounce of a bounce.
func TestClassicBounces(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if arg == "lost@shop.test" && stage == "rcpt" {
			return "550 5.1.1 user unknown"
		}
		return refuses(stage, arg)
	})
	r := newRig(t, to(sink), "")
	c := r.session()
	told := map[string]string{
		"gone@docomo.ne.jp": "unknown user", "filter@docomo.ne.jp": "reject", "gone@ezweb.ne.jp": "unknown user",
		"gone@gmail.com": "unknown user", "gone@sampledomain.com": "unknown user (maybe)",
	}
	for rcpt := range told {
		c.mustSend(text(""), rcpt)
	}
	for _, rcpt := range []string{"full@docomo.ne.jp", "filter@ezweb.ne.jp", "fine@docomo.ne.jp"} {
		c.mustSend(text(""), rcpt)
	}
	if a := c.send("", text(""), "gone@null.test"); a[:3] != "250" { // nobody to tell (R92)
		t.Fatal(a)
	}
	if a := c.send("lost@shop.test", text(""), "gone@else.test"); a[:3] != "250" { // its bounce fails, and that is the end
		t.Fatal(a)
	}
	for rcpt, reason := range told {
		m := sink.bounceOf(t, rcpt)
		head, body, _ := strings.Cut(m.data, "\r\n\r\n")
		if want := rcpt + "\r\n" + reason + "\r\n"; body != want || m.to != "sender@shop.test" {
			t.Errorf("to %s: %q, want %q", m.to, body, want)
		}
		_, domain, _ := strings.Cut(rcpt, "@")
		for _, line := range []string{"From: postmaster@" + domain, "To: sender@shop.test", "Subject: Mail System Error Bounce Mail"} {
			if !strings.Contains("\r\n"+head+"\r\n", "\r\n"+line+"\r\n") {
				t.Errorf("%q is not in %q", line, head)
			}
		}
	}
	mustBecome(t, "the lost sender was tried", func() bool { return sink.tried("lost@shop.test") == 1 })
	r.atRest()
	if n := sink.bounces(); n != len(told) {
		t.Errorf("%d bounces, want %d", n, len(told))
	}
	// The customer's counts do not know of them (R60).
	if got := r.counters("unit=total")[0]; got["succeeded"] != 1 || got["failed"] != 9 {
		t.Errorf("counters %v", got)
	}
}

// TestNotifications: RFC 3464 to the address of the tenant, with the header section that came in, or none at all (R90, R91).
func TestNotifications(t *testing.T) {
	with := func(how string) func(string) string {
		return func(settings string) string {
			return strings.Replace(settings, "{name: shop,", "{name: shop, bounce: "+how+",", 1)
		}
	}
	t.Run("dsn", func(t *testing.T) {
		sink := startReceiver(t, "127.0.0.1:0", refuses)
		r := newRigWith(t, to(sink), "", with("{format: dsn, to: errors@shop.test}"))
		r.session().mustSend(text("X-Mine: 1\n"), "full@docomo.ne.jp")
		m := sink.bounceOf(t, "full@docomo.ne.jp")
		for _, want := range []string{"report-type=delivery-status", "Final-Recipient: rfc822; full@docomo.ne.jp\r\nAction: failed\r\nStatus: 5.2.2\r\n",
			"Diagnostic-Code: smtp; 552 Too much mail data full@docomo.ne.jp\r\n", "text/rfc822-headers", "X-Mine: 1\r\n"} {
			if !strings.Contains(m.data, want) {
				t.Errorf("%q is not in %s", want, m.data)
			}
		}
		if m.to != "errors@shop.test" {
			t.Errorf("told %s", m.to)
		}
		r.atRest()
	})
	t.Run("return path", func(t *testing.T) {
		sink := startReceiver(t, "127.0.0.1:0", refuses)
		r := newRigWith(t, to(sink), "", with("{return_path: true}"))
		for rcpt, header := range map[string]string{"gone@a.test": "Return-Path: <lists@shop.test>\n", "gone@b.test": "", "gone@c.test": "Return-Path: <>\n"} {
			r.session().mustSend(text(header), rcpt)
			want := "sender@shop.test"
			if rcpt == "gone@a.test" {
				want = "lists@shop.test"
			}
			if m := sink.bounceOf(t, rcpt); m.to != want || !strings.Contains(m.data, "To: "+want+"\r\n") {
				t.Errorf("%s: told %s: %s", rcpt, m.to, m.data)
			}
		}
		r.atRest()
	})
	for format, told := range map[string]string{"classic": "unknown user", "dsn": "X-Mine: 1\r\n"} {
		t.Run("return path, failed at intake, "+format, func(t *testing.T) {
			sink := startReceiver(t, "127.0.0.1:0", refuses)
			r := newRigWith(t, to(sink), "", func(settings string) string {
				return strings.Replace(with("{return_path: true, format: "+format+"}")(settings), "{name: shop, ", "{name: shop, blackbox: true, ", 1)
			})
			if status := r.call("POST", "/v1/suppressions", map[string]string{"address": "gone@a.test", "list": "blackbox", "reason": "unknown user"}, nil); status/100 != 2 {
				t.Fatalf("suppress: %d", status)
			}
			r.session().mustSend(text("Return-Path: <lists@shop.test>\nX-Mine: 1\n"), "gone@a.test")
			if m := sink.bounceOf(t, "gone@a.test"); m.to != "lists@shop.test" || !strings.Contains(m.data, told) {
				t.Errorf("told %s: %s", m.to, m.data)
			}
			if n := sink.tried("gone@a.test"); n != 0 {
				t.Errorf("tried %d times", n)
			}
			r.atRest()
		})
	}
	t.Run("none", func(t *testing.T) {
		sink := startReceiver(t, "127.0.0.1:0", refuses)
		r := newRigWith(t, to(sink), "", with("{format: none}"))
		r.session().mustSend(text(""), "gone@docomo.ne.jp")
		mustBecome(t, "failed", func() bool { return len(r.events("status=failed")) == 1 })
		r.atRest()
		if n := sink.count(); n != 0 {
			t.Errorf("%d messages came", n)
		}
	})
}
