package node_test

import (
	"strings"
	"testing"
	"time"
)

// TestEndsThatCount: the end of a lifetime counts against an address that was tried in vain, and not where nothing was
// learned about it: it was never tried, or the last answer concerned the source (R100, N5).
func TestEndsThatCount(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		switch {
		case stage == "rcpt" && arg == "late@a.test":
			return "451 4.3.0 later"
		case stage == "rcpt" && arg == "other@b.test":
			return "450 4.7.1 <app@shop.test>: Sender address rejected: no"
		}
		return ""
	})
	r := newRigWith(t, to(sink), "", func(s string) string {
		return strings.Replace(s, "{name: shop,", "{name: shop, bounce: {format: none}, exclusion: {enabled: true, threshold: 1},", 1)
	})
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/Suspend", map[string]any{"subject": map[string]string{"domain": "c.test"}}, nil); status != 200 {
		t.Fatalf("suspend: %d", status)
	}
	all := []string{"late@a.test", "other@b.test", "never@c.test"}
	c := r.session()
	for _, a := range all {
		c.mustSend(text(""), a)
	}
	mustBecome(t, "two attempts", func() bool { return len(r.events("status=deferred")) == 2 })
	r.advance(31 * time.Minute)
	mustBecome(t, "all failed", func() bool { return len(r.events("status=failed")) == len(all) })
	var out struct {
		Suppressions []struct{ Address, Reason string }
	}
	mustBecome(t, "the count", func() bool {
		return r.call("GET", "/v1/suppressions?list=errors", nil, &out) == 200 && len(out.Suppressions) > 0
	})
	if len(out.Suppressions) != 1 || out.Suppressions[0].Address != all[0] || out.Suppressions[0].Reason != "3=1" {
		t.Errorf("counted: %+v", out.Suppressions)
	}
}
