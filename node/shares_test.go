package node_test

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestLimitOfTheCluster is N6: two connections for a receiver are two over three members that all have mail for it, also
// while the member that hands them out goes and another begins to; and each member's mail gets its turn.
func TestLimitOfTheCluster(t *testing.T) {
	var mu sync.Mutex
	open, most := 0, 0
	sink := startReceiver(t, "127.0.0.1:0", func(stage, _ string) string {
		mu.Lock()
		defer mu.Unlock()
		switch stage {
		case "greet":
			open++
			most = max(most, open)
		case "quit":
			open--
		}
		return ""
	})
	trio := newTrioWith(t, sink, `tenants:
  - name: shop
    compositions: [{name: main, networks: [127.0.0.0/8]}]
    speed: [{name: two, patterns: [".+@slow\\.test"], connections: 2, interval: 20ms, fixed: true}]
`)
	const each = 40
	var load sync.WaitGroup
	for i, r := range trio {
		c := r.session()
		load.Go(func() {
			for k := range each {
				c.mustSend(text(""), fmt.Sprintf("u%d-%d@slow.test", i, k))
			}
		})
	}
	load.Wait()
	mustBecome(t, "some of it sent", func() bool { return sink.count() > each/2 })
	for _, r := range trio {
		if r.leads() {
			r.stop() // what it has goes to the others
			break
		}
	}
	if !becomes(90*time.Second, func() bool { return sink.count() == 3*each }) {
		t.Errorf("%d of %d arrived", sink.count(), 3*each)
	}
	mu.Lock()
	defer mu.Unlock()
	if most > 2 {
		t.Errorf("%d connections at once, two are the limit", most)
	}
}

// leads tells whether this member says that it leads.
func (r *rig) leads() bool {
	var a struct {
		Members []struct {
			Name   string
			Leader bool
		}
	}
	r.call("POST", "/ekiden.admin.v1.AdminService/ListMembers", map[string]string{}, &a)
	for _, m := range a.Members {
		if m.Leader && m.Name == r.cfg.Node.Name {
			return true
		}
	}
	return false
}
