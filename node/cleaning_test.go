package node_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestCleaningHasItsOwnRow counts cleaning mail in the cleaning row of its carrier, and lets normal mail pass it (R24,
// R49, R63).
func TestCleaningHasItsOwnRow(t *testing.T) {
	t.Parallel()
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
	r.again()
	if r.call("GET", "/v1/queues", nil, &q); q.Queues[0].Waiting != 1 || q.Queues[6].Waiting != 5 {
		t.Errorf("after a restart: %+v", q)
	}
	open.Store(true)
	r.setClock(12, 22) // the restart put the clock right again
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

// TestUncleanListsOfAll (D2): what counts is the last 1,000 recipients of all members together. Unknown users that three of
// them met slow the tenant down at every one, found out by whoever met most although the last was met elsewhere; it is told
// once, and one call at any member ends it at all.
func TestUncleanListsOfAll(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "rcpt" && strings.HasPrefix(arg, "gone") {
			return "550 5.1.1 user unknown"
		}
		return ""
	})
	trio := newTrioWith(t, sink, "tenants: [{name: shop, cleaning_above: 1, bounce: {format: none}, compositions: [{name: main, networks: [127.0.0.0/8]}]}]\n"+
		"receivers: [{name: shy, domains: [shy.test]}]\n")
	gone, failed := 0, func() int64 { return trio[0].counters("unit=total")[0]["failed"] }
	send := func(r *rig, n int) {
		c := r.session()
		for range n {
			gone++
			c.mustSend(text(""), fmt.Sprintf("gone%d@shy.test", gone))
		}
		mustBecome(t, "refused", func() bool { return failed() == int64(gone) })
	}
	shows := func(r *rig, series string) bool {
		_, all := r.text("/metrics")
		return strings.Contains(all, "\n"+series+"\n")
	}
	slow := func() (n int) {
		for _, r := range trio {
			if shows(r, `ekiden_auto_cleaning{receiver="shy"} 1`) {
				n++
			}
		}
		return n
	}
	for i, n := range []int{5, 3, 2} {
		send(trio[i], n)
	}
	if becomes(6*time.Second, func() bool { return slow() > 0 }) { // longer than whoever suspects something waits
		t.Fatal("slowed down at ten unknown users, which the limit allows")
	}
	send(trio[2], 1)
	if !becomes(20*time.Second, func() bool { return slow() == len(trio) }) {
		t.Fatalf("eleven unknown users of three members slow down %d of them: %+v", slow(), trio[0].suspensions())
	}
	list := trio[1].suspensions()
	if len(list) != 1 || !strings.Contains(list[0].Reason, "11 of the last 11 recipients unknown") {
		t.Errorf("listed as %+v", list)
	}
	mustBecome(t, "told once in the audit trail", func() bool { return trio[2].timesAudited("cleaning began") == 1 })
	alarms := 0
	for _, r := range trio {
		if shows(r, `ekiden_alarms{alarm="unclean_list"} 1`) {
			alarms++
		}
	}
	if alarms != 1 {
		t.Errorf("%d members raise the alarm", alarms)
	}
	if status := trio[2].call("POST", adminPath+"Unsuspend", map[string]any{"subject": list[0].Subject}, nil); status != 200 {
		t.Fatalf("unsuspend: %d", status)
	}
	mustBecome(t, "all go on", func() bool { return slow() == 0 && len(trio[0].suspensions()) == 0 })
	mustBecome(t, "its end is told once", func() bool { return trio[0].timesAudited("cleaning ended") == 1 })
	for _, r := range trio {
		if shows(r, `ekiden_alarms{alarm="unclean_list"} 1`) {
			t.Error("the alarm stands")
		}
	}
	send(trio[0], 1) // what was seen before counts no more
	if becomes(6*time.Second, func() bool { return slow() > 0 }) {
		t.Error("slowed down again by one unknown user")
	}
}
