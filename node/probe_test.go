package node_test

import (
	"strings"
	"testing"
)

// TestProbe: addresses are asked for without any mail, and each answer is what it says (R50).
func TestProbe(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		switch {
		case stage == "rcpt" && strings.HasPrefix(arg, "gone@"):
			return "550 5.1.1 user unknown"
		case stage == "rcpt" && strings.HasPrefix(arg, "barred@"):
			return "554 5.7.1 message refused"
		case stage == "rcpt" && strings.HasPrefix(arg, "grey@"):
			return "450 4.7.1 come back later"
		case stage == "data" || stage == "dot":
			t.Errorf("the probe went on to %s %s", stage, arg)
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	var got struct {
		Results []struct{ Address, Result, Reply string }
	}
	asked := []string{"here@a.example", "gone@a.example", "barred@a.example", "grey@a.example", "here@b.example", "gone@docomo.ne.jp"}
	status := r.call("POST", "/ekiden.admin.v1.AdminService/Probe", map[string]any{"from": "check@shop.test", "addresses": asked}, &got)
	if status != 200 {
		t.Fatalf("status %d", status)
	}
	want := []string{"exists", "unknown", "reject", "undetermined", "exists", "unknown"}
	if len(got.Results) != len(want) {
		t.Fatalf("%d results", len(got.Results))
	}
	for i, p := range got.Results {
		if p.Address != asked[i] || p.Result != want[i] {
			t.Errorf("%s: %s (%s), want %s", p.Address, p.Result, p.Reply, want[i])
		}
	}
	// Nobody is asked who is suspended, and by nothing that is no source.
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/Suspend", map[string]any{"subject": map[string]any{"domain": "b.example"}, "reason": "their MX is down"}, nil); status != 200 {
		t.Fatalf("suspend: status %d", status)
	}
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/Probe", map[string]any{"addresses": []string{"here@b.example", "here@a.example"}}, &got); status != 200 {
		t.Fatalf("status %d", status)
	}
	if p := got.Results[0]; p.Result != "undetermined" || !strings.Contains(p.Reply, "their MX is down") || got.Results[1].Result != "exists" {
		t.Errorf("while one is suspended: %+v", got.Results)
	}
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/Probe", map[string]any{"source": "192.0.2.9", "addresses": []string{"here@a.example"}}, nil); status != 400 {
		t.Errorf("by a stranger: status %d", status)
	}
	if sink.count() != 0 {
		t.Errorf("%d messages came", sink.count())
	}
	r.atRest()
}
