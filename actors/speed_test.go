package actors_test

import (
	"context"
	"net/netip"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
)

// speeds are filters that a test may replace.
type speeds struct{ atomic.Pointer[filter.Traffic] }

func (x *speeds) set(fs ...filter.Speed) {
	var t filter.Traffic
	for _, f := range fs {
		t.AddSpeed(f)
	}
	x.Store(&t)
}

func all(pattern string) []*regexp.Regexp {
	return []*regexp.Regexp{regexp.MustCompile("^(?:" + pattern + ")$")}
}

// trips is what a courier was asked to do.
type trips struct {
	mu    sync.Mutex
	seen  []protocol.Trip
	now   map[string]int // open connections by receiver
	most  map[string]int
	sent  map[string]int // by receiver
	froms map[netip.Addr]bool
}

func (x *trips) watch(c *actors.Config, courier *watched) {
	x.now, x.most, x.sent, x.froms = map[string]int{}, map[string]int{}, map[string]int{}, map[netip.Addr]bool{}
	courier.trips, courier.Courier = x, c.Courier
	c.Courier = courier
}

// watched is a courier whose trips are written down.
type watched struct {
	protocol.Courier
	trips *trips
}

func (w *watched) Run(ctx context.Context, t protocol.Trip, work protocol.Work) protocol.Report {
	x := w.trips
	x.mu.Lock()
	x.seen = append(x.seen, t)
	x.froms[t.Source] = true
	x.now[t.Receiver]++
	x.most[t.Receiver] = max(x.most[t.Receiver], x.now[t.Receiver])
	x.mu.Unlock()
	rep := w.Courier.Run(ctx, t, work)
	x.mu.Lock()
	x.now[t.Receiver]--
	x.sent[t.Receiver] += rep.Messages
	x.mu.Unlock()
	return rep
}

func (x *trips) last(t *testing.T) protocol.Trip {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.seen) == 0 {
		t.Fatal("nobody travelled")
	}
	return x.seen[len(x.seen)-1]
}

func speedBed(t *testing.T, fs ...filter.Speed) (*bed, *trips, *speeds) {
	var x speeds
	x.set(fs...)
	w, tr := &watched{}, &trips{}
	b := newBed(t, func(c *actors.Config) {
		c.Traffic = x.Load
		c.Sources = map[string][]netip.Addr{"default": fourSources}
		tr.watch(c, w)
	})
	b.courier.Idle = 20 * time.Millisecond
	return b, tr, &x
}

// TestConnectionsOfAFilterAreAllSourcesTogether: two connections are two, though four sources might have two each and
// more than one destination shares the receiver (R39, R40); mail it does not match is not held up.
func TestConnectionsOfAFilterAreAllSourcesTogether(t *testing.T) {
	b, tr, _ := speedBed(t, filter.Speed{Tenant: "t", Name: "slow", Patterns: all(`u@.+\.example`), Connections: 2, Interval: 10 * time.Millisecond})
	b.courier.Slow = func(*mail.Job) { time.Sleep(time.Millisecond) }
	other := b.job("other.example")
	other.Delivery.To = "v@other.example"
	b.submit(300, many(3))
	b.queue.Put(other.Body, other.Delivery)
	b.Offer([]mail.Job{other})
	b.settle(t, 301)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	slow, free := 0, 0
	for _, trip := range tr.seen {
		if trip.Interval == 10*time.Millisecond {
			slow++
		} else {
			free++
		}
	}
	if slow == 0 || free != 1 {
		t.Errorf("%d connections kept the filter's interval, %d had none; want some, and one", slow, free)
	}
	if n := tr.most["route:relay.example:25"]; n > 3 { // two, and the other mail's
		t.Errorf("%d connections at once", n)
	}
}

func TestFilterUsesSoManySources(t *testing.T) { // R40
	b, tr, _ := speedBed(t, filter.Speed{Tenant: "t", Name: "few", Patterns: all(`.+`), Connections: 20, Sources: 2})
	b.courier.Slow = func(*mail.Job) { time.Sleep(time.Millisecond) }
	b.submit(400, one(""))
	b.settle(t, 400)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.froms) != 2 || !tr.froms[fourSources[0]] || !tr.froms[fourSources[1]] {
		t.Errorf("sent from %v, want the first two sources", tr.froms)
	}
}

