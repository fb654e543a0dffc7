package node_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

var acceptedAs = regexp.MustCompile(`^250 .*id=([0-9a-f]{24})`)

// keyed sends a message under a key, until it is taken: its id. Only the refusal that asks for another try is one.
func (r *rig) keyed(key, to string) (id string) {
	r.Helper()
	for range 200 {
		answer := r.session().send("sender@shop.test", text("X-Relay-Idempotency-Key: "+key+"\n"), to)
		if m := acceptedAs.FindStringSubmatch(answer); m != nil {
			return m[1]
		}
		if !strings.HasPrefix(answer, "451 ") && !strings.HasPrefix(answer, "421 ") {
			r.Errorf("%s: key %s is answered %q", r.cfg.Node.Name, key, answer)
			return ""
		}
		time.Sleep(100 * time.Millisecond) // as a client that was told to come later
	}
	r.Errorf("%s: key %s is never taken", r.cfg.Node.Name, key)
	return ""
}

// TestKeyAcrossMembers: a message repeated under its key at another member gets the id of the first, and is sent once: also
// where both are sent at the same time, and where the member that has it dies.
func TestKeyAcrossMembers(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := newTrio(t, sink)
	first := trio[0].keyed("order-1", "one@a.test")
	for _, r := range trio {
		if id := r.keyed("order-1", "one@a.test"); id != first {
			t.Errorf("%s: order-1 is %s, was %s", r.cfg.Node.Name, id, first)
		}
	}
	if id := trio[1].keyed("order-2", "two@a.test"); id == first {
		t.Error("another key has the same id")
	}
	const keys = 15
	var mu sync.Mutex
	var racing sync.WaitGroup
	ids := map[string]map[string]bool{}
	for _, r := range trio {
		for i := range keys {
			racing.Go(func() {
				key := fmt.Sprintf("race-%d", i)
				id := r.keyed(key, key+"@a.test")
				mu.Lock()
				defer mu.Unlock()
				if ids[key] == nil {
					ids[key] = map[string]bool{}
				}
				ids[key][id] = true
			})
		}
	}
	racing.Wait()
	for key, of := range ids {
		if len(of) != 1 {
			t.Errorf("%s has the ids %v", key, of)
		}
	}
	sink.mustGet(t, 2+keys)

	// What n1 accepted it cannot tell when it is down: until a standby has its queue the others refuse rather than guess.
	trio[0].stop()
	if answer := trio[1].session().send("sender@shop.test", text("X-Relay-Idempotency-Key: order-1\n"), "one@a.test"); answer[:3] != "451" {
		t.Errorf("while n1 is down the key is answered %q", answer)
	}
	if !becomes(40*time.Second, func() bool { return len(trio[1].members()["n1"].Lineages) == 0 }) {
		t.Fatal("the queue of n1 is not taken over")
	}
	for _, r := range trio[1:] {
		if id := r.keyed("order-1", "one@a.test"); id != first {
			t.Errorf("%s: after n1 died order-1 is %s, was %s", r.cfg.Node.Name, id, first)
		}
	}
	for _, r := range trio[1:] {
		r.atRest()
	}
	for to, want := range map[string]int{"one@a.test": 1, "two@a.test": 1, "race-0@a.test": 1, fmt.Sprintf("race-%d@a.test", keys-1): 1} {
		if n := sink.tried(to); n != want {
			t.Errorf("%s was sent %d times", to, n)
		}
	}
	if sink.count() != 2+keys {
		t.Errorf("%d messages came, want %d", sink.count(), 2+keys)
	}
}
