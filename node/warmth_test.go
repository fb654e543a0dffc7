package node_test

import (
	"fmt"
	"testing"
	"time"
)

// TestWarmupOutlivesAKill (R149): what a source sent before its process was killed counts for the day's cap, although
// nothing that was learned had been written down yet. The data directory of a moment of rest is what a kill leaves.
func TestWarmupOutlivesAKill(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRigWith(t, to(sink), "", func(s string) string {
		return s + "warmups: [{name: careful, per: day, steps: [10, 1000]}]\n" +
			"pools: [{name: default, sources: [127.0.0.1], warmup: careful}]\n" +
			"receivers: [{name: shy, domains: [shy.test]}]\n"
	})
	r.setClock(12, 0)
	send := func(name string, n int) {
		c := r.session()
		for i := range n {
			c.mustSend(text(""), fmt.Sprintf("%s%d@shy.test", name, i))
		}
	}
	send("before", 6)
	sink.mustGet(t, 6)
	r.atRest()
	killed := r.backup()
	r.stop()
	r.restore(killed)
	r.start()
	if status := r.unseal(r.code); status != 200 {
		t.Fatalf("unseal: %d", status)
	}
	r.setClock(12, 1)
	send("after", 10)
	sink.mustGet(t, 10)
	var a struct{ Waiting []struct{ Binding string } }
	mustBecome(t, "the rest waits for its warm-up", func() bool {
		r.call("POST", adminPath+"Trace", map[string]string{"address": "after9@shy.test"}, &a)
		return len(a.Waiting) == 1 && a.Waiting[0].Binding == "warmup"
	})
	if becomes(2*time.Second, func() bool { return sink.count() > 10 }) {
		t.Errorf("%d sent on a day that allows 10", sink.count())
	}
}
