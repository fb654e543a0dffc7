package queue

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

// TestCountersFollowTheLog works through random outcomes with restarts, gentle and without a last snapshot, and asks
// each time that the counters are what a count over the whole event log gives, and that nothing is lost from the books:
// accepted = finished + waiting.
func TestCountersFollowTheLog(t *testing.T) {
	r := newRig(t)
	rnd := rand.New(rand.NewPCG(11, 12))
	var waiting []mail.Delivery
	check := func() {
		t.Helper()
		now := r.cfg.Clock.Now()
		counted := stats.New(stats.Config{})
		if err := r.Events().Replay(events.Cursor{}, func(_ events.Cursor, e *mail.Event) { counted.Add(e) }); err != nil {
			t.Fatal(err)
		}
		for _, who := range []mail.Domain{"", "d0.example.jp", "d2.example.jp"} {
			for _, u := range []stats.Unit{stats.Total, stats.Hour, stats.Five} {
				got, want := r.Counters().Buckets(u, stats.Of{Domain: who}, now), counted.Buckets(u, stats.Of{Domain: who}, now)
				if !slices.Equal(got, want) {
					t.Fatalf("counters of %q differ from the log:\n%v\n%v", who, got, want)
				}
			}
		}
		total := r.Counters().Buckets(stats.Total, stats.Of{}, now)[0].Counts
		if got := total[stats.Accepted] - total.Finished(); got != uint64(r.Waiting()) || r.Waiting() != len(waiting) {
			t.Errorf("accepted - finished = %d, the store has %d, there are %d", got, r.Waiting(), len(waiting))
		}
	}
	for step := range 12 {
		for range 60 {
			a := r.message("x", mail.Address([]string{"a@d0.example.jp", "a@d1.example.jp", "a@d2.example.jp"}[rnd.IntN(3)]))
			r.put(a)
			waiting = append(waiting, a.Deliveries...)
			i := rnd.IntN(len(waiting))
			m := delivered(&waiting[i], r.cfg.Clock.Now())
			m.Event.Kind = []mail.EventKind{mail.EventDelivered, mail.EventFailed, mail.EventDiscarded, mail.EventDeferred}[rnd.IntN(4)]
			m.Event.Stage = mail.Stage(rnd.IntN(10))
			m.Event.Reply = smtp.Reply{Code: 451}
			if m.Event.Kind == mail.EventDeferred {
				next := waiting[i]
				next.Due = next.Due.Add(time.Minute)
				m.Next = &next
			}
			if err := wait(func(done func(error)) { r.Settle(m, done) }); err != nil {
				t.Fatal(err)
			}
			if m.Next != nil {
				waiting[i] = *m.Next
			} else {
				waiting = slices.Delete(waiting, i, i+1)
			}
		}
		check()
		switch step % 3 {
		case 0:
			r.reopen()
		case 1: // the counters on disk are older than the log, or gone
			r.spoil(step > 6)
			r.reopen()
		}
		check()
		r.cfg.Clock.Advance(7 * time.Minute)
	}
}

func TestRetention(t *testing.T) {
	r := newRig(t)
	for range 5 {
		for range 3 {
			a := r.message("x", "a@d0.example.jp")
			r.put(a)
			r.settle(a.Deliveries[0])
		}
		r.cfg.Clock.Advance(24 * time.Hour)
	}
	now := r.cfg.Clock.Now()
	total := r.Counters().Buckets(stats.Total, stats.Of{}, now)[0].Counts
	limit := now.Add(-2 * 24 * time.Hour).Truncate(24 * time.Hour)
	if err := r.Purge(context.Background(), Retention{Before: limit}); err != nil {
		t.Fatal(err)
	}
	left := 0
	if err := r.Events().Search(t.Context(), events.Query{}, func(e mail.Event, _ events.Cursor) bool {
		if e.At.Before(limit) {
			t.Errorf("an event of %v is left", e.At)
		}
		left++
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if left != 2*6 {
		t.Errorf("%d events left, want those of two days", left)
	}
	r.reopen()
	if got := r.Counters().Buckets(stats.Total, stats.Of{}, now)[0].Counts; got != total {
		t.Errorf("counters after the purge %v, before %v", got, total)
	}
}

func FuzzDelivery(f *testing.F) {
	d := mail.Delivery{Seq: 5, Message: mail.MessageID{Lineage: 7, Seq: 3}, Tenant: "shop", From: "a@b.example", To: "c@d.example",
		Domain: "d.example", Priority: 50, Due: time.UnixMilli(1e12), Expires: time.Unix(1e9, 0), RetryEvery: time.Minute}
	f.Add(appendDelivery(nil, &d, 7))
	d.Quiet = "2100-0800@Asia/Tokyo"
	f.Add(appendDelivery(nil, &d, 7))
	d.Domain, d.Message.Lineage, d.Shared, d.Attempts = "route.example", 8, true, 65535
	f.Add(appendDelivery(nil, &d, 7))
	d.Source = netip.MustParseAddr("192.0.2.1")
	f.Add(appendDelivery(nil, &d, 7))
	d.Signers = "b.example"
	f.Add(appendDelivery(nil, &d, 7))
	d.Signers = "b.example,esp.example"
	f.Add(appendDelivery(nil, &d, 7))
	f.Add([]byte{})
	f.Add([]byte{deliveryVersion, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		first, err := parseDelivery(string(raw), 7)
		if err != nil {
			return
		}
		again, err := parseDelivery(string(appendDelivery(nil, &first, 7)), 7)
		if err != nil || again != first {
			t.Errorf("%+v became %+v, %v", first, again, err)
		}
	})
}
