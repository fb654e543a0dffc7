package actors_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// gated is a bed whose groups can be stopped.
type gated struct {
	*bed
	table gate.Table
}

func newGated(t *testing.T, change func(*actors.Config)) *gated {
	g := &gated{}
	g.bed = newBed(t, func(c *actors.Config) {
		c.Gates = &g.table
		if change != nil {
			change(c)
		}
	})
	return g
}

var campaign = gate.Key{Group: "campaign"}

func (g *gated) stopGroup(hold bool) {
	word, _ := g.table.Get(campaign)
	g.table.Merge(word.Stop(gate.Order{HoldExpiry: hold}, g.clock.Now(), word.Version+1))
	g.Destinations().Gated(true)
}

func (g *gated) resumeGroup() {
	word, _ := g.table.Get(campaign)
	g.table.Merge(word.Resume("me", g.clock.Now(), g.clock.Now(), word.Version+1))
	g.Destinations().Gated(false)
}

// put stores n deliveries of a group to one domain, and offers them unless they are to be found in the store.
func (g *gated) put(n int, group string, offer bool) {
	for range n {
		j := g.job("one.example")
		j.Delivery.Group = group
		g.queue.Put(j.Body, j.Delivery)
		if offer {
			g.Offer([]mail.Job{j})
		}
	}
}

// TestStoppedBacklogStarvesNobody: ten thousand of a stopped group lie before a hundred of another, which go.
func TestStoppedBacklogStarvesNobody(t *testing.T) {
	for _, row := range []struct {
		name string
		fill func(*gated)
	}{
		{"arrives while stopped", func(g *gated) {
			g.stopGroup(false)
			g.put(10_000, "campaign", true)
			g.put(100, "news", true)
		}},
		{"found in the store", func(g *gated) {
			g.stopGroup(false)
			g.put(10_000, "campaign", false)
			g.put(100, "news", false)
			g.Recover(mail.Destination{Domain: "one.example"}, 10_100, 0, g.clock.Now())
		}},
		{"stopped in the window", func(g *gated) {
			over := make(chan struct{})
			g.courier.Connect = func(protocol.Trip) mail.Outcome { <-over; return mail.Outcome{} }
			g.put(10_000, "campaign", true)
			g.put(100, "news", true)
			g.stopGroup(false)
			close(over)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGated(t, nil)
			row.fill(g)
			g.settle(t, 100)
			g.put(100, "news", true) // and what comes now goes at once
			g.settle(t, 200)
			if n := g.courier.Sent.Load(); n != 200 {
				t.Errorf("%d transactions, want the 200 of the other group", n)
			}
			g.resumeGroup()
			g.settle(t, 10_200)
		})
	}
}

// TestRetriesBehindAStoppedBacklog: what falls due again makes the queue be looked through, again and again, past all
// that is stopped.
func TestRetriesBehindAStoppedBacklog(t *testing.T) {
	g := newGated(t, nil)
	g.stopGroup(false)
	var tries sync.Map
	g.courier.Answer = func(_ protocol.Trip, j *mail.Job) mail.Outcome {
		n, _ := tries.LoadOrStore(j.Delivery.Seq, new(atomic.Int32))
		if n.(*atomic.Int32).Add(1) < 3 {
			return mail.Outcome{Result: mail.Deferred, Stage: mail.StageRcpt}
		}
		return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot}
	}
	g.put(1500, "campaign", true)
	g.put(200, "news", true)
	g.until(t, func() bool {
		if g.queue.Finals() == 200 {
			return true
		}
		g.clock.Advance(time.Second)
		return false
	})
	for _, d := range g.queue.List("one.example") {
		if d.Attempts != 0 {
			t.Fatalf("delivery %d of the stopped group counts %d attempts", d.Seq, d.Attempts)
		}
	}
}

