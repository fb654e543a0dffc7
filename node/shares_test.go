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
	t.Parallel()
	var door turnstile
	sink := startReceiver(t, "127.0.0.1:0", door.pass)
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
	if most := door.most(); most > 2 {
		t.Errorf("%d connections at once, two are the limit", most)
	}
}

// turnstile counts the connections of a receiver, and notes when messages begin.
type turnstile struct {
	mu          sync.Mutex
	open, peak  int
	messages    []time.Time
	connections int
}

func (d *turnstile) pass(stage, _ string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch stage {
	case "greet":
		d.connections++
		d.open++
		d.peak = max(d.peak, d.open)
	case "quit", "cut": // a member that is stopped waits for no commit, and cuts what it has
		d.open--
	case "mail":
		d.messages = append(d.messages, time.Now())
	}
	return ""
}

func (d *turnstile) most() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peak
}

// made counts the connections there ever were.
func (d *turnstile) made() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.connections
}

// between counts the messages that began from a time on, and the most of them within a second.
func (d *turnstile) between(from, to time.Time) (n, busiest int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var in []time.Time
	for _, at := range d.messages {
		if !at.Before(from) && at.Before(to) {
			in = append(in, at)
		}
	}
	first := 0
	for i, at := range in {
		for at.Sub(in[first]) >= time.Second {
			first++
		}
		busiest = max(busiest, i-first+1)
	}
	return len(in), busiest
}

// TestLimitOfTheClusterIsUsed is the other half of N6: three members that all have mail for a receiver with two connections of
// ten messages a second each use them, over two turns of who goes with one fewer, and never more. At rest it is 96 to 98 %
// of the twenty; a machine that has other work must not fail it, so less is asked here, and bunches are let pass that
// only the receiver's own delay makes.
func TestLimitOfTheClusterIsUsed(t *testing.T) {
	const (
		interval = 100 * time.Millisecond
		window   = 21 * time.Second
		limit    = 2 * int(time.Second/interval)
	)
	var door turnstile
	sink := startReceiver(t, "127.0.0.1:0", door.pass)
	trio := newTrioWith(t, sink, `tenants:
  - name: shop
    compositions: [{name: main, networks: [127.0.0.0/8]}]
    speed: [{name: two, patterns: [".+@slow\\.test"], connections: 2, interval: 100ms, fixed: true}]
`)
	var load sync.WaitGroup
	for i, r := range trio {
		c := r.session()
		load.Go(func() {
			// Each is left with enough for the whole limit, however long this takes; but a machine that is far too slow ends.
			for k := 0; k < min(limit*30+sink.count(), limit*90); k++ {
				c.mustSend(text(""), fmt.Sprintf("u%d-%d@slow.test", i, k))
			}
		})
	}
	mustBecome(t, "the limit is in use", func() bool {
		now := time.Now()
		n, _ := door.between(now.Add(-time.Second), now)
		return n >= limit*8/10
	})
	load.Wait()
	from := time.Now()
	time.Sleep(window) // what is measured is what happens meanwhile
	n, busiest := door.between(from, from.Add(window))
	possible := limit * int(window/time.Second)
	t.Logf("%d of %d messages (%.1f %%), %d in the busiest second, %d connections in all", n, possible, 100*float64(n)/float64(possible), busiest, door.made())
	if n > possible+limit {
		t.Errorf("%d messages, %d are the limit", n, possible)
	}
	if n*100 < possible*80 {
		t.Errorf("%d messages, want 80 %% of %d", n, possible)
	}
	if most := door.most(); most > 2 {
		t.Errorf("%d connections at once, two are the limit", most)
	}
	if busiest > limit*3/2 {
		t.Errorf("%d messages within a second, %d are the limit", busiest, limit)
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
