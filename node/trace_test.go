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
