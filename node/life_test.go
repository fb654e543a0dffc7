package node_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
)

// TestRetryLadder: a receiver that always answers 451 is tried about thirty times, once a minute, and the mail then has
// failed with status 3 (R46); one that greylists for three minutes gets it at the fourth attempt (R47); a message's own
// distance and lifetime count for itself alone (R30, R32).
func TestRetryLadder(t *testing.T) {
	t.Parallel()
	var open atomic.Bool // for grey mail
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "rcpt" && (!strings.HasPrefix(arg, "grey") || !open.Load()) {
			if strings.HasPrefix(arg, "grey") {
				return "451 4.7.1 Greylisted, please come back later"
			}
			return "451 4.3.0 later"
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	begin := r.now()
	c := r.session()
	c.mustSend(text(""), "always@x.test")
	c.mustSend(text(""), "grey@x.test")
	c.mustSend(text("X-Relay-Lifetime: 300\nX-Relay-Retry-Interval: 60\n"), "short@x.test")
	told := func(to string) []event { return r.events("limit=100&to=" + to) }
	failed := func(to string) []event { return r.events("status=failed&to=" + to) }
	waiting := map[string]int{"always@x.test": 1, "grey@x.test": 1, "short@x.test": 1} // events so far: queued
	for minute := 0; len(waiting) > 0; minute++ {
		if minute > 40 {
			t.Fatalf("in minute %d still waiting: %v", minute, waiting)
		}
		// The clock runs on by itself, so that a retry that strays a little comes without another step. Each outcome
		// must be on disk before the next step: it is from there that the next attempt counts.
		for to, n := range waiting {
			mustBecome(t, fmt.Sprintf("event %d of %s in minute %d", n+1, to, minute), func() bool { return len(told(to)) > n })
			waiting[to]++
			if e := told(to); e[len(e)-1].Status != "deferred" {
				delete(waiting, to)
			}
		}
		open.Store(r.now()+60 >= begin+180)
		r.advance(time.Minute)
	}
	for _, tt := range []struct {
		to         string
		least, max int
	}{{"always@x.test", 29, 31}, {"grey@x.test", 4, 4}, {"short@x.test", 5, 6}} {
		if n := sink.tried(tt.to); n < tt.least || n > tt.max {
			t.Errorf("%s: %d attempts, want %d to %d", tt.to, n, tt.least, tt.max)
		}
	}
	for _, to := range []string{"always@x.test", "short@x.test"} {
		if e := failed(to); len(e) != 1 || e[0].Class != 3 || e[0].Detail != "lifetime exceeded" {
			t.Errorf("%s: %+v", to, e)
		}
	}
	if n := r.counters("unit=total")[0]; n["expired"] != 2 || n["succeeded"] != 1 || n["failed"] != 0 {
		t.Errorf("counters %v", n)
	}
	r.atRest()
}

// TestReservation: nothing before, the first attempt within seconds after, and the lifetime begins there (R26, E-26).
func TestReservation(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	at := r.now() + 7200
	c := r.session()
	c.mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\nX-Relay-Lifetime: 60\n", at)), "appointed@x.test")
	c.mustSend(text("X-Relay-Start-Time: "+time.Unix(at, 0).Format(time.RFC3339)+"\n"), "started@x.test")
	r.advance(7190 * time.Second)
	c.mustSend(text(""), "now@x.test")
	if got := sink.mustGet(t, 1); got.to != "now@x.test" { // and with it everything due before
		t.Fatalf("%s came before its time", got.to)
	}
	r.advance(10 * time.Second)
	sink.mustGet(t, 3)
	if late := r.now() - at; late > 5 {
		t.Errorf("%d s late", late)
	}
	r.atRest()
}

// TestReservationsOfOtherServices: a header, and where the composition has it so the beginning of the subject, reserve by
// Japan's time to the minute; neither is delivered, the rest of the subject is, and logged (R31).
func TestReservationsOfOtherServices(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), ", received: keep, headers: {subject_time: true}")
	r.setClock(12, 20)
	c := r.session()
	const at = "2027/03/10 23:00" // 14:00 UTC
	c.mustSend("X-Delivery-Time-Specified: "+at+"\r\nSubject: a\r\n\r\nx\r\n", "header@x.test")
	c.mustSend("Subject: ["+at+"] the news\r\n\r\nx\r\n", "subject@x.test")
	c.mustSend("Subject: [2027/03/10 13:00] late\r\n\r\nx\r\n", "past@x.test")
	if got := sink.mustGet(t, 1); got.to != "past@x.test" || got.data != "Subject: late\r\n\r\nx\r\n" {
		t.Fatalf("%+v", got)
	}
	r.advance(99 * time.Minute)
	c.mustSend(text(""), "witness@x.test")
	if got := sink.mustGet(t, 2); got.to != "witness@x.test" {
		t.Fatalf("%s came before its time", got.to)
	}
	r.advance(time.Minute)
	sink.mustGet(t, 4)
	got := map[string]string{}
	sink.note(func() {
		for _, m := range sink.messages[2:] {
			got[m.to] = m.data
		}
	})
	if got["header@x.test"] != "Subject: a\r\n\r\nx\r\n" || got["subject@x.test"] != "Subject: the news\r\n\r\nx\r\n" {
		t.Errorf("arrived %q", got)
	}
	if e := r.events("status=queued&to=subject@x.test"); len(e) != 1 || e[0].Subject != "the news" {
		t.Errorf("logged %+v", e)
	}
	r.atRest()
}

