package destination

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/actorstest"
	"github.com/ekiden-mta/ekiden/mail"
)

// What waits is told by kind: cleaning mail that asked for it, mail that is slowed down for its tenant's lists, and such as
// was raised above bulk mail, which is not.
func TestStandingTellsKinds(t *testing.T) {
	env := &Env{Queue: actorstest.NewQueue(false), Suspensions: &Suspensions{}, Rand: func() float64 { return 0 },
		Counters: &Counters{}, Budget: &Budget{Limit: 1 << 20}, Cleans: func(tenant, _ string) bool { return tenant == "unclean" }}
	env.Defaults()
	b := NewOutbox(toA, env, func(any) {})
	now := time.Unix(1_800_000_000, 0)
	for i, d := range []mail.Delivery{
		{Tenant: "unclean", Priority: 50}, {Tenant: "unclean", Priority: 50, Cleaning: true}, {Tenant: "unclean", Priority: 90},
		{Tenant: "clean", Priority: 50}, {Tenant: "clean", Priority: 51}, {Tenant: "unclean", Priority: 10},
	} {
		d.Seq, d.Domain, d.Due, d.Expires = mail.Seq(i+1), toA.Domain, now, now.Add(time.Hour)
		b.Push(now, &mail.Job{Delivery: d})
	}
	if s := b.Standing(); s.InMemory != 6 || s.Cleaning != 1 || s.Slowed != 2 || s.Urgent != 2 {
		t.Errorf("%d in memory: %d cleaning, %d slowed, %d urgent", s.InMemory, s.Cleaning, s.Slowed, s.Urgent)
	}
}
