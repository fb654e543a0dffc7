package destination

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/actorstest"
	"github.com/ekiden-mta/ekiden/mail"
)

// outboxOf returns an outbox with n deliveries that are due, and the time.
func outboxOf(n int, tell func(any)) (*Outbox, time.Time) {
	q := actorstest.NewQueue(false)
	env := &Env{Queue: q, Suspensions: &Suspensions{}, Rand: func() float64 { return 0 }, Counters: &Counters{}, Budget: &Budget{Limit: 1 << 20}}
	env.Defaults()
	b, now := NewOutbox(toA, env, tell), time.Unix(1_800_000_000, 0)
	for i := range n {
		d := mail.Delivery{Seq: mail.Seq(i + 1), Domain: toA.Domain, Due: now, Expires: now.Add(time.Hour)}
		q.Put([]byte("x"), d)
		b.Push(now, &mail.Job{Delivery: d, Body: []byte("x")})
	}
	return b, now
}

// TestSessionThatIsGoneBeforeThePlan: a session that was asked for, came and left before the machine's plan was noted has told
// nobody, since the plan of before wanted to hear of nothing; what it left behind is news.
func TestSessionThatIsGoneBeforeThePlan(t *testing.T) {
	for _, row := range []struct {
		name  string
		asks  int
		come  int // of them, and go
		carry int // messages each
		state State
		again bool
	}{
		{"one, and work is left", 1, 1, 1, StateAsking, true},
		{"one that carried all", 1, 1, 3, StateAsking, false},
		{"another is still awaited", 2, 1, 1, StateAsking, false},
		{"none was asked for", 0, 0, 0, StateAsking, false},
		{"the machine knows of nothing to do for now", 0, 0, 0, StatePaused, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			told := 0
			b, now := outboxOf(3, func(any) { told++ })
			var v View
			b.Look(now, &v)
			b.Note(Plan{Quiet: true, Status: Status{State: StateResolving}})
			told = 0
			b.Look(now, &v)
			if row.asks > 0 {
				b.Asking(0, row.asks)
			}
			for range row.come {
				b.Join(0)
				for range row.carry {
					p, _ := b.Take(now, 0, noSource, "r")
					b.Settle(now, p, mail.Outcome{Result: mail.Delivered}, "r", nil)
				}
				b.Leave(now, 0, nil, nil)
			}
			if told > 0 {
				t.Fatal("the machine was told although it wanted quiet")
			}
			if again := b.Note(Plan{Status: Status{State: row.state}}); again != row.again {
				t.Errorf("it looks again: %v, want %v", again, row.again)
			}
			b.Look(now, &v)
			if b.Note(Plan{Status: Status{State: StateAsking}}) {
				t.Error("it looks again for what it knows")
			}
		})
	}
}
