package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestTraceTellsWhatBinds: whoever asks why a message is not sent yet hears the constraint and when it ends (N12).
func TestTraceTellsWhatBinds(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "rcpt" && strings.HasPrefix(arg, "later") {
			return "451 4.3.0 come again"
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	suspend := func(kind, value string) {
		body := map[string]any{"subject": map[string]string{kind: value}, "reason": "asked for", "for": "3600s"}
		if status := r.call("POST", "/ekiden.admin.v1.AdminService/Suspend", body, nil); status != 200 {
			t.Fatalf("suspend: %d", status)
		}
	}
	c := r.session()
	c.mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", r.now()+3600)), "appointed@x.test")
	c.mustSend(text(""), "later@x.test")
	mustBecome(t, "put off", func() bool { return r.counters("unit=total")[0]["temporary"] == 1 })
	type waiting struct {
		Binding, Detail string
		Due, Until      time.Time
		Attempts        int
	}
	trace := func(address string) waiting {
		var a struct{ Waiting []waiting }
		body := map[string]string{"address": address}
		if status := r.call("POST", "/ekiden.admin.v1.AdminService/Trace", body, &a); status != 200 || len(a.Waiting) != 1 {
			t.Fatalf("trace %s: %d %+v", address, status, a)
		}
		return a.Waiting[0]
	}
	check := func(address, binding, detail string, least, most time.Duration) {
		t.Helper()
		w, now := trace(address), time.Unix(r.now(), 0)
		if left := w.Until.Sub(now); w.Binding != binding || !strings.Contains(w.Detail, detail) || left < least || left > most {
			t.Errorf("%s: %+v, want %s %q within %v to %v", address, w, binding, detail, least, most)
		}
		if w.Due.IsZero() {
			t.Errorf("%s: not said when it is due", address)
		}
	}
	check("appointed@x.test", "reservation", "", 59*time.Minute, 61*time.Minute)
	check("later@x.test", "retry", "451 4.3.0 come again", 50*time.Second, 62*time.Second)
	suspend("domain", "held.test")
	c.mustSend(text(""), "u@held.test")
	check("u@held.test", "suspension", "asked for", 59*time.Minute, 61*time.Minute)
	suspend("tenant", "shop")
	c.mustSend(text(""), "u@y.test")
	check("u@y.test", "suspension", "asked for", 59*time.Minute, 61*time.Minute)
	check("later@x.test", "suspension", "asked for", 59*time.Minute, 61*time.Minute)
}

// TestTraceNamesTheTrueConstraint: what holds mail back is told by its own name and end, not as a want of connections (N12).
func TestTraceNamesTheTrueConstraint(t *testing.T) {
	for _, row := range []struct {
		name        string
		composition string // settings of the composition
		tenant      string // and of the tenant
		rules       string // and of the receiver
		mails       int
		first       int // of them at once
		binding     string
		detail      string
		most        time.Duration // until the end
	}{
		{name: "a speed cap", composition: ", speed_cap: {messages: 1, per: 1m}", mails: 3, first: 1,
			binding: "speed_cap", detail: "of shop/main: 1 messages in 1m0s", most: time.Minute},
		{name: "an interval", tenant: "speed: [{name: slow, patterns: ['.+@one\\.test'], connections: 1, interval: 10000ms, fixed: true}], ",
			mails: 3, first: 1, binding: "interval", detail: "one message every 10s on each of 1 connections", most: 10 * time.Second},
		{name: "new connections", rules: "connections: 5, per_connection: 1, connection_rate: 0.05", mails: 6, first: 3,
			binding: "connection_rate", detail: "connections are begun no faster", most: 20 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			sink := startReceiver(t, "127.0.0.1:0", nil)
			r := newRigWith(t, to(sink), row.composition, func(s string) string {
				if row.rules != "" {
					s += "receivers: [{name: one, domains: [one.test], " + row.rules + "}]\n"
				}
				return strings.Replace(s, "name: shop, ", "name: shop, "+row.tenant, 1)
			})
			c := r.session()
			for i := range row.mails {
				c.mustSend(text(""), fmt.Sprintf("u%d@one.test", i))
			}
			sink.mustGet(t, row.first)
			var a struct {
				Waiting []struct {
					Binding, Detail string
					Until           time.Time
				}
			}
			if !becomes(5*time.Second, func() bool {
				a.Waiting = nil
				body := map[string]string{"address": fmt.Sprintf("u%d@one.test", row.mails-1)}
				r.call("POST", "/ekiden.admin.v1.AdminService/Trace", body, &a)
				return len(a.Waiting) == 1 && a.Waiting[0].Binding == row.binding
			}) {
				t.Fatalf("%+v, want %s", a.Waiting, row.binding)
			}
			w := a.Waiting[0]
			if left := w.Until.Sub(time.Unix(r.now(), 0)); !strings.Contains(w.Detail, row.detail) || left < -time.Second || left > row.most+2*time.Second {
				t.Errorf("%+v, want %q, %s at most", w, row.detail, row.most)
			}
		})
	}
}

