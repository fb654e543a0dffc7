package node_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fourSourceIPs gives a node four loopback addresses to send from.
func fourSourceIPs(s string) string {
	return strings.Replace(s, "hostname: relay.test}",
		"hostname: relay.test, source_ips: [127.0.0.2, 127.0.0.3, 127.0.0.4, 127.0.0.5]}", 1)
}

// TestSpeedFilters: what a filter matches keeps its connections and its interval, whatever the number of sources, and
// goes to its host where it names one (R40, R42).
func TestSpeedFilters(t *testing.T) {
	const n, interval = 10, 300 * time.Millisecond
	var open, most atomic.Int64
	sink := startReceiver(t, "127.0.0.1:0", func(stage, _ string) string {
		switch stage {
		case "greet":
			for now := open.Add(1); ; {
				if m := most.Load(); now <= m || most.CompareAndSwap(m, now) {
					break
				}
			}
		case "quit":
			open.Add(-1)
		}
		return ""
	})
	smart := startReceiver(t, "127.0.0.1:0", nil)
	r := newRigWith(t, to(sink), "", func(s string) string {
		return strings.Replace(s, "name: shop,", fmt.Sprintf(`name: shop, speed: [
  {name: slow, patterns: ['.+@slow\.test'], connections: 2, interval: %s},
  {name: smart, patterns: ['.+@routed\.test'], route: '%s'}],`, interval, smart.Addr()), 1)
	}, fourSourceIPs)
	c := r.session()
	for i := range n {
		c.mustSend(text(""), fmt.Sprintf("u%d@slow.test", i))
	}
	begun := time.Now()
	sink.mustGet(t, n)
	// Two connections, each with the first message at once; the last of these was sent when begun was read.
	if took, least := time.Since(begun), (n/2-1)*interval-200*time.Millisecond; took < least {
		t.Errorf("%d messages took %s, two connections at %s each need %s", n, took, interval, least)
	}
	if m := most.Load(); m > 2 {
		t.Errorf("%d connections at once, the filter allows 2", m)
	}
	c.mustSend(text(""), "u@routed.test")
	if m := smart.mustGet(t, 1); m.to != "u@routed.test" {
		t.Errorf("the smart host has %s", m.to)
	}
	if sink.tried("u@routed.test") != 0 {
		t.Error("it went to the domain's own host too")
	}
	r.atRest()
}
