package destination

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/actorstest"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// TestMarks: the disk knows that a dot is about to go only where that decides anything and for as long as it may be so, and
// what is found marked is in doubt (capability N3).
func TestMarks(t *testing.T) {
	for _, row := range []struct {
		way    mail.Doubt
		marked bool           // once it is ready
		found  mail.EventKind // after a crash
		words  string
	}{
		{mail.DoubtRetry, false, 0, ""},
		{mail.DoubtHold, true, mail.EventDeferred, "the node ended after the final dot: hold"},
		{mail.DoubtGiveUp, true, mail.EventFailed, "the node ended after the final dot: give_up"},
	} {
		t.Run(row.way.String(), func(t *testing.T) {
			q := actorstest.NewQueue(true)
			env := &Env{Queue: q, Suspensions: &Suspensions{}, Rand: func() float64 { return 0.5 }, Counters: &Counters{},
				Budget: &Budget{Limit: 1 << 20}, Gates: &gate.Table{}, Sources: func(string) []netip.Addr { return twoSources },
				Doubt: func(string, string) mail.Doubt { return row.way }}
			env.Defaults()
			now := time.Unix(1_800_000_000, 0)
			q.Put([]byte("0123456789"), mail.Delivery{Seq: 7, Message: mail.MessageID{Lineage: 1, Seq: 7}, Domain: "a.example", Due: now,
				Expires: now.Add(time.Hour), RetryEvery: time.Minute, Priority: 50})
			onDisk := func() bool { return q.List("a.example")[0].Dotted }
			load := func(b *Outbox) {
				l, ok := b.BeginLoad(now)
				if !ok {
					t.Fatal("a load is under way")
				}
				ds, next, more, due, err := q.Scan(toA, l.Cursor, l.Until, l.N)
				if err != nil {
					t.Fatal(err)
				}
				b.Merge(now, ds, next, more, due)
			}
			ready := func(b *Outbox) *protocol.Parcel {
				t.Helper()
				p, _ := b.Take(now, 0, netip.Addr{}, "r")
				if p == nil || !b.Ready(p) || onDisk() != row.marked {
					t.Fatalf("parcel %v, marked %t", p, onDisk())
				}
				return p
			}
			b := NewOutbox(toA, env, func(any) {})
			b.Recover(1, 0, now)
			load(b)
			b.Join(0)
			p := ready(b)
			b.Return(p)
			if onDisk() {
				t.Error("returned, and marked")
			}
			p = ready(b)
			b.Leave(now, 0, []*protocol.Parcel{p}, nil)
			if onDisk() {
				t.Error("left behind, and marked")
			}
			b.Join(0)
			p = ready(b)
			b.Settle(now, p, mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, Status: mail.StatusRefused}, "r", nil)
			if onDisk() {
				t.Error("answered, and marked")
			}
			now = now.Add(time.Hour / 2)
			load(b)
			ready(b)

			after := NewOutbox(toA, env, func(any) {})
			after.Recover(1, 0, now)
			load(after)
			events := q.Events()
			last := events[len(events)-1]
			if row.found == 0 {
				if p, _ := after.Take(now, 0, netip.Addr{}, "r"); p == nil || len(events) != 1 {
					t.Errorf("it is not sent again: %+v", last)
				}
				return
			}
			if last.Kind != row.found || !last.InDoubt || last.Detail != row.words {
				t.Errorf("event %+v", last)
			}
			if left := q.List("a.example"); len(left) > 0 && (row.way != mail.DoubtHold || left[0].Dotted || !left[0].InDoubt) {
				t.Errorf("left %+v", left)
			}
		})
	}
}

// TestMarkGoesDuringAScan: a scan reads a mark, the mark goes because no dot did, and the delivery leaves memory before the
// scan is merged. It is neither in doubt nor lost from sight: it is sent once.
func TestMarkGoesDuringAScan(t *testing.T) {
	for _, way := range []mail.Doubt{mail.DoubtHold, mail.DoubtGiveUp} {
		t.Run(way.String(), func(t *testing.T) {
			q := actorstest.NewQueue(true)
			env := &Env{Queue: q, Suspensions: &Suspensions{}, Rand: func() float64 { return 0.5 }, Counters: &Counters{},
				Budget: &Budget{Limit: 1 << 20}, Gates: &gate.Table{}, Sources: func(string) []netip.Addr { return twoSources },
				Doubt: func(string, string) mail.Doubt { return way }}
			env.Defaults()
			now := time.Unix(1_800_000_000, 0)
			q.Put([]byte("x"), mail.Delivery{Seq: 7, Message: mail.MessageID{Lineage: 1, Seq: 7}, Domain: "a.example", Due: now,
				Expires: now.Add(time.Hour), RetryEvery: time.Minute, Priority: 50})
			b := NewOutbox(toA, env, func(any) {})
			begin := func() (merge func()) {
				l, ok := b.BeginLoad(now)
				if !ok {
					t.Fatal("a load is under way")
				}
				ds, next, more, due, err := q.Scan(toA, l.Cursor, l.Until, l.N)
				if err != nil || len(ds) != 1 {
					t.Fatalf("scan: %+v, %v", ds, err)
				}
				return func() { b.Merge(now, ds, next, more, due) }
			}
			b.Recover(1, 0, now)
			begin()()
			b.Join(0)
			p, _ := b.Take(now, 0, netip.Addr{}, "r")
			if p == nil || !b.Ready(p) {
				t.Fatal("not marked")
			}
			b.Recover(1, 0, now) // its actor failed: everything is looked at again
			merge := begin()     // reads the mark
			b.Return(p)          // takes it off
			b.Recover(1, 0, now) // forgets what waits in memory
			merge()

			if events := q.Events(); len(events) > 0 {
				t.Fatalf("settled without a dot: %+v", events)
			}
			if p, _ = b.Take(now, 0, netip.Addr{}, "r"); p == nil || p.Job.Delivery.Dotted {
				t.Fatalf("it is not sent: %+v", p)
			}
			if again, _ := b.Take(now, 0, netip.Addr{}, "r"); again != nil {
				t.Errorf("it is sent twice")
			}
		})
	}
}