// TestFilterRoutesElsewhere: what matches goes to the filter's host only, though its domain does not resolve (R42).
func TestFilterRoutesElsewhere(t *testing.T) {
	route := mail.Route{Hosts: []mail.Host{{Name: "smart.example", Port: 2525}}, Static: true}
	b, tr, x := speedBed(t, filter.Speed{Tenant: "t", Name: "smart", Patterns: all(`.+@routed\.example`), Route: route})
	b.resolver.Answer = func(d mail.Domain) (mail.Route, mail.Outcome) {
		if d == "routed.example" {
			return mail.Route{}, mail.Outcome{Result: mail.Failed, Stage: mail.StageDNS, Status: mail.StatusHostUnknown, Detail: "no such domain"}
		}
		return mail.Route{Hosts: []mail.Host{{Name: "mx." + string(d), Port: 25}}}, mail.Outcome{}
	}
	b.submit(40, func(int) mail.Domain { return "routed.example" })
	b.submit(10, one(""))
	b.settle(t, 50)
	b.until(t, func() bool { return b.courier.Open() == 0 })
	tr.mu.Lock()
	for _, trip := range tr.seen {
		if smart := trip.Route.Hosts[0].Name == "smart.example"; smart != (trip.Receiver == "route:smart.example:2525") {
			t.Errorf("%s is reached at %s", trip.Receiver, trip.Route.Hosts[0].Name)
		}
	}
	sent := tr.sent["route:smart.example:2525"]
	tr.mu.Unlock()
	if sent != 40 {
		t.Errorf("%d by the smart host, want 40", sent)
	}

	x.set() // the filter is gone: the domain does not exist
	b.Destinations().Changed()
	b.submit(1, func(int) mail.Domain { return "routed.example" })
	b.settle(t, 51)
	if e, _ := b.queue.Final(b.seq); e.Kind != mail.EventFailed || e.Status != mail.StatusHostUnknown {
		t.Errorf("without the filter: %+v", e)
	}
}

func TestFilterLooksAtTheReceiversHosts(t *testing.T) { // R40, "host name"
	b, tr, _ := speedBed(t, filter.Speed{Tenant: "t", Name: "hosted", Patterns: all(`.+\.hosting\.example`), HostName: true,
		Connections: 1, Interval: 30 * time.Millisecond})
	b.resolver.Answer = func(d mail.Domain) (mail.Route, mail.Outcome) {
		name := "mx." + string(d)
		if d != "own.example" {
			name = "mx1.hosting.example"
		}
		return mail.Route{Hosts: []mail.Host{{Name: name, Port: 25}}}, mail.Outcome{}
	}
	b.submit(90, func(i int) mail.Domain { return [...]mail.Domain{"a.example", "b.example", "own.example"}[i%3] })
	b.settle(t, 90)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, trip := range tr.seen {
		if hosted := trip.Route.Hosts[0].Name == "mx1.hosting.example"; hosted != (trip.Interval == 30*time.Millisecond) {
			t.Errorf("%s: interval %s", trip.Route.Hosts[0].Name, trip.Interval)
		}
	}
	if n := tr.most["mx:mx1.hosting.example"]; n != 1 {
		t.Errorf("%d connections at once, want 1", n)
	}
}

// TestFilterIsReplacedWhileMailGoes: connections that keep the old figures end, and what waits keeps the new ones.
func TestFilterIsReplacedWhileMailGoes(t *testing.T) {
	slow := filter.Speed{Tenant: "t", Name: "f", Patterns: all(`.+`), Connections: 1, Interval: 5 * time.Millisecond}
	b, tr, x := speedBed(t, slow)
	b.courier.Slow = func(*mail.Job) { time.Sleep(2 * time.Millisecond) }
	b.submit(600, one(""))
	b.until(t, func() bool { return b.queue.Finals() > 50 })
	slow.Interval, slow.Connections = 10*time.Millisecond, 3
	x.set(slow)
	b.Destinations().Changed()
	b.settle(t, 600)
	if trip := tr.last(t); trip.Interval != 10*time.Millisecond {
		t.Errorf("the last connection kept an interval of %s", trip.Interval)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if n := tr.most["route:relay.example:25"]; n < 2 || n > 4 { // an old one may still end
		t.Errorf("%d connections at once, want up to three", n)
	}
}
