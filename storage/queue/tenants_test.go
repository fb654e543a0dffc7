package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// bulk puts n messages of a tenant to one domain, many at a time.
func (r *rig) bulk(tenant string, n int, priority uint8) {
	r.t.Helper()
	done := make(chan error, n)
	for i := range n {
		a := r.message("x", mail.Address(fmt.Sprintf("u%d@example.jp", i)))
		a.Tenant, a.Deliveries[0].Tenant, a.Events[0].Tenant, a.Deliveries[0].Priority = tenant, tenant, tenant, priority
		r.Put(a, func(err error) { done <- err })
	}
	for range n {
		if err := <-done; err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestTenantsApart: each tenant's mail to a domain is found without a look at the others', and in it what is more urgent
// without a look at the bulk before it (N11, R35).
func TestTenantsApart(t *testing.T) {
	const backlog = 20_000
	r := newRig(t)
	until := far(r.cfg.Clock.Now())
	r.bulk("bulk", backlog, 50)
	r.bulk("small", 10, 1)
	r.bulk("bulk", 5, 90)
	look := func(tenant string, n int) []mail.Delivery {
		before := r.steps.Load()
		ds, _, _, _, err := r.Scan(mail.Destination{Domain: "example.jp", Tenant: tenant}, Cursor{}, until, n)
		if err != nil {
			t.Fatal(err)
		}
		if steps := r.steps.Load() - before; steps > uint64(2*n+10) {
			t.Errorf("%s: %d steps for %d deliveries", tenant, steps, n)
		}
		return ds
	}
	for round := range 2 {
		ds := look("bulk", 10)
		for i := range ds {
			if want := map[bool]uint8{true: 90, false: 50}[i < 5]; ds[i].Priority != want || ds[i].Tenant != "bulk" {
				t.Errorf("round %d: place %d has priority %d of %s, want %d", round, i, ds[i].Priority, ds[i].Tenant, want)
			}
		}
		if ds := look("small", 99); len(ds) != 10 || ds[0].Tenant != "small" || !ds[0].Apart {
			t.Errorf("round %d: %d deliveries of the small tenant: %+v", round, len(ds), ds)
		}
		r.reopen()
	}
	got := map[mail.Destination]int{}
	if err := r.Destinations(func(d mail.Destination, n int, _ time.Time) error { got[d] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[mail.Destination{Domain: "example.jp", Tenant: "bulk"}] != backlog+5 ||
		got[mail.Destination{Domain: "example.jp", Tenant: "small"}] != 10 {
		t.Errorf("destinations %v", got)
	}
}

// TestOlderStore: what was stored before tenants had parts of their own stays in order where it is and can be settled and
// deferred; the store is of the new format from then on, and one of a later format is refused untouched.
func TestOlderStore(t *testing.T) {
	r := newRig(t)
	now := r.cfg.Clock.Now()
	old := r.message("x", "a@example.jp", "b@example.jp")
	done := make(chan error, 1)
	q := r.newRequest(func(err error) { done <- err })
	q.puts, q.message, q.maxSeq, q.shares = true, old.ID, old.ID.Seq, 2
	for i := range old.Deliveries {
		old.Deliveries[i].Shared, old.Deliveries[i].Apart = true, false
		r.addDelivery(q, &old.Deliveries[i])
	}
	r.addBody(q, old.ID, old.Body)
	r.submit(q)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	setFormat := func(n byte) {
		t.Helper()
		plain := binary.BigEndian.AppendUint32([]byte{n}, uint32(r.lineage))
		w := r.db.NewWriteBatch()
		if err := errors.Join(w.Set([]byte(keyIdentity), r.Store.ring.Seal(nil, plain, []byte(aadIdentity))), w.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	setFormat(1)
	r.reopen()
	r.put(r.message("x", "c@example.jp"))
	all := mail.Destination{Domain: "example.jp"}
	got := map[mail.Destination]int{}
	if err := r.Destinations(func(d mail.Destination, n int, _ time.Time) error { got[d] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[all] != 2 || got[shop("example.jp")] != 1 {
		t.Fatalf("destinations %v", got)
	}
	ds, _, _, _, err := r.Scan(all, Cursor{}, far(now), 9)
	if err != nil || len(ds) != 2 || ds[0].Apart || ds[0].Tenant != "shop" {
		t.Fatalf("%+v, %v", ds, err)
	}
	r.settle(ds[0])
	r.later(ds[1], now.Add(time.Minute))
	if ds, _, _, _, err = r.Scan(all, Cursor{}, far(now), 9); err != nil || len(ds) != 1 || ds[0].Attempts != 1 {
		t.Fatalf("after an attempt: %+v, %v", ds, err)
	}
	r.settle(ds[0])
	r.reopen()
	if r.Waiting() != 1 {
		t.Errorf("%d wait, want 1", r.Waiting())
	}
	r.put(r.message("x", "d@example.jp")) // keeps the data key of this process
	setFormat(schema + 1)
	if err := r.Store.Close(); err != nil {
		t.Fatal(err)
	}
	r.cfg.Ring = r.ring(r.key)
	if s, err := Open(r.cfg); !errors.Is(err, ErrNewer) {
		t.Errorf("a store of a later format: %v", err)
		if err == nil {
			_ = s.Close()
		}
	}
}
