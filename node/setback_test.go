package node_test

import (
	"net/http"
	"testing"
	"time"
)

// TestReleaseAfterTheClockWasSetBack: what is over on a list is released in time also after the clock was set back,
// from after what was released already.
func TestReleaseAfterTheClockWasSetBack(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nobodyUnknown)
	r := newRig(t, to(sink), "")
	set := func(at time.Time) {
		t.Helper()
		if status := r.call("POST", "/testing/clock", map[string]int64{"set": at.Unix()}, nil); status != 200 {
			t.Fatal(status)
		}
	}
	now := time.Unix(r.now(), 0)
	for _, step := range []struct {
		to   string
		back time.Duration
	}{{"first@a.test", 2 * time.Hour}, {"second@a.test", 200 * 24 * time.Hour}} {
		set(now.Add(72 * time.Hour))
		now = now.Add(-step.back)
		set(now)
		if status := r.call("POST", "/v1/suppressions", map[string]string{"address": step.to, "list": "blocklist", "tenant": "shop",
			"expires": now.Add(24 * time.Hour).Format(time.RFC3339)}, nil); status/100 != http.StatusOK/100 {
			t.Fatalf("suppress: %d", status)
		}
		set(now.Add(25 * time.Hour))
		mustBecome(t, "release of "+step.to, func() bool {
			r.advance(time.Minute) // the house is looked after once in a minute, from a moment after the start on
			return len(r.events("status=released&to="+step.to)) == 1
		})
		now = now.Add(25 * time.Hour)
	}
}
