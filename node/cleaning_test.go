package node_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// TestCleaningHasItsOwnRow counts cleaning mail in the cleaning row of its carrier, and lets normal mail pass it (R24,
// R49, R63).
func TestCleaningHasItsOwnRow(t *testing.T) {
	var open atomic.Bool
	sink := startReceiver(t, "127.0.0.1:0", func(stage, _ string) string {
		if stage == "rcpt" && !open.Load() {
			return "451 4.3.0 later"
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	r.setClock(12, 20)
	c := r.session()
	for i := range 5 {
		c.mustSend(text("X-KAEDE-Cleaning: true\n"), fmt.Sprintf("c%d@docomo.ne.jp", i))
	}
	c.mustSend(text(""), "n@docomo.ne.jp")
	var q struct {
		Queues []struct {
			Name    string
			Waiting int
		}
	}
	if r.call("GET", "/v1/queues", nil, &q); len(q.Queues) != 12 || q.Queues[0].Waiting != 1 || q.Queues[6].Name != "docomo_cleaning" || q.Queues[6].Waiting != 5 {
		t.Fatalf("%+v", q)
	}
	mustBecome(t, "all tried", func() bool { return r.counters("unit=total")[0]["temporary"] == 6 })
	open.Store(true)
	r.advance(65 * time.Second)
	sink.mustGet(t, 6)
	r.atRest()
	mustBecome(t, "empty rows", func() bool {
		r.call("GET", "/v1/queues", nil, &q)
		return q.Queues[0].Waiting == 0 && q.Queues[6].Waiting == 0
	})
}

// TestExtraQueues (D1): a group that has a queue of its own stands in rows of its own, behind the twelve.
func TestExtraQueues(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, _ string) string {
		if stage == "rcpt" {
			return "451 4.3.0 later"
		}
		return ""
	})
	r := newRigWith(t, to(sink), "", func(settings string) string {
		return settings + "receivers: [{name: y, domains: [ymobile.ne.jp], queue: ymobile}]\n"
	})
	c := r.session()
	c.mustSend(text(""), "n@ymobile.ne.jp")
	c.mustSend(text("X-KAEDE-Cleaning: true\n"), "c@ymobile.ne.jp")
	var q struct {
		Queues []struct {
			Name    string
			Waiting int
		}
	}
	mustBecome(t, "both stand in rows of their own", func() bool {
		r.call("GET", "/v1/queues", nil, &q)
		return len(q.Queues) == 14 && q.Queues[11].Name == "pc_cleaning" && q.Queues[12].Name == "ymobile" && q.Queues[12].Waiting == 1 &&
			q.Queues[13].Name == "ymobile_cleaning" && q.Queues[13].Waiting == 1
	})
}
