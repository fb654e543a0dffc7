package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/events"
)

// wrapped counts the data keys on disk.
func (r *rig) wrapped() int {
	r.t.Helper()
	ids, err := r.dataKeys()
	if err != nil {
		r.t.Fatal(err)
	}
	return len(ids)
}

func (r *rig) sweepKeys() int {
	r.t.Helper()
	gone, err := r.PurgeDataKeys(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return gone
}

// readable opens everything there is in the store, as a process would that has only what lies on disk.
func (r *rig) readable(bodies map[mail.MessageID]string) (lines int) {
	r.t.Helper()
	for id, want := range bodies {
		if got := r.body(id); got != want {
			r.t.Fatalf("body %q, want %q", got, want)
		}
	}
	if err := r.ForEachDelivery(r.t.Context(), func(*mail.Delivery) bool { return true }); err != nil {
		r.t.Fatal(err)
	}
	err := r.Events().Search(r.t.Context(), events.Query{}, func(mail.Event, events.Cursor) bool { lines++; return true })
	if err != nil {
		r.t.Fatal(err)
	}
	if value, err := r.Meta("sources"); err != nil || string(value) != "learned" {
		r.t.Fatalf("operator state %q, %v", value, err)
	}
	if r.damaged.Load() != 0 || r.Events().Damaged() != 0 {
		r.t.Fatalf("%d records and %d blocks do not open", r.damaged.Load(), r.Events().Damaged())
	}
	return lines
}

// TestPurgeDataKeys: a data key goes with the last record that needs it, whatever kind that is, here and at the standby, and
// not before; a store of a version that marked nothing is treated with care.
func TestPurgeDataKeys(t *testing.T) {
	r, f := newShippingRig(t)
	if err := wait(func(done func(error)) { r.SetMeta("sources", []byte("learned"), done) }); err != nil {
		t.Fatal(err)
	}
	bodies := map[mail.MessageID]string{}
	var waits []*mail.Accepted
	lines := 0
	for day := range 6 { // each day two keys: one seals a message that waits, one what is settled at once
		for i := range 2 {
			a := r.message(fmt.Sprintf("day %d message %d", day, i), "a@x.example.jp", "b@y.example.jp")
			r.put(a)
			lines += 2
			if i == 0 {
				waits = append(waits, a)
				bodies[a.ID] = string(a.Body)
			} else {
				r.settle(a.Deliveries[0])
				r.settle(a.Deliveries[1])
				lines += 2
			}
			r.cfg.Ring.Retire()
		}
		if day == 2 { // as if an older version had made the store so far
			keys := r.keys(kindUse)
			if err := r.db.Update(func(txn *badger.Txn) error {
				for _, k := range keys {
					if err := txn.Delete([]byte(k)); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			r.reopen()
		}
		r.cfg.Clock.Advance(24 * time.Hour)
	}
	for _, a := range waits[:3] { // those of the first days are done; the others wait on
		r.settle(a.Deliveries[0])
		r.settle(a.Deliveries[1])
		delete(bodies, a.ID)
		lines += 2
	}
	all := r.wrapped()
	if gone := r.sweepKeys(); gone != 0 {
		t.Errorf("%d of %d keys went although the log of all days is there", gone, all)
	}
	began := r.cfg.Clock.Now().AddDate(0, 0, -6)
	total := 0
	for day := 1; day <= 5; day++ {
		if err := r.Purge(t.Context(), Retention{Before: began.AddDate(0, 0, day)}); err != nil {
			t.Fatal(err)
		}
		end := r.Events().End()
		r.reopen()                                   // what this process made is spared for two hours
		if again := r.Events().End(); again != end { // else its blocks would be written over
			t.Fatalf("day %d: the log ended at %v, and ends at %v after a restart", day, end, again)
		}
		before := r.wrapped()
		gone := r.sweepKeys()
		total += gone
		left := r.wrapped()
		if left != before-gone {
			t.Fatalf("day %d: %d of %d keys went, %d are left", day, gone, before, left)
		}
		r.reopen()
		t.Logf("log from day %d on: %d keys gone, %d left, %d lines", day, gone, left, r.readable(bodies))
		if why := differs(r.live(), f.standing()); why != "" {
			t.Fatalf("day %d: the store and its standby: %s", day, why)
		}
		if again := r.sweepKeys(); again != 0 {
			t.Errorf("day %d: %d more keys in a second sweep", day, again)
		}
	}
	if total < 7 { // of three days everything is gone, of two more what was settled at once
		t.Errorf("%d keys went in all", total)
	}
	other := newRig(t)
	got := other.adopt(Adoption{Lineage: r.Lineage(), Records: func(each func(k, v []byte) error) error {
		for k, v := range f.standing() {
			if err := each([]byte(k), []byte(v)); err != nil {
				return err
			}
		}
		return nil
	}})
	if got.Messages != len(bodies) || got.Damaged != 0 {
		t.Errorf("the standby's copy gives %+v, want %d messages", got, len(bodies))
	}
}