// TestNoDotAfterStill: once Still has returned, no final dot of the group is written, however slowly sessions go from
// clearance to the dot; what was on its way is waited for and told.
func TestNoDotAfterStill(t *testing.T) {
	g := newGated(t, nil)
	var stopped atomic.Bool
	var late atomic.Int64
	g.courier.Ahead = true
	g.courier.Slow = func(j *mail.Job) {
		if j.Delivery.Group == "campaign" {
			pause(time.Duration(j.Delivery.Seq%5) * time.Millisecond)
			if stopped.Load() {
				late.Add(1)
			}
		}
	}
	const n = 3000
	for range n {
		g.put(1, "campaign", true)
		g.put(1, "news", true)
	}
	g.until(t, func() bool { return g.courier.Sent.Load() > n/3 })
	g.stopGroup(false)
	still := g.Destinations().Still(context.Background(), campaign)
	stopped.Store(true)
	if still.Coming != 0 || still.LastSent.IsZero() {
		t.Errorf("%+v", still)
	}
	g.until(t, func() bool { return g.queue.Left("")-left(g.queue.List("one.example"), "campaign") == 0 })
	rest := left(g.queue.List("one.example"), "campaign")
	if rest == 0 || late.Load() != 0 {
		t.Fatalf("%d are left of the stopped group, %d dots were begun after it stood still", rest, late.Load())
	}
	for _, d := range g.queue.List("one.example") {
		if d.Attempts != 0 || d.InDoubt {
			t.Fatalf("what was broken off before its dot counts as tried: %+v", d)
		}
	}
	stopped.Store(false)
	g.resumeGroup()
	g.settle(t, 2*n)
	if doubt := g.Counters().Destination.InDoubt.Load(); doubt != 0 {
		t.Errorf("%d in doubt", doubt)
	}
}

// TestStillTellsWhatHangs: a dot that a receiver does not take, and one that it does not answer.
func TestStillTellsWhatHangs(t *testing.T) {
	for _, row := range []struct {
		name           string
		coming, flight int
		slow           bool
	}{
		{"not written", 1, 1, true},
		{"not answered", 0, 1, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGated(t, nil)
			over, there := make(chan struct{}), make(chan struct{})
			hang := func() { close(there); <-over }
			if row.slow {
				g.courier.Slow = func(*mail.Job) { hang() }
			} else {
				g.courier.Answer = func(protocol.Trip, *mail.Job) mail.Outcome {
					hang()
					return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot}
				}
			}
			g.put(1, "campaign", true)
			<-there
			g.stopGroup(false)
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			if s := g.Destinations().Still(ctx, campaign); s.Coming != row.coming || s.Flight != row.flight {
				t.Errorf("%+v, want %d coming and %d in flight", s, row.coming, row.flight)
			}
			close(over)
			g.settle(t, 1)
			if s := g.Destinations().Still(context.Background(), campaign); s.Flight != 0 {
				t.Errorf("afterwards %+v", s)
			}
		})
	}
}

// TestNothingWithoutALease: a node that is not sure of its queue begins nothing and ends nothing, and goes on by
// itself once it is.
func TestNothingWithoutALease(t *testing.T) {
	var valid atomic.Bool
	g := newGated(t, func(c *actors.Config) { c.Lease = valid.Load })
	g.put(500, "", true)
	dead := g.job("one.example")
	dead.Delivery.Expires = g.clock.Now().Add(-time.Hour)
	g.queue.Put(dead.Body, dead.Delivery)
	g.Offer([]mail.Job{dead})
	for range 20 {
		g.clock.Advance(500 * time.Millisecond)
		pause(time.Millisecond)
	}
	if sent, final := g.courier.Sent.Load(), g.queue.Finals(); sent+int64(final) != 0 {
		t.Fatalf("%d sent and %d ended without a lease", sent, final)
	}
	valid.Store(true)
	g.until(t, func() bool { g.clock.Advance(100 * time.Millisecond); return g.queue.Finals() == 501 })
	valid.Store(false) // in mid-stream
	g.put(500, "", true)
	sent := g.courier.Sent.Load()
	pause(20 * time.Millisecond)
	if now := g.courier.Sent.Load(); now != sent {
		t.Errorf("%d were sent after the lease was lost", now-sent)
	}
	valid.Store(true)
	g.until(t, func() bool { g.clock.Advance(100 * time.Millisecond); return g.queue.Finals() == 1001 })
}

