package node_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// setClock puts the product clock to a moment of a day, in UTC.
func (r *rig) setClock(hour, minute int) {
	r.Helper()
	at := time.Date(2027, 3, 10, hour, minute, 0, 0, time.UTC).Unix()
	if status := r.call("POST", "/testing/clock", map[string]int64{"set": at}, nil); status != 200 {
		r.Fatalf("clock: %d", status)
	}
}

const night = ", quiet_hours: [{name: night, apply: [{header: To, pattern: '.+@quiet\\.test'}], except: [{header: X-Urgent, pattern: 'yes'}], from: '21:00', to: '08:00', zone: UTC}]"

// TestQuietOverMidnight holds mail of a filter from 21:00 to 08:00 of the next day, and no other (R36, R38).
func TestQuietOverMidnight(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), night)
	r.setClock(20, 58)
	c := r.session()
	c.mustSend(text(""), "early@quiet.test")
	sink.mustGet(t, 1)
	r.setClock(21, 0)
	own := time.Unix(r.now(), 0)
	c.mustSend(text(""), "held@quiet.test")
	c.mustSend(text("X-Urgent: yes\n"), "urgent@quiet.test")
	c.mustSend(text(""), "other@loud.test")
	c.mustSend(text(fmt.Sprintf("X-Relay-Quiet-Hours: %s-%s\n", own.Add(-30*time.Minute).Format("1504"), own.Add(30*time.Minute).Format("1504"))), "own@loud.test")
	c.mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\nX-Relay-Lifetime: 60\n", r.now()+7200)), "appointed@quiet.test")
	sink.mustGet(t, 3)
	r.advance(35 * time.Minute)
	if got := sink.mustGet(t, 4); got.to != "own@loud.test" {
		t.Fatalf("%s came before 21:35", got.to)
	}
	r.advance(10 * time.Hour)
	c.mustSend(text(""), "morning@loud.test") // and with it whatever went
	if got := sink.mustGet(t, 5); got.to != "morning@loud.test" {
		t.Fatalf("%s came before 08:00", got.to)
	}
	r.advance(25 * time.Minute)
	sink.mustGet(t, 7)
	r.atRest()
}

// TestQuietStopsTheMiddle reaches the window while a mail is being retried, and goes on after it although its lifetime
// has passed by the wall (R38, E-26).
func TestQuietStopsTheMiddle(t *testing.T) {
	var open atomic.Bool
	sink := startReceiver(t, "127.0.0.1:0", func(stage, _ string) string {
		if stage == "rcpt" && !open.Load() {
			return "451 4.7.1 later"
		}
		return ""
	})
	r := newRig(t, to(sink), night)
	r.setClock(20, 50)
	r.session().mustSend(text("X-Relay-Lifetime: 1200\n"), "batch@quiet.test")
	mustBecome(t, "an attempt", func() bool { return sink.tried("batch@quiet.test") == 1 })
	mustBecome(t, "its outcome", func() bool { return r.counters("unit=total")[0]["temporary"] == 1 })
	r.setClock(23, 0)
	open.Store(true)
	r.session().mustSend(text(""), "witness@loud.test")
	if got := sink.mustGet(t, 1); got.to != "witness@loud.test" {
		t.Fatalf("%s went at 23:00", got.to)
	}
	r.setClock(24+8, 0)
	if got := sink.mustGet(t, 2); got.to != "batch@quiet.test" {
		t.Fatalf("%s went at 08:00", got.to)
	}
	r.atRest()
}

// TestSendingHours holds the domain the rule names, and no other (R37).
func TestSendingHours(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	r.setClock(12, 20) // not the full hour, of which carriers are spared
	clock := func(d time.Duration) string { return time.Unix(r.now(), 0).Add(d).Format("15:04") }
	type list = []map[string]any
	settings := map[string]any{
		"tenants":       list{{"name": "shop", "compositions": list{{"name": "main", "networks": []string{"127.0.0.0/8"}}}}},
		"sending_hours": list{{"domain": "docomo.ne.jp", "from": clock(2 * time.Hour), "to": clock(4 * time.Hour)}},
	}
	if status := r.call("PUT", "/v1/settings", settings, nil); status != 200 {
		t.Fatalf("settings: %d", status)
	}
	c := r.session()
	c.mustSend(text(""), "a@docomo.ne.jp")
	c.mustSend(text(""), "b@softbank.ne.jp")
	if got := sink.mustGet(t, 1); got.to != "b@softbank.ne.jp" {
		t.Fatalf("%s went", got.to)
	}
	var tr struct{ Waiting []struct{ Binding string } }
	if r.call("POST", "/ekiden.admin.v1.AdminService/Trace", map[string]string{"address": "a@docomo.ne.jp"}, &tr); len(tr.Waiting) != 1 || tr.Waiting[0].Binding != "quiet_hours" {
		t.Errorf("trace %+v", tr)
	}
	r.advance(2 * time.Hour)
	sink.mustGet(t, 2)
	r.atRest()
}

