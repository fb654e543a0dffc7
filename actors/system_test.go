package actors_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors"
	"github.com/ekiden-mta/ekiden/actors/actorstest"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// bed is a system over a store in memory.
type bed struct {
	*actors.System
	queue    *actorstest.Queue
	courier  *actorstest.Courier
	resolver *actorstest.Resolver
	clock    *clock.Clock
	seq      mail.Seq
}

func newBed(t testing.TB, change func(*actors.Config)) *bed {
	t.Helper()
	rules, err := shaping.NewRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{queue: actorstest.NewQueue(false), courier: &actorstest.Courier{}, resolver: &actorstest.Resolver{},
		clock: &clock.Clock{}, seq: mail.Seq(clock.Wall().UnixMicro())}
	cfg := actors.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Queue: b.queue, Courier: b.courier, Resolver: b.resolver, Clock: b.clock,
		Rules: func() *shaping.Rules { return rules }}
	if change != nil {
		change(&cfg)
	}
	b.System, err = actors.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

// job makes one delivery that is due now.
func (b *bed) job(d mail.Domain) mail.Job {
	b.seq++
	now := b.clock.Now().Truncate(time.Millisecond)
	return mail.Job{Body: []byte("Subject: x\r\n\r\nhello\r\n"), Delivery: mail.Delivery{Seq: b.seq, Message: mail.MessageID{Lineage: 1, Seq: b.seq},
		Tenant: "t", Pool: "default", From: "a@s.example", To: mail.Address("u@" + string(d)), Domain: d, Due: now,
		Expires: now.Add(30 * time.Minute), RetryEvery: time.Minute, Priority: 50}}
}

// submit stores and offers n deliveries, spread over the domains.
func (b *bed) submit(n int, domain func(int) mail.Domain) {
	for i := range n {
		j := b.job(domain(i))
		b.queue.Put(j.Body, j.Delivery)
		b.Offer([]mail.Job{j})
	}
}

// settle waits until n deliveries have a final outcome.
func (b *bed) settle(t testing.TB, n int) {
	t.Helper()
	b.until(t, func() bool { return b.queue.Finals() >= n })
	if got := b.queue.Finals(); got != n {
		t.Fatalf("%d deliveries have a final outcome, want %d", got, n)
	}
	for _, err := range b.queue.Faults() {
		t.Error(err)
	}
}

func (b *bed) until(t testing.TB, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			for i, s := range b.Destinations().Snapshot("") {
				if i < 10 {
					t.Logf("%+v", s)
				}
			}
			for _, s := range b.Sources().Snapshot() {
				t.Logf("%+v", s)
			}
			t.Fatalf("not within 30 s; %d left", b.queue.Left(""))
		}
	}
}

func one(mail.Domain) func(int) mail.Domain { return func(int) mail.Domain { return "one.example" } }

func many(n int) func(int) mail.Domain {
	return func(i int) mail.Domain { return mail.Domain(fmt.Sprintf("d%d.example", i%n)) }
}

func TestEveryShapeIsDeliveredOnce(t *testing.T) {
	for _, row := range []struct {
		name   string
		n      int
		domain func(int) mail.Domain
		window int
	}{
		{"one domain", 10_000, one(""), 0},
		{"10000 domains", 10_000, many(10_000), 0},
		{"100 domains", 10_000, many(100), 0},
		{"one domain, small window", 5_000, one(""), 16},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBed(t, func(c *actors.Config) { c.Window = row.window })
			b.submit(row.n, row.domain)
			b.settle(t, row.n)
			if sent := b.courier.Sent.Load(); sent != int64(row.n) {
				t.Errorf("%d transactions for %d deliveries", sent, row.n)
			}
			if most := b.courier.Most("invalid IP", "route:relay.example:25"); most > shaping.RouteConnections {
				t.Errorf("%d connections at once, the route bears %d", most, shaping.RouteConnections)
			}
		})
	}
}

func TestRecoverFromStore(t *testing.T) {
	b := newBed(t, func(c *actors.Config) { c.Window = 64 })
	const n = 3000
	for range n {
		j := b.job("stored.example")
		b.queue.Put(j.Body, j.Delivery)
	}
	b.Recover(mail.Destination{Domain: "stored.example"}, n, 0, b.clock.Now())
	b.settle(t, n)
}

func TestPassivation(t *testing.T) {
	b := newBed(t, func(c *actors.Config) { c.Passivate = time.Millisecond })
	b.courier.Idle = 10 * time.Millisecond
	var sent int
	for range 20 {
		b.submit(50, many(10))
		sent += 50
		b.settle(t, sent)
	}
	b.until(t, func() bool { return b.Destinations().Len() == 0 })
}

func TestActorsThatPanicAreRestarted(t *testing.T) {
	var dest, src atomic.Int64
	b := newBed(t, func(c *actors.Config) {
		c.OnDestination = func(mail.Domain, any) {
			if dest.Add(1)%7 == 0 {
				panic("injected into a destination")
			}
		}
		c.OnSource = func(netip.Addr, any) {
			if src.Add(1)%5 == 0 {
				panic("injected into a source")
			}
		}
	})
	b.courier.Idle = 20 * time.Millisecond
	for k := range 10 {
		b.submit(200, many(20))
		// An ask that was lost with a message is repeated after its deadline: product time, so that the test need not wait.
		b.until(t, func() bool {
			if b.queue.Finals() >= 200*(k+1) {
				return true
			}
			b.clock.Advance(time.Second)
			return false
		})
	}
	b.settle(t, 2000)
	c := b.Counters()
	if c.Destination.Restarts.Load() == 0 || c.Source.Restarts.Load() == 0 {
		t.Errorf("restarts: %d destinations, %d sources; both were made to fail", c.Destination.Restarts.Load(), c.Source.Restarts.Load())
	}
	src.Store(-1 << 40)
	b.until(t, func() bool {
		b.clock.Advance(time.Second)
		for _, s := range b.Sources().Snapshot() {
			for _, r := range s.Receivers {
				if r.Connections != 0 {
					return false
				}
			}
		}
		return true
	})
}

// BenchmarkNegotiation is the whole of it without store and network: CPU per message in user mode.
func BenchmarkNegotiation(b *testing.B) {
	for _, row := range []struct {
		name    string
		domains int
	}{{"one domain", 1}, {"10000 domains", 10_000}} {
		b.Run(row.name, func(b *testing.B) {
			bed := newBed(b, func(c *actors.Config) { c.Queue = nullQueue{bedQueue(c)} })
			names := make([]mail.Domain, row.domains)
			for i := range names {
				names[i] = many(row.domains)(i)
			}
			job := bed.job("x.example")
			warm := int64(row.domains)
			for i := range row.domains { // actors are spawned and routes found once
				j := job
				j.Delivery.Domain, j.Delivery.Seq = names[i], mail.Seq(i+1)
				bed.Offer([]mail.Job{j})
			}
			bed.until(b, func() bool { return bed.courier.Sent.Load() == warm })
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu()
			for i := range b.N {
				j := job
				j.Delivery.Domain, j.Delivery.Seq = names[i%row.domains], mail.Seq(row.domains+i+1)
				if i%256 == 0 { // no more than the window holds: nothing goes by the disk
					bed.until(b, func() bool { return int64(i)-bed.courier.Sent.Load()+warm < 512 })
				}
				bed.Offer([]mail.Job{j})
			}
			bed.until(b, func() bool { return bed.courier.Sent.Load() == warm+int64(b.N) })
			b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
