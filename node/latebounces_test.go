package node_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLateBouncesAlarm: a receiver that reports failures of what it had taken raises its alarm, counts go on after a
// restart, and the settings say from what on (requirement N17).
func TestLateBouncesAlarm(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	hook := startAlarmHook(t)
	adjust := func(s string) string {
		return s + "alarms: {late_bounces: 50, late_bounces_least: 2, webhooks: [{url: '" + hook.URL + "', secret: s3}]}\n"
	}
	r := newRigWith(t, to(sink), ", envelope_from: {rewrite: true, domain: return.shop.test}", adjust, withBounceListener)
	c := r.session()
	c.mustSend(text(""), "a@ezweb.ne.jp", "b@ezweb.ne.jp", "c@ezweb.ne.jp", "d@docomo.ne.jp")
	sink.mustGet(t, 4)
	mustBecome(t, "all delivered", func() bool { return len(r.events("status=succeeded")) == 4 })
	report := func(to string) {
		t.Helper()
		for _, m := range sink.messages {
			if m.to == to {
				if a := r.reports().send("", dsn(to, "550 <"+to+">: User unknown"), m.from); a[:3] != "250" {
					t.Fatal(a)
				}
			}
		}
	}
	alarms := func() (out []string) {
		for _, n := range r.status().Notices {
			if n.Code == "late_bounces" {
				out = append(out, n.Detail)
			}
		}
		return out
	}
	report("a@ezweb.ne.jp")
	report("d@docomo.ne.jp")
	if got := alarms(); len(got) != 0 {
		t.Errorf("one report is too few: %q", got)
	}
	r.stop()
	code := r.code
	r.start()
	if got := r.unseal(code); got != 200 {
		t.Fatalf("unseal: %d", got)
	}
	report("b@ezweb.ne.jp")
	got := alarms()
	if len(got) != 1 || !strings.HasPrefix(got[0], "au reported 2 failures within a day after it had taken the mail (3 taken)") {
		t.Errorf("alarms %q", got)
	}
	mustBecome(t, "a post tells of it", func() bool { return len(hook.told()) == 1 })
	if got := hook.told()[0]; got != "n1 late_bounces au raised signed" {
		t.Errorf("told %q", got)
	}
	r.advance(11 * time.Minute)
	mustBecome(t, "a post tells that it is raised no more, or anew", func() bool { r.status(); return len(hook.told()) > 1 })
	if got := hook.told()[1]; got != "n1 late_bounces au ended signed" {
		t.Errorf("told %q", got)
	}
}

// alarmHook is the operator's HTTP server that keeps what is told of alarms: "node alarm about state signed".
type alarmHook struct {
	*httptest.Server

	mu  sync.Mutex
	got []string
}

func startAlarmHook(t *testing.T) *alarmHook {
	h := &alarmHook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var post struct {
			Type   string                                       `json:"event_type"`
			Events []struct{ Node, Alarm, About, State string } `json:"event"`
		}
		if err := json.NewDecoder(r.Body).Decode(&post); err != nil || post.Type != "alarms" {
			t.Errorf("%+v, %v", post, err)
		}
		signed := "unsigned"
		if strings.HasPrefix(r.Header.Get("webhook-signature"), "v1,") {
			signed = "signed"
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range post.Events {
			h.got = append(h.got, strings.Join([]string{e.Node, e.Alarm, e.About, e.State, signed}, " "))
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *alarmHook) told() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

// TestLateBouncesOfMembers: a receiver is judged by what all members sent and heard, by one of them, whichever member a
// report comes to (requirement N17).
func TestLateBouncesOfMembers(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.5:0", nil)
	trio := newTrioOf(t, to(sink), `tenants: [{name: shop, compositions: [{name: main, networks: [127.0.0.0/8],
  envelope_from: {rewrite: true, domain: return.shop.test}}]}]
alarms: {late_bounces: 50, late_bounces_least: 2}
`, withBounceListener)
	trio[0].session().mustSend(text(""), "a@ezweb.ne.jp", "b@ezweb.ne.jp")
	trio[1].session().mustSend(text(""), "c@ezweb.ne.jp")
	sink.mustGet(t, 3)
	mustBecome(t, "all delivered", func() bool { return len(trio[0].events("status=succeeded")) == 3 })
	for rcpt, at := range map[string]*rig{"a@ezweb.ne.jp": trio[0], "c@ezweb.ne.jp": trio[2]} { // one where nothing was sent from
		for _, m := range sink.messages {
			if m.to == rcpt {
				if a := at.reports().send("", dsn(rcpt, "550 <"+rcpt+">: User unknown"), m.from); a[:3] != "250" {
					t.Fatal(a)
				}
			}
		}
	}
	alarms := func() (out []string) {
		for _, r := range trio {
			for _, n := range r.status().Notices {
				if n.Code == "late_bounces" {
					out = append(out, n.Detail)
				}
			}
		}
		return out
	}
	if !becomes(40*time.Second, func() bool { return len(alarms()) > 0 }) {
		t.Fatal("no alarm")
	}
	if becomes(12*time.Second, func() bool { return len(alarms()) != 1 }) ||
		!strings.HasPrefix(alarms()[0], "au reported 2 failures within a day after it had taken the mail (3 taken)") {
		t.Errorf("alarms %q", alarms())
	}
	mustBecome(t, "every member tells of it in the log", func() bool { return len(trio[2].events("status=alarm")) == 1 })
}
