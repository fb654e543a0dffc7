package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestDoubt: what becomes of mail whose final dot is never answered is its group's to say: sent again, held until somebody
// decides otherwise, or given up, which says nothing about its address (capability N3). Each event tells which.
func TestDoubt(t *testing.T) {
	var cut atomic.Bool
	cut.Store(true)
	sink := startReceiver(t, "127.0.0.1:0", func(stage, _ string) string {
		if stage == "dot" && cut.Load() {
			return reset
		}
		return ""
	})
	const policy = "in_doubt: {groups: [{name: careful, policy: hold}, {name: bulk, policy: give_up}]}, exclusion: {enabled: true, threshold: 1}, "
	r := newRigWith(t, to(sink), "", func(s string) string { return strings.Replace(s, "{name: shop, ", "{name: shop, "+policy, 1) })
	c := r.session()
	for group, rcpt := range map[string]string{"other": "a@retry.test", "careful": "a@hold.test", "bulk": "a@give.test"} {
		c.mustSend(text("X-Relay-Lifetime: 400000\nX-Relay-Group: "+group+"\n"), rcpt)
	}
	for rcpt, want := range map[string]string{"a@retry.test": "deferred retry", "a@hold.test": "deferred hold", "a@give.test": "failed give_up"} {
		status, way, _ := strings.Cut(want, " ")
		var got []event
		if !becomes(10*time.Second, func() bool { got = r.events("to=" + rcpt + "&status=" + status); return len(got) > 0 }) ||
			!strings.HasSuffix(got[0].Detail, "after the final dot: "+way) || status == "failed" && got[0].Class != 99 {
			t.Errorf("%s: %+v, want %s", rcpt, r.events("to="+rcpt), want)
		}
	}
	cut.Store(false)
	arrived := func(rcpt string) func() bool {
		return func() bool { r.advance(time.Minute); return len(r.events("status=succeeded&to="+rcpt)) == 1 }
	}
	mustBecome(t, "what is sent again arrives", arrived("a@retry.test"))
	if becomes(time.Second, arrived("a@hold.test")) {
		t.Error("what is held was sent")
	}
	var trace struct {
		Waiting []struct{ Binding string }
	}
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/Trace", map[string]string{"address": "a@hold.test"}, &trace); status != 200 ||
		len(trace.Waiting) != 1 || trace.Waiting[0].Binding != "in_doubt" {
		t.Errorf("trace: %d %+v", status, trace)
	}
	var counted struct{ Suppressions []struct{ Address string } }
	if r.call("GET", "/v1/suppressions?list=errors", nil, &counted); len(counted.Suppressions) != 0 {
		t.Errorf("counted against addresses: %+v", counted)
	}
	raw, err := os.ReadFile(filepath.Join(r.dir, "settings.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	yaml := strings.Replace(string(raw), "policy: hold", "policy: retry", 1)
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/ApplySettings", map[string]string{"yaml": yaml}, nil); status != 200 {
		t.Fatalf("apply: %d", status)
	}
	mustBecome(t, "what was held arrives", arrived("a@hold.test"))
	r.atRest()
	if n := sink.count(); n != 2 {
		t.Errorf("%d messages came, want 2", n)
	}
}
