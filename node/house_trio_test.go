package node_test

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// leader is the member of a trio that leads; the others are the rest.
func leader(t *testing.T, trio []*rig) (lead *rig, rest []*rig) {
	t.Helper()
	var name string
	if !becomes(30*time.Second, func() bool {
		var a struct {
			Members []struct {
				Name   string
				Leader bool
			}
		}
		trio[len(trio)-1].call("POST", adminPath+"ListMembers", map[string]string{}, &a)
		for _, m := range a.Members {
			if m.Leader && slices.ContainsFunc(trio, func(r *rig) bool { return r.cfg.Node.Name == m.Name }) {
				name = m.Name
			}
		}
		return name != ""
	}) {
		t.Fatal("nobody leads")
	}
	for _, r := range trio {
		if r.cfg.Node.Name == name {
			lead = r
		} else {
			rest = append(rest, r)
		}
	}
	return lead, rest
}

// TestHouseIsKeptByOne: what one member does for all, the delivery stop's daily run and the release of what is over, is done
// once, and by another one when that member is gone (requirements R101, R102).
func TestHouseIsKeptByOne(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "rcpt" && strings.HasPrefix(arg, "gone") {
			return "550 5.1.1 User unknown"
		}
		return ""
	})
	trio := newTrioWith(t, sink, "tenants: [{name: shop, compositions: [{name: main, networks: [127.0.0.0/8], "+
		"delivery_stop: {run_at: '03:00', reasons: {2: 1}}}]}]\n")
	night := time.Date(2026, 3, 2, 2, 30, 0, 0, time.Local)
	set := func(all []*rig, at time.Time) {
		t.Helper()
		for _, r := range all {
			if status := r.call("POST", "/testing/clock", map[string]int64{"set": at.Unix()}, nil); status != 200 {
				t.Fatal(status)
			}
		}
	}
	// round has an address fail and another one listed until noon, passes a night and tells what the logs of all say of both.
	round := func(all []*rig, gone, over string, at time.Time) {
		t.Helper()
		set(all, at)
		listed := map[string]any{"address": over, "list": "blocklist", "tenant": "shop", "expires": at.Add(time.Hour).Format(time.RFC3339)}
		if !becomes(30*time.Second, func() bool { return all[0].call("POST", "/v1/suppressions", listed, nil) == 200 }) {
			t.Fatalf("%s is not listed", over)
		}
		all[1].session().mustSend(text(""), gone)
		mustBecome(t, gone+" is counted", func() bool {
			var out struct{ Suppressions []any }
			all[0].call("GET", "/v1/suppressions?list=errors", nil, &out)
			return len(out.Suppressions) == 1
		})
		told := func(status, address string) int {
			n := 0
			for _, e := range all[0].events("status=" + status) {
				if e.To == address {
					n++
				}
			}
			return n
		}
		set(all, at.Add(2*time.Hour))
		if !becomes(20*time.Second, func() bool { return told("blocked", gone) > 0 && told("released", over) > 0 }) {
			t.Fatalf("%s blocked %d times, %s released %d times", gone, told("blocked", gone), over, told("released", over))
		}
		set(all, at.Add(4*time.Hour)) // another look of everybody
		if becomes(3*time.Second, func() bool { return told("blocked", gone) != 1 || told("released", over) != 1 }) {
			t.Errorf("%s blocked %d times, %s released %d times, want once", gone, told("blocked", gone), over, told("released", over))
		}
	}
	round(trio, "gone1@a.test", "over1@a.test", night)
	lead, rest := leader(t, trio)
	lead.stop()
	leader(t, rest) // another one
	for _, r := range rest {
		r.takesMail()
	}
	round(rest, "gone2@a.test", "over2@a.test", night.Add(24*time.Hour))
}
