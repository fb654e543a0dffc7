package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

// spoil makes the counters on disk unreadable, or takes them away; those in memory are not written again at close.
func (r *rig) spoil(remove bool) {
	r.t.Helper()
	if err := wait(func(done func(error)) {
		req := r.newRequest(done)
		if remove {
			req.del([]byte{kindSnapshot})
		} else {
			req.set([]byte{kindSnapshot}, []byte("garbage"))
		}
		r.submit(req)
	}); err != nil {
		r.t.Fatal(err)
	}
	r.stats.Snapshot(nil)
}

// work lets mail of two tenants, in groups and without, to a few domains come and mostly end.
func (r *rig) work(rnd *rand.Rand, n int) {
	r.t.Helper()
	for range n {
		a := r.message("x", mail.Address(fmt.Sprintf("a@d%d.example.jp", rnd.IntN(4))))
		tenant, group := fmt.Sprint("shop", rnd.IntN(2)), []string{"", "g1", "g2"}[rnd.IntN(3)]
		a.Tenant, a.Deliveries[0].Tenant, a.Events[0].Tenant = tenant, tenant, tenant
		a.Deliveries[0].Group, a.Events[0].Group = group, group
		r.put(a)
		d := a.Deliveries[0]
		for range rnd.IntN(3) {
			d = r.later(d, d.Due.Add(time.Minute))
		}
		m := delivered(&d, r.cfg.Clock.Now())
		m.Event.Tenant, m.Event.Group, m.Event.Taken = tenant, group, a.Events[0].At
		if rnd.IntN(4) == 0 {
			m.Event.Kind, m.Event.Status = mail.EventFailed, mail.StatusUserUnknown
		}
		if rnd.IntN(9) > 0 {
			if err := wait(func(done func(error)) { r.Settle(m, done) }); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// sums asks that groups, and domains, of all tenants add up to the whole (requirement R62), and returns the whole.
func (r *rig) sums() stats.Counts {
	r.t.Helper()
	total := r.Counters().Buckets(stats.Total, stats.Of{}, r.cfg.Clock.Now())[0].Counts
	for name, each := range map[string]func(func(string, string, stats.Counts)){"groups": r.Counters().Groups, "domains": r.Counters().Domains} {
		var sum stats.Counts
		tenants := map[string]stats.Counts{}
		each(func(tenant, _ string, c stats.Counts) {
			of := tenants[tenant]
			for i, n := range c {
				sum[i] += n
				of[i] += n
			}
			tenants[tenant] = of
		})
		if sum != total {
			r.t.Errorf("the %s add up to %v, the whole is %v", name, sum, total)
		}
		for tenant, sum := range tenants {
			if got := r.Counters().Buckets(stats.Total, stats.Of{Tenant: tenant}, r.cfg.Clock.Now())[0].Counts; got != sum {
				r.t.Errorf("the %s of %s add up to %v, the tenant has %v", name, tenant, sum, got)
			}
		}
	}
	return total
}

// TestRebuild: what is counted survives restarts, also where the counters on disk are spoilt or retention has taken the
// events, and a rebuild finds the same.
func TestRebuild(t *testing.T) {
	r := newRig(t)
	r.cfg.Carrier = func(d mail.Domain) string { return string(d[:2]) }
	r.reopen()
	rnd := rand.New(rand.NewPCG(5, 6))
	days := map[statistics.Date]stats.Day{}
	for step := range 12 {
		r.work(rnd, 30)
		total := r.sums()
		today := statistics.DateOf(r.cfg.Clock.Now())
		day, err := r.Day(today)
		if err != nil || len(day.Rows) == 0 || len(day.Errors) == 0 {
			t.Fatalf("today has %d rows, %d errors: %v", len(day.Rows), len(day.Errors), err)
		}
		days[today] = day
		switch step % 4 {
		case 1:
			r.reopen()
		case 2:
			if err := r.Purge(context.Background(), Retention{Before: r.cfg.Clock.Now().AddDate(0, 0, -2)}); err != nil {
				t.Fatal(err)
			}
		case 3:
			r.spoil(step > 4)
			r.reopen()
		}
		if got := r.sums(); got != total {
			t.Fatalf("step %d: counted %v, before %v", step, got, total)
		}
		found, err := r.Rebuild(t.Context())
		if err != nil || !found.Same || found.Events == 0 {
			t.Fatalf("step %d: rebuild found %+v, %v", step, found, err)
		}
		if got := r.sums(); got != total {
			t.Fatalf("step %d: rebuilt %v, before %v", step, got, total)
		}
		for date, want := range days {
			if got, _ := r.Day(date); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("step %d: %v has %v, had %v", step, date, got, want)
			}
		}
		r.cfg.Clock.Advance(20 * time.Hour)
	}
	// Counters that are wrong are found out, and put right.
	right := r.sums()
	wrong := mail.Event{At: r.cfg.Clock.Now(), Kind: mail.EventDelivered, Tenant: "shop0", Domain: "d1.example.jp"}
	r.stats.Add(&wrong)
	if found, err := r.Rebuild(t.Context()); err != nil || found.Same {
		t.Errorf("wrong counters: %+v, %v", found, err)
	}
	if got := r.sums(); got != right {
		t.Errorf("counted %v after the rebuild, %v is right", got, right)
	}
}

// queued waits until n requests wait for the committer.
func (r *rig) queued(t *testing.T, n int) {
	t.Helper()
	until(t, 10*time.Second, fmt.Sprint(n, " requests wait"), func() bool {
		r.inbox.mu.Lock()
		defer r.inbox.mu.Unlock()
		return len(r.inbox.waiting) == n
	})
}

// TestRebuildWhileMailComes: what comes with the commit that ends a rebuild counts once, whichever was handed in first.
func TestRebuildWhileMailComes(t *testing.T) {
	for name, first := range map[string]bool{"mail comes before it": true, "mail comes after it": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.work(rand.New(rand.NewPCG(11, 12)), 20)
			before := r.sums()
			busy, free := make(chan struct{}), make(chan struct{})
			req := r.newRequest(func(error) {})
			req.alone = func() { close(busy); <-free } // the committer stands still: what comes gets into one commit
			r.submit(req)
			<-busy
			put, rebuilt := make(chan error, 1), make(chan error, 1)
			var found Rebuilt
			come := []func(){
				func() { r.Put(r.message("x", "a@d1.example.jp", "b@d2.example.jp"), func(err error) { put <- err }) },
				func() {
					go func() {
						var err error
						found, err = r.Rebuild(t.Context())
						rebuilt <- err
					}()
				},
			}
			if !first {
				slices.Reverse(come)
			}
			for i, f := range come {
				f()
				r.queued(t, i+1)
			}
			close(free)
			for what, done := range map[string]chan error{"put": put, "rebuild": rebuilt} {
				if err := <-done; err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			if !found.Same {
				t.Errorf("right counters were found wrong: %+v", found)
			}
			if got := r.sums(); got[stats.Accepted] != before[stats.Accepted]+2 {
				t.Errorf("accepted %d after two more, before %d", got[stats.Accepted], before[stats.Accepted])
			}
			if found, err := r.Rebuild(t.Context()); err != nil || !found.Same {
				t.Errorf("counted anew once more: %+v, %v", found, err)
			}
		})
	}
}

// TestRetentionWaitsForRebuild: what retention takes while everything is counted anew would be in neither count.
func TestRetentionWaitsForRebuild(t *testing.T) {
	r := newRig(t)
	if err := r.folding.acquire(t.Context()); err != nil { // as a rebuild does
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := r.Purge(ended, Retention{}); !errors.Is(err, context.Canceled) {
		t.Errorf("retention beside a rebuild: %v", err)
	}
	r.folding.release()
	if err := r.Purge(t.Context(), Retention{}); err != nil {
		t.Errorf("retention after it: %v", err)
	}
}

// TestStatisticsEnd: a day's statistics go after their time, whatever it is that counts the days.
func TestStatisticsEnd(t *testing.T) {
	r := newRig(t)
	rnd := rand.New(rand.NewPCG(7, 8))
	r.work(rnd, 10)
	first := statistics.DateOf(r.cfg.Clock.Now())
	r.cfg.Clock.Advance(statisticsDays * 24 * time.Hour)
	r.work(rnd, 10)
	r.reopen()
	for _, c := range []struct {
		name string
		on   time.Duration
		kept bool
	}{{"the last day", 0, true}, {"a day later", 25 * time.Hour, false}} {
		r.cfg.Clock.Advance(c.on)
		if err := r.Purge(context.Background(), Retention{Before: r.cfg.Clock.Now().AddDate(0, 0, -40)}); err != nil {
			t.Fatal(err)
		}
		if day, err := r.Day(first); err != nil || len(day.Rows) > 0 != c.kept {
			t.Errorf("%s: %d rows left, %v", c.name, len(day.Rows), err)
		}
	}
}

// TestRetentionOfTenants: of two tenants whose events share blocks each keeps its own days; what is gone cannot be found in
// any way, what stays keeps its numbers and its places, and the counters are right after a rebuild (requirements R77, R78).
func TestRetentionOfTenants(t *testing.T) {
	r := newRig(t)
	rnd := rand.New(rand.NewPCG(9, 10))
	begin := r.cfg.Clock.Now()
	for range 6 {
		r.work(rnd, 40)
		r.cfg.Clock.Advance(24 * time.Hour)
	}
	now, total := r.cfg.Clock.Now(), r.sums()
	type place struct {
		at  events.Cursor
		seq uint64
	}
	read := func() map[string][]place {
		out := map[string][]place{}
		if err := r.Events().Search(t.Context(), events.Query{}, func(e mail.Event, at events.Cursor) bool {
			out[e.Tenant] = append(out[e.Tenant], place{at, e.Sequence})
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := read()
	keep := Retention{Before: now.AddDate(0, 0, -4), Tenants: map[string]time.Time{"shop0": now.AddDate(0, 0, -2), "shop1": now.AddDate(0, 0, -4)}}
	for range 2 { // the second time nothing is left to do
		if err := r.Purge(context.Background(), keep); err != nil {
			t.Fatal(err)
		}
	}
	after := read()
	for tenant, days := range map[string]int{"shop0": 2, "shop1": 4} {
		limit := dayOf(now.AddDate(0, 0, -days))
		want := slices.DeleteFunc(slices.Clone(before[tenant]), func(p place) bool { return p.at.Day < limit })
		if !slices.Equal(after[tenant], want) || len(want) == 0 || len(want) == len(before[tenant]) {
			t.Errorf("%s has %d events, want %d of %d in their places", tenant, len(after[tenant]), len(want), len(before[tenant]))
		}
	}
	found := 0
	if err := r.Events().Search(t.Context(), events.Query{To: "a@d1.example.jp", Until: begin.Add(30 * time.Hour)}, func(e mail.Event, _ events.Cursor) bool {
		found++
		return true
	}); err != nil || found != 0 {
		t.Errorf("%d events of the first days are found by recipient, %v", found, err)
	}
	if got := r.sums(); got != total {
		t.Errorf("counted %v, before %v", got, total)
	}
	for range 2 {
		if found, err := r.Rebuild(t.Context()); err != nil || !found.Same {
			t.Errorf("rebuild: %+v, %v", found, err)
		}
		r.spoil(false)
		r.reopen()
	}
	if got := r.sums(); got != total {
		t.Errorf("counted %v after all that, before %v", got, total)
	}
}
