package actors_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
)

// TestSpeedCaps: what is under a cap keeps to it over all destinations, and what is not waits for none of it (R57).
func TestSpeedCaps(t *testing.T) {
	var x filter.Traffic
	x.AddCap("t", "campaign", 50, time.Second)
	x.AddCap("", "", 200, time.Second)
	b := newBed(t, func(c *actors.Config) { c.Traffic = func() *filter.Traffic { return &x } })
	var mu sync.Mutex
	begun := map[string][]time.Time{}
	b.courier.Answer = func(_ protocol.Trip, j *mail.Job) mail.Outcome {
		mu.Lock()
		defer mu.Unlock()
		now := clock.Wall()
		begun[j.Delivery.Composition] = append(begun[j.Delivery.Composition], now)
		begun["all"] = append(begun["all"], now)
		return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot}
	}
	start := clock.Wall()
	for i := range 100 {
		for _, composition := range []string{"campaign", "other"} {
			j := b.job(mail.Domain(fmt.Sprintf("d%d.example", i%3)))
			j.Delivery.Composition = composition
			b.queue.Put(j.Body, j.Delivery)
			b.Offer([]mail.Job{j})
		}
	}
	b.settle(t, 200)
	took := clock.Since(start)
	if took < 1900*time.Millisecond || took > 4*time.Second {
		t.Errorf("100 messages at 50 a second took %s", took)
	}
	mu.Lock()
	defer mu.Unlock()
	for name, most := range map[string]int{"campaign": 50, "all": 200} {
		at := begun[name]
		for i := range at {
			n := 0
			for _, u := range at[i:] {
				if u.Sub(at[i]) < time.Second {
					n++
				}
			}
			if n > most+most/20+1 { // between being taken and being answered a message may be held up for a moment
				t.Fatalf("%s: %d messages in a second, the cap is %d", name, n, most)
			}
		}
	}
	if last := begun["other"][99].Sub(start); last > 1500*time.Millisecond {
		t.Errorf("mail that is not capped waited %s for mail that is", last)
	}
}

// TestSlowCapHoldsNoConnection: mail of which one a minute may go leaves no connection open in between.
func TestSlowCapHoldsNoConnection(t *testing.T) {
	var x atomic.Pointer[filter.Traffic]
	slow := &filter.Traffic{}
	slow.AddCap("t", "", 1, time.Minute)
	x.Store(slow)
	b := newBed(t, func(c *actors.Config) { c.Traffic = x.Load })
	b.courier.Idle = 50 * time.Millisecond
	b.submit(3, one(""))
	b.settle(t, 1)
	b.until(t, func() bool { return b.courier.Open() == 0 })
	b.until(t, func() bool {
		s := b.Destinations().Snapshot("one.example")
		return len(s) == 1 && s[0].Reason == protocol.ReasonCap && s[0].Until.Sub(clock.Wall()) > 30*time.Second
	})
	if s := b.Destinations().Snapshot("one.example"); len(s) == 1 && s[0].Detail != "" { // the reason says it all
		t.Errorf("it waits for %s: %s", s[0].Reason, s[0].Detail)
	}
	if runs := b.courier.Runs.Load(); runs > 3 {
		t.Errorf("%d connections for one message", runs)
	}
	x.Store(nil) // lifted
	b.Destinations().Changed()
	b.settle(t, 3)
}
