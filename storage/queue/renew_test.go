package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

// history counts the events of the log by kind and delivery.
func (r *rig) history() map[string]int {
	r.t.Helper()
	all := map[string]int{}
	err := r.Events().Search(r.t.Context(), events.Query{}, func(e mail.Event, _ events.Cursor) bool {
		all[fmt.Sprint(e.Kind, " ", e.Message, " ", e.Delivery)]++
		return true
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

func (r *rig) counts() *stats.Counts {
	return &r.Counters().Buckets(stats.Total, stats.Of{}, r.cfg.Clock.Now())[0].Counts
}

// home brings what is parked home.
func (r *rig) home() (total Adopted) {
	r.t.Helper()
	for _, l := range r.Parked().Lineages {
		got := r.adopt(Adoption{Lineage: l, Note: "brought home by n1", Records: r.ParkedRecords(r.t.Context(), l)})
		total.Messages += got.Messages
		total.Deliveries += got.Deliveries
		total.Skipped += got.Skipped
		total.Damaged += got.Damaged
		if err := r.Unpark(r.t.Context(), l); err != nil {
			r.t.Fatal(err)
		}
	}
	if left := r.keys(kindParked); len(left) > 0 || r.Parked().Deliveries > 0 {
		r.t.Errorf("%d records are parked still, %+v", len(left), r.Parked())
	}
	return total
}

// interrupted ends after a number of looks at it.
type interrupted struct {
	context.Context
	looks atomic.Int64
}

var errInterrupted = errors.New("interrupted")

func (i *interrupted) Err() error {
	if i.looks.Add(-1) < 0 {
		return errInterrupted
	}
	return nil
}

// renew gives the queue up, broken off again and again where steps > 0, each time a little later.
func (r *rig) renew(steps int64) (total Renewal) {
	r.t.Helper()
	if err := r.Close(); err != nil {
		r.t.Fatal(err)
	}
	cfg := r.cfg
	for looks := steps; ; looks += steps {
		ctx := &interrupted{Context: context.Background()}
		if ctx.looks.Store(looks); steps == 0 {
			ctx.looks.Store(1 << 40)
		}
		cfg.Ring = r.ring(r.key)
		got, err := Renew(ctx, cfg, "handed over to n2")
		total.Lineage = got.Lineage
		total.Deliveries += got.Deliveries
		total.Parked += got.Parked
		total.Damaged += got.Damaged
		if err == nil {
			break
		}
		if !errors.Is(err, errInterrupted) {
			r.t.Fatal(err)
		}
	}
	r.open()
	return total
}

// TestRenew: a queue that is given up leaves its log, its counters and the operator's state, and nothing else but what no
// standby may hold; and that is served again when it was brought home.
func TestRenew(t *testing.T) {
	for name, steps := range map[string]int64{"at once": 0, "broken off again and again": 1} {
		t.Run(name, func(t *testing.T) {
			r, f := newShippingRig(t)
			r.estate(5, 60)
			f.set(false, exposed)
			var alone []*mail.Accepted
			for i := range 7 {
				a := r.message(fmt.Sprint("alone ", i), "a@d1.example.jp", "b@alone.example.jp")
				a.Key = fmt.Sprint("alone ", i)
				for j := range a.Deliveries {
					a.Deliveries[j].Group = "g1"
				}
				r.put(a)
				alone = append(alone, a)
			}
			f.set(false, nil)
			r.settle(alone[0].Deliveries[0])
			if err := wait(func(done func(error)) { r.SetMeta("gates", []byte("closed"), done) }); err != nil {
				t.Fatal(err)
			}
			first, total, before, counted := r.Lineage(), r.Waiting(), r.history(), *r.counts()
			if counted.Left() != int64(total) {
				t.Fatalf("%d wait, counted %d", total, counted.Left())
			}

			got := r.renew(steps)
			if got != (Renewal{Lineage: first, Deliveries: total, Parked: 13}) || r.Lineage() == first {
				t.Errorf("renewed %+v of %d, now %08x", got, total, uint32(r.Lineage()))
			}
			after := r.history()
			handed := 0
			for e, n := range after {
				if n != 1 {
					t.Errorf("%d times in the log: %s", n, e)
				}
				if _, old := before[e]; !old {
					handed++
				}
			}
			for e := range before {
				if after[e] == 0 {
					t.Errorf("lost from the log: %s", e)
				}
			}
			now := *r.counts()
			if handed != total || now[stats.HandedOver] != uint64(total) || now.Left() != 0 || r.Waiting() != 0 {
				t.Errorf("%d handed over in the log, counted %v; %d wait", handed, now, r.Waiting())
			}
			if counted.Retrying() == 0 || now.Retrying() != 0 {
				t.Errorf("%d were put off before, and %d are that wait", counted.Retrying(), now.Retrying())
			}
			now[stats.HandedOver], now[stats.DeferredEnded] = 0, counted[stats.DeferredEnded]
			if now != counted {
				t.Errorf("counted %v, before %v", now, counted)
			}
			if v, err := r.Meta("gates"); string(v) != "closed" || err != nil {
				t.Errorf("state %q, %v", v, err)
			}
			for _, kind := range []byte{kindDelivery, kindBody, kindShares, kindKey, kindExposed, kindAdopted} {
				if left := r.keys(kind); len(left) > 0 {
					t.Errorf("%d records of kind %c left", len(left), kind)
				}
			}
			p := r.Parked()
			want := map[mail.Domain]int{"d1.example.jp": 6, "alone.example.jp": 7}
			if p.Deliveries != 13 || !maps.Equal(p.Domains, want) || p.Groups[gate.Key{Tenant: "shop", Group: "g1"}] != 13 {
				t.Errorf("parked %+v", p)
			}
			if a := r.home(); a.Deliveries != 13 || a.Messages != 7 || a.Damaged+a.Skipped != 0 {
				t.Errorf("brought home %+v", a)
			}
			r.reopen()
			if r.Waiting() != 13 || r.counts().Left() != 13 || r.Parked().Deliveries != 0 {
				t.Errorf("%d wait, counted %d, parked %+v", r.Waiting(), r.counts().Left(), r.Parked())
			}
			for i, a := range alone {
				if got := r.body(a.ID); got != fmt.Sprint("alone ", i) {
					t.Errorf("body of %s is %q", a.ID, got)
				}
			}
			again := r.message("x", "a@d1.example.jp")
			again.Key = "alone 3"
			var dup *DuplicateError
			if err := wait(func(done func(error)) { r.Put(again, done) }); !errors.As(err, &dup) || dup.ID != alone[3].ID {
				t.Errorf("a key of what was brought home: %v", err)
			}
		})
	}
}

// TestRenewTwice: a queue is given up while what an earlier one left is still being brought home. What was taken by then
// goes with the queue that took it, and is not taken once more.
func TestRenewTwice(t *testing.T) {
	r, f := newShippingRig(t)
	f.set(false, exposed)
	for i := range 300 {
		r.put(r.message(fmt.Sprint("alone ", i), mail.Address(fmt.Sprintf("u%d@d%d.example.jp", i, i%5))))
	}
	r.renew(0)
	f.set(false, nil) // from now on standbys hold what comes
	l, broken := r.Parked().Lineages[0], errors.New("broken off")
	bodies, whole := 0, r.ParkedRecords(t.Context(), l)
	got, err := r.Adopt(t.Context(), Adoption{Lineage: l, Note: "brought home", Records: func(each func(key, value []byte) error) error {
		return whole(func(key, value []byte) error {
			if key[0] == kindBody && bodies == 200+300 { // the first pass sees all of them
				return broken
			}
			if key[0] == kindBody {
				bodies++
			}
			return each(key, value)
		})
	}})
	taken := r.Waiting()
	if !errors.Is(err, broken) || taken == 0 || taken >= 300 {
		t.Fatalf("%d of 300 taken, %+v, %v", taken, got, err)
	}
	second := r.renew(0)
	if second.Deliveries != taken || second.Parked != 0 {
		t.Errorf("given up %+v, want %d", second, taken)
	}
	if a := r.home(); a.Deliveries != 300-taken || a.Skipped != taken {
		t.Errorf("brought home %+v, %d were taken before", a, taken)
	}
	if r.Waiting() != 300-taken || r.counts().Left() != int64(300-taken) {
		t.Errorf("%d wait, counted %d", r.Waiting(), r.counts().Left())
	}
	// What went with the second queue may come back with it: this store gave it up.
	if n := r.adopt(adoptionOf(second.Lineage, f.standing())); n.Deliveries == 0 {
		t.Errorf("of the second queue %+v was adopted", n)
	}
}
