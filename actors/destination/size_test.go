package destination

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/actorstest"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// TestTooLargeForTheReceiver: what a receiver takes nothing of that size of fails with status 8 and is not sent; what fits
// is. Where the size is not known everything is sent.
func TestTooLargeForTheReceiver(t *testing.T) { // D2, R96
	for _, row := range []struct {
		name  string
		most  int
		sizes []int
		fail  int // of them
	}{
		{"all fit", 1000, []int{1, 999, 1000}, 0},
		{"one does not", 1000, []int{1001, 1, 1000}, 1},
		{"none does", 1000, []int{1001, 2000}, 2},
		{"not known", 0, []int{1001, 1 << 30}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			q := actorstest.NewQueue(false)
			env := &Env{Queue: q, Gates: &gate.Table{}, Suspensions: &Suspensions{}, Rand: func() float64 { return 0 }, Counters: &Counters{},
				Budget: &Budget{Limit: 1 << 20}, Sources: func(string) []netip.Addr { return twoSources }}
			env.Defaults()
			b := NewOutbox(toA, env, func(any) {})
			now := time.Unix(1_800_000_000, 0)
			b.Note(Plan{Size: row.most, Status: Status{State: StateSending, Receiver: "au"}})
			for i, size := range row.sizes {
				d := mail.Delivery{Seq: mail.Seq(i + 1), Message: mail.MessageID{Seq: mail.Seq(i + 1)}, Domain: toA.Domain, Tenant: toA.Tenant, Due: now,
					Expires: now.Add(time.Hour), Size: size}
				q.Put([]byte("x"), d)
				b.Push(now, &mail.Job{Delivery: d, Body: []byte("x")})
			}
			taken := 0
			for p, _ := b.Take(now, 0, twoSources[0], "au"); p != nil; p, _ = b.Take(now, 0, twoSources[0], "au") {
				taken++
				if row.most > 0 && p.Job.Delivery.Size > row.most {
					t.Errorf("%d octets are sent", p.Job.Delivery.Size)
				}
			}
			failed := 0
			for i := range row.sizes {
				if e, ok := q.Final(mail.Seq(i + 1)); ok {
					failed++
					if e.Kind != mail.EventFailed || e.Status != mail.StatusSize || e.Stage != mail.StageNone || !strings.Contains(e.Detail, "au takes messages of 1000") {
						t.Errorf("%+v", e)
					}
				}
			}
			if failed != row.fail || taken+failed != len(row.sizes) {
				t.Errorf("%d failed, want %d; %d sent", failed, row.fail, taken)
			}
		})
	}
}