// TestCounters: one event of each of the twelve kinds makes exactly one in its counter (R60), the windows agree with the
// total (R61), groups and domains add up to it (R62), a restart and a rebuild change nothing, and names that cannot be
// found are told from those that cannot be asked for (R48).
func TestCounters(t *testing.T) {
	var once sync.Once
	answered := make(chan struct{})
	sink := startReceiver(t, "127.0.0.5:0", func(stage, arg string) (a string) {
		switch {
		case stage == "rcpt" && strings.HasPrefix(arg, "gone"):
			a = "550 5.1.1 user unknown"
		case stage == "rcpt" && strings.HasPrefix(arg, "later"):
			once.Do(func() { a = "451 4.3.0 later" })
		case stage == "rcpt" && strings.HasPrefix(arg, "never"):
			a = "451 4.3.0 later"
		case stage == "dot" && strings.HasPrefix(arg, "hangs"):
			<-answered
		}
		return a
	})
	port := netip.MustParseAddrPort(sink.Addr().String()).Port()
	startReceiver(t, fmt.Sprintf("127.0.0.6:%d", port), func(stage, _ string) string {
		return map[string]string{"greet": "554 go away"}[stage]
	})
	mx := func(host string) []dnstest.MX { return []dnstest.MX{{Pref: 10, Host: host}} }
	names := dnstest.Start(t, dnstest.Zone{
		MX: map[string][]dnstest.MX{"ok.test": mx("mx.ok.test"), "null.test": mx("."),
			"closed.test": mx("mx.closed.test"), "rude.test": mx("mx.rude.test"), "ill.test": mx("mx.ok.test")},
		A:     map[string][]string{"mx.ok.test": {"127.0.0.5"}, "mx.closed.test": {"127.0.0.7"}, "mx.rude.test": {"127.0.0.6"}},
		Rcode: map[string]int{"ill.test": 2}, // SERVFAIL (RFC 1035 §4.1.1)
	})
	r := newRig(t, fmt.Sprintf("delivery: {port: %d, allow_private: true}\ndns: {servers: ['%s'], timeout: 2s}\n", port, names.Addr), "")
	tests := []struct {
		to     string // in a group of the name of its local part
		header string
		want   map[string]int64
		then   func() // when it is so
	}{
		{"never@ok.test", "X-Relay-Lifetime: 60\n", map[string]int64{"temporary": 1, "retry": 1}, func() { r.advance(3 * time.Minute) }},
		{"", "", map[string]int64{"retry": -1, "expired": 1}, func() { r.group("stop", "stopped", "", nil) }},
		{"u@ok.test", "", map[string]int64{"succeeded": 1}, nil},
		{"gone@ok.test", "", map[string]int64{"failed": 1}, nil},
		{"later@ok.test", "", map[string]int64{"temporary": 1, "retry": 1}, nil},
		{"u@ill.test", "", map[string]int64{"dns_temporary": 1, "retry": 1}, nil},
		{"u@missing.invalid", "", map[string]int64{"dns_failed": 1}, nil},
		{"u@null.test", "", map[string]int64{"dns_failed": 1}, nil},
		{"u@closed.test", "", map[string]int64{"connect_failed": 1, "retry": 1}, nil},
		{"u@rude.test", "", map[string]int64{"connect_error": 1, "retry": 1}, nil},
		{"held@ok.test", "X-Relay-Start-Time: 2099-01-01T00:00:00Z\n", map[string]int64{"undelivered": 1}, nil},
		{"stopped@ok.test", "", map[string]int64{"undelivered": 1}, func() { r.group("discard", "stopped", "", nil) }},
		{"", "", map[string]int64{"undelivered": -1, "interrupted": 1}, nil},
		{"hangs@ok.test", "", map[string]int64{"in_delivery": 1}, func() { close(answered) }},
		{"", "", map[string]int64{"in_delivery": -1, "succeeded": 1}, nil},
	}
	c := r.session()
	sum, seen, parts := map[string]int64{}, map[string]bool{}, map[string]bool{}
	for _, tt := range tests {
		for k, n := range tt.want {
			sum[k] += n
			seen[k] = true
		}
		if tt.to != "" {
			group, domain, _ := strings.Cut(tt.to, "@")
			parts["group="+group], parts["domain="+domain] = true, true
			c.mustSend(text(tt.header+"X-Relay-Group: "+group+"\n"), tt.to)
		}
		same := func() bool {
			for k, n := range r.counters("unit=total")[0] {
				if n != sum[k] {
					return false
				}
			}
			return true
		}
		if !becomes(5*time.Second, same) {
			t.Fatalf("after %s: %v, want %v", tt.to, r.counters("unit=total")[0], sum)
		}
		if tt.then != nil {
			tt.then()
		}
	}
	if len(seen) != 12 {
		t.Errorf("of the twelve counters only %v were raised", seen)
	}
	r.atRest()
	r.mustAddUp("at first", sum, parts)
	r.again()
	r.advance(3 * time.Minute) // the clock was put right again by the restart
	r.mustAddUp("after a restart", sum, parts)
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/RebuildStatistics", map[string]string{}, nil); status != 200 {
		t.Fatalf("rebuild: %d", status)
	}
	r.mustAddUp("after a rebuild", sum, parts)
}

