package destination

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// TestLookDue: the actor is woken for the look it planned where mail is still there, once; where all has gone, the outbox says so by itself.
func TestLookDue(t *testing.T) {
	for _, row := range []struct {
		name               string
		after              time.Duration
		take, settle, asks bool
		due                bool
		state              State
	}{
		{"not yet", time.Second, false, false, false, false, StateAsking},
		{"mail waits", 2 * time.Second, false, false, false, true, StateAsking},
		{"mail is in flight", 2 * time.Second, true, false, false, true, StateAsking},
		{"all has gone", 2 * time.Second, true, true, false, false, StateIdle},
		{"all has gone, another session is awaited", 2 * time.Second, true, true, true, true, StateAsking},
	} {
		t.Run(row.name, func(t *testing.T) {
			b, now := outboxOf(1, func(any) {})
			b.Asking(0, 1)
			b.Note(Plan{Look: now.Add(2 * time.Second), Status: Status{State: StateAsking, Receiver: "r", Full: true}})
			b.Join(0)
			if row.take {
				p, _ := b.Take(now, 0, noSource, "r")
				if row.settle {
					b.Settle(now, p, mail.Outcome{Result: mail.Delivered}, "r", nil)
				}
			}
			if row.asks {
				b.Asking(0, 1)
			}
			later := mail.Delivery{Seq: 2, Domain: toA.Domain, Due: now.Add(time.Hour), Expires: now.Add(2 * time.Hour)}
			b.Push(now, &mail.Job{Delivery: later})
			now = now.Add(row.after)
			if due := b.LookDue(now); due != row.due {
				t.Errorf("due: %v, want %v", due, row.due)
			}
			if s := b.Standing(); s.State != row.state || s.Receiver != "r" || s.Full != (row.state != StateIdle) {
				t.Errorf("it stands as %+v", s)
			} else if s.State == StateIdle && !s.Until.Equal(later.Due) {
				t.Errorf("idle until %s, though the next is due at %s", s.Until, later.Due)
			}
			if row.after == 2*time.Second && b.LookDue(now.Add(time.Hour)) {
				t.Error("it looks again without having planned to")
			}
		})
	}
}