// TestDiscard: what is queued of the stopped group ends as interrupted, wherever it is, once; nothing else does.
func TestDiscard(t *testing.T) {
	g := newGated(t, func(c *actors.Config) { c.Window = 64 })
	over, there := make(chan struct{}), make(chan struct{}, 100)
	g.courier.Answer = func(_ protocol.Trip, j *mail.Job) mail.Outcome {
		if j.Delivery.Group == "campaign" {
			there <- struct{}{}
			<-over
			return mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot}
		}
		return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot}
	}
	g.put(1, "campaign", true)
	<-there // one is in delivery: its outcome is waited for
	g.put(3000, "campaign", false)
	later := g.job("one.example")
	later.Delivery.Group, later.Delivery.Due = "campaign", g.clock.Now().Add(time.Hour)
	g.queue.Put(later.Body, later.Delivery)
	g.put(500, "news", false)
	g.stopGroup(false)
	g.Recover(mail.Destination{Domain: "one.example"}, 3502, 0, g.clock.Now())
	discard := func(before time.Time) int {
		n, err := g.Destinations().Discard(context.Background(), mail.Destination{Domain: "one.example"}, campaign, before)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := discard((g.seq - 4000).Time()); n != 0 {
		t.Fatalf("%d were discarded that came later", n)
	}
	word, _ := g.table.Get(campaign)
	word.Discard = (g.seq + 1).Time()
	if n := discard(word.Discard); n != 3001 {
		t.Fatalf("%d discarded, want 3001", n)
	}
	g.table.Merge(word)
	g.put(1, "campaign", true) // came later
	close(over)
	g.settle(t, 3501)
	// What was in delivery was put off, and is not tried again.
	g.until(t, func() bool { g.clock.Advance(time.Second); return g.queue.Finals() == 3502 })
	if ds := g.queue.List("one.example"); len(ds) != 1 || ds[0].Seq != g.seq {
		t.Errorf("left: %+v, want what came later", ds)
	}
	e, _ := g.queue.Final(later.Delivery.Seq)
	if e.Kind != mail.EventDiscarded || e.Status != mail.StatusInterrupted || e.Attempt != 0 {
		t.Errorf("ended as %v with status %d after %d attempts", e.Kind, e.Status, e.Attempt)
	}
}

// TestLifetimesOfStoppedMail: they end while stopped, unless the operator holds them; what was held has as much left
// as it had.
func TestLifetimesOfStoppedMail(t *testing.T) { // E5 of the emergency stop
	for _, row := range []struct {
		name string
		hold bool
	}{{"expiry runs", false}, {"expiry is held", true}} {
		t.Run(row.name, func(t *testing.T) {
			g := newGated(t, nil)
			g.stopGroup(row.hold)
			g.put(200, "campaign", true)
			g.until(t, func() bool { return len(g.Destinations().Snapshot("one.example")) == 1 })
			for range 40 { // 40 minutes; lifetimes are 30
				g.clock.Advance(time.Minute)
				pause(2 * time.Millisecond)
			}
			if !row.hold {
				g.settle(t, 200)
				if n := g.Counters().Destination.Expired.Load(); n != 200 {
					t.Errorf("%d expired, want 200", n)
				}
				return
			}
			if n := g.queue.Finals(); n != 0 {
				t.Fatalf("%d ended while their lifetime was held", n)
			}
			g.courier.Answer = func(_ protocol.Trip, j *mail.Job) mail.Outcome {
				if j.Delivery.Attempts < 2 {
					return mail.Outcome{Result: mail.Deferred, Stage: mail.StageRcpt}
				}
				return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot}
			}
			g.resumeGroup()
			g.until(t, func() bool {
				if g.queue.Finals() == 200 {
					return true
				}
				g.clock.Advance(time.Second)
				return false
			})
			if n := g.Counters().Destination.Expired.Load(); n != 0 || g.courier.Sent.Load() != 600 {
				t.Errorf("%d expired, %d attempts; want none, and three each", n, g.courier.Sent.Load())
			}
		})
	}
}

func left(ds []mail.Delivery, group string) (n int) {
	for _, d := range ds {
		if d.Group == group {
			n++
		}
	}
	return n
}

// pause lets others work for d: what is tested is that they do not.
func pause(d time.Duration) { <-time.After(d) }