// mustAddUp holds the total, the windows, the groups and the domains against the sum of what was done.
func (r *rig) mustAddUp(when string, sum map[string]int64, parts map[string]bool) {
	r.Helper()
	same := func(what string, got []map[string]int64) {
		r.Helper()
		all := map[string]int64{}
		for _, w := range got {
			for k, n := range w {
				all[k] += n
			}
		}
		for k := range sum {
			if all[k] != sum[k] {
				r.Errorf("%s: %s: %s adds up to %d, want %d", when, what, k, all[k], sum[k])
			}
		}
	}
	same("the total", r.counters("unit=total"))
	var groups, domains []map[string]int64
	for part := range parts {
		if strings.HasPrefix(part, "group=") {
			groups = append(groups, r.counters("unit=total&"+part)...)
		} else {
			domains = append(domains, r.counters("unit=total&"+part)...)
		}
	}
	same("groups", groups)
	same("domains", domains)
	for unit, n := range map[string]int{"hour": 6, "5min": 12} {
		windows := r.counters("unit=" + unit)
		same(unit, windows)
		if len(windows) != n {
			r.Errorf("%s: %d windows of %s", when, len(windows), unit)
		}
	}
}

// TestSealedLife: what a node accepted waits, unreadable, until the code is given; nothing is taken meanwhile, and a
// wrong code changes nothing (I7, I9, R13).
func TestSealedLife(t *testing.T) {
	var open atomic.Bool
	sink := startReceiver(t, "127.0.0.1:0", func(stage, _ string) string {
		if stage == "rcpt" && !open.Load() {
			return "451 4.3.0 later"
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	other := newRig(t, to(sink), "")
	c := r.session()
	const secret = "canary-in-the-queue"
	for i := range 20 {
		c.mustSend("Subject: "+secret+"\r\nX-Relay-Group: "+secret+"\r\n\r\n"+secret+"\r\n", fmt.Sprintf("%s%d@x.test", secret, i))
	}
	mustBecome(t, "all put off", func() bool { return r.counters("unit=total")[0]["retry"] == 20 })
	r.stop()
	open.Store(true)
	err := filepath.WalkDir(filepath.Join(r.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(secret)) || bytes.Contains(raw, []byte("x.test")) || bytes.Contains(raw, []byte(r.code)) {
			t.Errorf("%s can be read without a key", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	r.start()
	if s := r.node.Ready().State; s != "sealed" {
		t.Fatalf("state %s", s)
	}
	if a := r.dial().reply(); !strings.HasPrefix(a, "421 4.3.2 sealed") {
		t.Errorf("greeting %q", a)
	}
	var ready struct{ Reasons []struct{ Code string } }
	if status := r.call("GET", "/readyz", nil, &ready); status != 503 || len(ready.Reasons) != 1 || ready.Reasons[0].Code != "sealed" {
		t.Errorf("readyz: %d %+v", status, ready)
	}
	for name, code := range map[string]string{"mistyped": "AAAA" + r.code[4:], "another node's": other.code, "empty": ""} {
		if status := r.unseal(code); status < 400 || status >= 500 || r.node.Ready().State != "sealed" {
			t.Errorf("%s code: %d", name, status)
		}
	}
	if status := r.unseal(r.code); status != 200 {
		t.Fatalf("unseal: %d", status)
	}
	r.advance(2 * time.Minute)
	mustBecome(t, "all delivered", func() bool { return sink.count() == 20 })
	r.atRest()
}

// TestSuspensionOutlivesRestart: suspended mail is kept, other mail goes on, and lifting it delivers (contract 2).
func TestSuspensionOutlivesRestart(t *testing.T) {
	for _, tt := range []struct{ kind, value, held, free string }{
		{"domain", "held.test", "u@held.test", "u@free.test"},
		{"receiver", "docomo", "u@docomo.ne.jp", "u@free.test"},
		{"tenant", "shop", "u@held.test", ""},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			sink := startReceiver(t, "127.0.0.1:0", nil)
			r := newRig(t, to(sink), "")
			subject := map[string]any{"subject": map[string]string{tt.kind: tt.value}}
			if status := r.call("POST", "/ekiden.admin.v1.AdminService/Suspend", subject, nil); status != 200 {
				t.Fatalf("suspend: %d", status)
			}
			r.session().mustSend(text(""), tt.held)
			r.again()
			if tt.free != "" {
				r.session().mustSend(text(""), tt.free)
				if got := sink.mustGet(t, 1); got.to != tt.free {
					t.Fatalf("%s is not held", got.to)
				}
			}
			if n := r.counters("unit=total")[0]; n["undelivered"]+n["retry"] != 1 {
				t.Errorf("counters %v", n)
			}
			if status := r.call("POST", "/ekiden.admin.v1.AdminService/Unsuspend", subject, nil); status != 200 {
				t.Fatalf("unsuspend: %d", status)
			}
			mustBecome(t, "held mail delivered", func() bool { return sink.tried(tt.held) == 1 })
			r.atRest()
		})
	}
}

// TestIdempotencyKey: the same key is accepted with the same id and delivered once, one after the other, at once, and
// after a restart (contract 5, N10).
func TestIdempotencyKey(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	keyed := func() string {
		return r.session().send("sender@shop.test", text("X-Relay-Idempotency-Key: order 17\n"), "u@x.test")
	}
	first := keyed()
	answers := make(chan string, 10)
	for range cap(answers) {
		c := r.session()
		go func() {
			fmt.Fprintf(c, "MAIL FROM:<sender@shop.test>\r\nRCPT TO:<u@x.test>\r\nDATA\r\n")
			for range 3 {
				c.in.ReadString('\n')
			}
			fmt.Fprintf(c, "%s.\r\n", text("X-Relay-Idempotency-Key: order 17\n"))
			a, _ := c.in.ReadString('\n')
			answers <- strings.TrimSpace(a)
		}()
	}
	for range cap(answers) {
		if a := <-answers; a != first || a[:3] != "250" {
			t.Errorf("got %q, want %q", a, first)
		}
	}
	r.again()
	if a := keyed(); a != first {
		t.Errorf("after a restart %q, want %q", a, first)
	}
	r.session().mustSend(text(""), "last@x.test")
	mustBecome(t, "last one delivered", func() bool { return sink.tried("last@x.test") == 1 })
	if n := sink.tried("u@x.test"); n != 1 {
		t.Errorf("delivered %d times", n)
	}
	r.atRest()
}

// TestStopLosesNothing: a stop in the middle of a transaction lets it finish, and what was answered with 250 is there
// after the start.
func TestStopLosesNothing(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	c := r.session()
	c.cmd("MAIL FROM:<sender@shop.test>")
	c.cmd("RCPT TO:<u@x.test>")
	c.cmd("DATA")
	addr := r.node.Ready().SMTP[0]
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.stop()
	}()
	mustBecome(t, "listener closed", func() bool {
		d, err := net.Dial("tcp", addr)
		if err == nil {
			d.Close()
		}
		return err != nil
	})
	if a := c.cmd("%s.", text("")); a[:3] != "250" {
		t.Errorf("the open transaction ended with %q", a)
	}
	<-stopped
	r.start()
	if status := r.unseal(r.code); status != 200 {
		t.Fatalf("unseal: %d", status)
	}
	mustBecome(t, "delivered", func() bool { return sink.tried("u@x.test") == 1 })
	r.atRest()
}