// TestSendingHoursSetLater: hours that were set while mail waited hold it, and no lifetime ends in them, nor that of the
// engine's own mail (R37, R38, E-26).
func TestSendingHoursSetLater(t *testing.T) {
	var open atomic.Bool
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		switch {
		case stage == "rcpt" && arg == "gone@docomo.ne.jp":
			return "550 Unknown user " + arg
		case stage == "rcpt" && !open.Load():
			return "451 4.3.0 later"
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	r.setClock(12, 20)
	c := r.session()
	c.mustSend(text(""), "waits@shop.test")
	c.mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", r.now()+3600)), "appointed@shop.test")
	mustBecome(t, "its outcome", func() bool { return r.counters("unit=total")[0]["temporary"] == 1 })
	clock := func(d time.Duration) string { return time.Unix(r.now(), 0).Add(d).Format("15:04") }
	type list = []map[string]any
	settings := map[string]any{
		"tenants":       list{{"name": "shop", "compositions": list{{"name": "main", "networks": []string{"127.0.0.0/8"}}}}},
		"sending_hours": list{{"domain": "shop.test", "from": clock(4 * time.Hour), "to": clock(6 * time.Hour)}},
	}
	if status := r.call("PUT", "/v1/settings", settings, nil); status != 200 {
		t.Fatalf("settings: %d", status)
	}
	r.advance(3*time.Hour + 30*time.Minute)
	c.mustSend(text(""), "gone@docomo.ne.jp")
	mustBecome(t, "the failure", func() bool { return len(r.events("status=failed")) == 1 })
	open.Store(true)
	r.advance(45 * time.Minute) // a quarter of an hour after the hours: no lifetime has passed
	sink.mustGet(t, 3)
	sink.bounceOf(t, "gone@docomo.ne.jp")
	r.atRest()
	if n := len(r.events("status=failed")); n != 1 {
		t.Errorf("%d failures", n)
	}
}

// TestTraceAfterSendingHoursAreGone: mail that was put off by sending hours keeps its place in the queue when they are removed,
// and is not said to be a reservation (N12).
func TestTraceAfterSendingHoursAreGone(t *testing.T) {
	r := newRig(t, "", "")
	r.setClock(12, 20)
	clock := func(d time.Duration) string { return time.Unix(r.now(), 0).Add(d).Format("15:04") }
	type list = []map[string]any
	settings := map[string]any{
		"tenants":       list{{"name": "shop", "compositions": list{{"name": "main", "networks": []string{"127.0.0.0/8"}}}}},
		"sending_hours": list{{"domain": "shop.test", "from": clock(2 * time.Hour), "to": clock(4 * time.Hour)}},
	}
	put := func() {
		t.Helper()
		if status := r.call("PUT", "/v1/settings", settings, nil); status != 200 {
			t.Fatalf("settings: %d", status)
		}
	}
	put()
	c := r.session()
	c.mustSend(text(""), "off@shop.test")
	c.mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", r.now()+3*3600)), "appointed@shop.test")
	settings["sending_hours"] = list{}
	put()
	for to, want := range map[string]string{"off@shop.test": "quiet_hours", "appointed@shop.test": "reservation"} {
		var tr struct {
			Waiting []struct {
				Binding    string
				Until, Due time.Time
			}
		}
		if r.call("POST", "/ekiden.admin.v1.AdminService/Trace", map[string]string{"address": to}, &tr); len(tr.Waiting) != 1 ||
			tr.Waiting[0].Binding != want || !tr.Waiting[0].Until.Equal(tr.Waiting[0].Due) {
			t.Errorf("%s: %+v, want %s until it is due", to, tr, want)
		}
	}
}

// TestForward makes two deliveries of a copy and one of a rewritten recipient (R116).
func TestForward(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), ", forward: [{name: copy, header: Subject, pattern: '.*test.*', to: archive@x.test, mode: copy}, "+
		"{name: moved, header: To, pattern: 'old@x\\.test', to: new@x.test, mode: rewrite}]")
	r.session().mustSend(text(""), "old@x.test")
	sink.mustGet(t, 2)
	for to, want := range map[string]int{"archive@x.test": 1, "new@x.test": 1, "old@x.test": 0} {
		if got := sink.tried(to); got != want {
			t.Errorf("%s: %d deliveries, not %d", to, got, want)
		}
	}
	r.atRest()
}