// TestGaugesOfAGroup: what of a group is waiting, retried and in delivery is told like that of a domain (R60, R62).
func TestGaugesOfAGroup(t *testing.T) {
	over := make(chan struct{})
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		switch {
		case stage == "rcpt" && strings.HasPrefix(arg, "later"):
			return "451 4.3.0 come again"
		case stage == "dot" && strings.HasPrefix(arg, "slow"):
			<-over
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	t.Cleanup(func() { close(over) })
	c := r.session()
	for _, u := range []string{"later1", "later2", "slow", "done"} {
		c.mustSend(text("X-Relay-Group: news\n"), u+"@"+u+".test")
	}
	c.mustSend(text(fmt.Sprintf("X-Relay-Group: news\nX-KAEDE-Appoint: %d\n", r.now()+3600)), "u@appointed.test")
	c.mustSend(text("X-Relay-Group: other\n"), "later@other.test")
	is := func(undelivered, retry, inDelivery int64) func() bool {
		return func() bool {
			n := r.counters("unit=total&group=news")[0]
			return n["succeeded"] == 1 && n["undelivered"] == undelivered && n["retry"] == retry && n["in_delivery"] == inDelivery
		}
	}
	if !becomes(10*time.Second, is(1, 2, 1)) {
		t.Fatalf("counters of the group: %v", r.counters("unit=total&group=news"))
	}
	var groups struct {
		Groups []struct {
			Name     string
			Counters map[string]any
		}
	}
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/ListGroups", map[string]any{}, &groups); status != 200 || len(groups.Groups) != 2 {
		t.Fatalf("groups: %d %+v", status, groups)
	}
	if g := groups.Groups[0]; g.Name != "news" || fmt.Sprint(g.Counters["retry"]) != "2" {
		t.Errorf("groups: %+v", groups)
	}
}

// TestTraceOfNoMessage: an id of zeros is nobody's, and not everybody's.
func TestTraceOfNoMessage(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	r.session().mustSend(text(""), "a@x.test")
	var out struct{ Events []any }
	for _, id := range []string{"000000000000000000000000", "0000000000000000000000ff"} {
		if status := r.call("POST", adminPath+"Trace", map[string]string{"message": id}, &out); status != 404 || len(out.Events) > 0 {
			t.Errorf("trace %s: %d, %d events; want 404", id, status, len(out.Events))
		}
	}
	if status := r.call("GET", "/v1/events?message=000000000000000000000000", nil, nil); status != 400 {
		t.Errorf("events of no message: %d, want 400", status)
	}
	if list := r.events("message=0000000000000000000000ff"); len(list) > 0 {
		t.Errorf("events of a message that there is not: %d", len(list))
	}
}
