package destination

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// TestCall: mail that nobody carries has its outbox ask the source by itself where its destination has just asked for the same, and in every
// other case the actor is told.
func TestCall(t *testing.T) {
	const asks = 30 * time.Second
	nobody := func(*Outbox, time.Time) {}
	for _, row := range []struct {
		name   string
		before func(*Outbox, time.Time) // after a session has come for the ask, and gone
		after  time.Duration
		served bool // the source takes the call
		called bool
		told   bool
	}{
		{"asked a moment ago", nobody, time.Second, true, true, false},
		{"the source leaves it to the actor", nobody, time.Second, false, true, true},
		{"asked too long ago", nobody, asks, true, false, true},
		{"the actor has looked since", func(b *Outbox, now time.Time) { b.Look(now, &View{}) }, time.Second, true, false, true},
		{"the actor has failed since", func(b *Outbox, _ time.Time) { b.Recover(0, 0, time.Time{}) }, time.Second, true, false, true},
		{"the actor has asked when a source had refused", func(b *Outbox, now time.Time) {
			b.Asking(&Effect{Want: 1, Limits: &shaping.Limits{}, Deadline: now.Add(asks)})
			b.Withdraw(0, 1)
		}, time.Second, true, false, true},
		{"a session is asked for", func(b *Outbox, _ time.Time) { b.shelves[0].asked++ }, time.Second, true, false, false},
		{"sessions work there", func(b *Outbox, _ time.Time) { b.Join(0) }, time.Second, true, false, true},
		{"the actor wants to hear of nothing", func(b *Outbox, _ time.Time) { b.Note(Plan{Quiet: true}) }, time.Second, true, false, false},
		{"the actor will look in any case", func(b *Outbox, _ time.Time) { b.told = true }, time.Second, true, false, false},
		{"more is on disk", func(b *Outbox, _ time.Time) { b.disk.more = true }, time.Second, true, false, true},
		{"the domain is suspended", func(b *Outbox, _ time.Time) {
			b.env.Suspensions.Add(Suspension{Domain: toA.Domain})
		}, time.Second, true, false, true},
		{"the source is suspended", func(b *Outbox, _ time.Time) {
			b.env.Suspensions.Add(Suspension{Source: twoSources[0]})
		}, time.Second, true, false, true},
		{"another source is suspended", func(b *Outbox, _ time.Time) {
			b.env.Suspensions.Add(Suspension{Source: twoSources[1]})
		}, time.Second, true, true, false},
		{"the lease is lost", func(b *Outbox, _ time.Time) { b.env.Lease = func() bool { return false } }, time.Second, true, false, true},
		{"the store has failed", func(b *Outbox, _ time.Time) { b.env.Halt(nil) }, time.Second, true, false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			told, calls := 0, []protocol.Call(nil)
			b, now := outboxOf(1, func(any) { told++ })
			b.env.Call = func(_ time.Time, c *protocol.Call) bool {
				calls = append(calls, *c)
				return row.served
			}
			b.Look(now, &View{})
			limits := &shaping.Limits{Receiver: "r"}
			b.Asking(&Effect{Want: 1, Source: twoSources[0], Key: "k", Limits: limits, Deadline: now.Add(asks), Again: true})
			b.Note(Plan{Status: Status{State: StateAsking, Receiver: "r"}})
			b.Join(0)
			p, _ := b.Take(now, 0, twoSources[0], "r")
			b.Settle(now, p, mail.Outcome{Result: mail.Delivered}, "r", nil)
			b.Leave(now, 0, nil, nil)
			b.LookDue(now)
			row.before(b, now)
			told = 0
			now = now.Add(row.after)
			b.Push(now, &mail.Job{Delivery: mail.Delivery{Seq: 2, Tenant: "t", Domain: toA.Domain, Due: now, Priority: 90, Expires: now.Add(time.Hour)}})
			if (len(calls) == 1) != row.called || (told == 1) != row.told {
				t.Fatalf("%d calls and %d messages", len(calls), told)
			}
			if !row.called {
				return
			}
			want := protocol.Call{Source: twoSources[0], Outbox: b, Key: "k", Limits: limits, Deadline: now.Add(asks), Tenant: "t", Ahead: true}
			if calls[0] != want {
				t.Errorf("called %+v, want %+v", calls[0], want)
			}
			if asked := b.Standing().Asked; (asked == 1) != row.served {
				t.Errorf("%d sessions are awaited", asked)
			}
			if row.served && !b.LookDue(now.Add(restLook)) {
				t.Error("nobody looks whether a session came")
			}
		})
	}
}
