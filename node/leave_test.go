package node_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDrainAndLeave: what a member handed over is not its own any more, although it was not restarted, and its log is still
// there; and a member that is removed while it runs says so itself.
func TestDrainAndLeave(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := newTrio(t, sink)
	n1, n2 := trio[0], trio[1]
	c := n1.session()
	for i := range 3 {
		c.mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", n1.now()+3600)), fmt.Sprintf("later%d@a.test", i))
	}
	c.mustSend(text(""), "now@a.test")
	sink.mustGet(t, 1)
	if status := n1.call("POST", adminPath+"Drain", map[string]string{}, nil); status != 200 {
		t.Fatalf("drain: %d", status)
	}
	moved := func() bool {
		own := n1.members()["n1"]
		return own.Waiting == 0 && len(own.Lineages) == 0 && waiting(trio...) == 3
	}
	if !becomes(20*time.Second, moved) {
		t.Fatalf("after the drain %d wait: %+v", waiting(trio...), n1.members())
	}
	mustBecome(t, "n1 answers for its log", func() bool { return n1.call("GET", "/v1/counters?unit=total", nil, nil) == 200 })
	if got := n1.counters("unit=total")[0]; got["undelivered"] != 3 || got["succeeded"] != 1 {
		t.Errorf("all members count %v", got)
	}
	if n := n1.told()["succeeded now@a.test"]; n != 1 {
		t.Errorf("the log of n1 tells %d times of its mail", n)
	}
	for _, r := range trio {
		r.atRest()
	}
	if s := n1.status(); len(s.Reasons) == 0 || s.Reasons[0].Code != "draining" {
		t.Errorf("n1 is %+v", s)
	}

	if status := n2.call("POST", adminPath+"RemoveMember", map[string]any{"node": "n1"}, nil); status != 200 {
		t.Fatalf("leave: %d", status)
	}
	removed := func() bool {
		return slices.ContainsFunc(n1.status().Reasons, func(r struct{ Code, Detail string }) bool {
			return r.Code == "removed" && strings.Contains(r.Detail, "ekiden cluster admit n1")
		})
	}
	if !becomes(20*time.Second, removed) {
		t.Errorf("n1 does not say that it was removed: %+v", n1.status())
	}
}

// TestDrainGoesOnWhenNobodyListens: a receiver may hold its reply to the dot for longer than whoever asked for the drain waits.
// The queue is handed over all the same, or nobody would send it.
func TestDrainGoesOnWhenNobodyListens(t *testing.T) {
	reached, answer := make(chan struct{}, 1), make(chan struct{})
	sink := startReceiver(t, "127.0.0.1:0", func(stage, to string) string {
		if stage == "dot" && to == "slow@a.test" {
			select {
			case reached <- struct{}{}:
				<-answer
			default:
			}
		}
		return ""
	})
	trio := newTrio(t, sink)
	n1 := trio[0]
	c := n1.session()
	c.mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", n1.now()+3600)), "later@a.test")
	c.mustSend(text(""), "slow@a.test")
	<-reached

	asked, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(asked, "POST", "http://"+n1.node.Ready().HTTP+adminPath+"Drain", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n1.token())
	req.Header.Set("Content-Type", "application/json")
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			t.Errorf("the drain did not wait for the reply to the dot: %d", resp.StatusCode)
		}
	}()
	mustBecome(t, "draining", func() bool { return slices.ContainsFunc(n1.status().Reasons, isDraining) })
	leave()
	<-gone
	close(answer)
	mustBecome(t, "handed over", func() bool {
		own := n1.members()["n1"]
		return own.Waiting == 0 && len(own.Lineages) == 0 && waiting(trio...) == 1
	})
	sink.mustGet(t, 1)
}

func isDraining(r struct{ Code, Detail string }) bool { return r.Code == "draining" }
