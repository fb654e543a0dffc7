package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/events"
)

func TestSharedBody(t *testing.T) {
	r := newRig(t)
	body := strings.Repeat("shared ", 400)
	a := r.message(body, "a@x.example.jp", "b@x.example.jp", "c@y.example.jp")
	r.put(a)
	for i := range a.Deliveries {
		if !a.Deliveries[i].Shared {
			t.Error("Put did not mark the deliveries as shared")
		}
	}
	r.settle(a.Deliveries[1])
	r.reopen()
	now := r.cfg.Clock.Now()
	first := r.scan("x.example.jp", Cursor{}, far(now), 10)
	if len(first) != 1 || !first[0].Shared || r.body(a.ID) != body {
		t.Fatalf("after one of three: %+v", first)
	}
	// Settling what is settled takes no share.
	err := wait(func(done func(error)) { r.Settle(delivered(&a.Deliveries[1], now), done) })
	if !errors.Is(err, ErrNotQueued) {
		t.Errorf("second settlement: %v", err)
	}
	moved := r.later(first[0], now.Add(time.Minute)) // a deferral takes no share either
	r.settle(moved)
	if r.body(a.ID) != body {
		t.Error("body gone before its last delivery")
	}
	r.reopen()
	r.settle(a.Deliveries[2])
	if _, err := r.Body(a.ID); !errors.Is(err, ErrNoBody) {
		t.Errorf("body after the last delivery: %v", err)
	}
	if left := r.keys(kindShares); len(left) != 0 || r.Waiting() != 0 {
		t.Errorf("left behind: %q, waiting %d", left, r.Waiting())
	}
}

// keys lists the keys of one kind.
func (r *rig) keys(kind byte) (keys []string) {
	err := r.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kind}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			keys = append(keys, string(it.Item().Key()))
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return keys
}

func TestNothingQueued(t *testing.T) {
	r := newRig(t)
	a := r.message("x", "a@x.example.jp")
	a.Deliveries = nil // suppressed at intake: only events
	r.put(a)
	if _, err := r.Body(a.ID); !errors.Is(err, ErrNoBody) {
		t.Errorf("body of a message without deliveries: %v", err)
	}
}

func TestIdempotency(t *testing.T) {
	r := newRig(t)
	first := r.message("x", "a@x.example.jp")
	first.Key = "order-1"
	r.put(first)
	again := func(key, tenant string) error {
		a := r.message("x", "a@x.example.jp")
		a.Key, a.Tenant = key, tenant
		return wait(func(done func(error)) { r.Put(a, done) })
	}
	duplicate := func(err error) mail.MessageID {
		var d interface{ DuplicateOf() mail.MessageID } // as intake asks
		if errors.As(err, &d) {
			return d.DuplicateOf()
		}
		return mail.MessageID{}
	}
	if got := duplicate(again("order-1", "shop")); got != first.ID {
		t.Errorf("second use names %v, want %v", got, first.ID)
	}
	if err := again("order-1", "other"); err != nil {
		t.Errorf("same key of another tenant: %v", err)
	}
	r.reopen()
	if got := duplicate(again("order-1", "shop")); got != first.ID {
		t.Errorf("after a restart it names %v", got)
	}
	if r.Waiting() != 2 {
		t.Errorf("waiting %d, want 2", r.Waiting())
	}

	var mu sync.Mutex
	var wg sync.WaitGroup
	accepted, named := 0, map[mail.MessageID]int{}
	for range 50 {
		wg.Go(func() {
			err := again("race", "shop")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				accepted++
			}
			named[duplicate(err)]++
		})
	}
	wg.Wait()
	if accepted != 1 || len(named) != 2 {
		t.Errorf("of 50 at once %d were accepted, duplicates named %v", accepted, named)
	}

	r.cfg.Clock.Advance(keyLife + time.Minute)
	if err := r.Purge(context.Background(), Retention{Before: r.cfg.Clock.Now().Add(-time.Hour * 24 * 40)}); err != nil {
		t.Fatal(err)
	}
	if left := r.keys(kindKey); len(left) != 0 {
		t.Errorf("%d keys left after their day", len(left))
	}
	if err := again("order-1", "shop"); err != nil {
		t.Errorf("key used after its day: %v", err)
	}
}

func TestAllot(t *testing.T) {
	r := newRig(t)
	lineage := r.Lineage()
	if lineage == 0 {
		t.Fatal("lineage is zero")
	}
	before := uint64(clock.Wall().UnixMicro())
	first := r.Allot(3)
	if second := r.Allot(1); second < first+3 {
		t.Errorf("3 numbers from %d, then %d", first, second)
	}
	if uint64(first) < before || uint64(first) > before+60e6 {
		t.Errorf("number %d is not the time %d", first, before)
	}
	// As if the clock had been far ahead when this was put, and set back for the restart.
	r.lastSeq.Store(before + 3600e6)
	ahead := r.message("x", "a@x.example.jp")
	r.put(ahead)
	r.reopen()
	if got := r.Allot(1); got <= ahead.ID.Seq {
		t.Errorf("after the clock went back: %d, used already up to %d", got, ahead.ID.Seq)
	}
	if r.Lineage() != lineage {
		t.Error("lineage changed")
	}
	seen := map[mail.Seq]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				s := r.Allot(2)
				mu.Lock()
				if seen[s] || seen[s+1] {
					t.Errorf("%d given out twice", s)
				}
				seen[s], seen[s+1] = true, true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestMeta(t *testing.T) {
	r := newRig(t)
	if v, err := r.Meta("gates"); v != nil || err != nil {
		t.Errorf("nothing kept: %q, %v", v, err)
	}
	for _, v := range [][]byte{[]byte("stopped"), {}, nil} {
		if err := wait(func(done func(error)) { r.SetMeta("gates", v, done) }); err != nil {
			t.Fatal(err)
		}
		r.reopen()
		if got, err := r.Meta("gates"); err != nil || !bytes.Equal(got, v) || (got == nil) != (v == nil) {
			t.Errorf("kept %q, read %q, %v", v, got, err)
		}
	}
}

func TestTooMany(t *testing.T) {
	r := newRig(t)
	to := make([]mail.Address, maxRecipients)
	for i := range to {
		to[i] = mail.Address(fmt.Sprintf("a-rather-long-local-part-of-an-address-%06d@%s.example.jp", i, strings.Repeat("d", 60)))
	}
	r.put(r.message(strings.Repeat("x", 100_000), to...)) // the largest that is promised
	err := wait(func(done func(error)) { r.Put(r.message("x", append(to, "one@x.example.jp")...), done) })
	if !errors.Is(err, ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	r.put(r.message("x", "a@x.example.jp")) // and the store goes on
	if r.Waiting() != maxRecipients+1 {
		t.Errorf("waiting %d", r.Waiting())
	}
}

// TestNothingInClear looks for what only sealed records may hold in every file of the store.
func TestNothingInClear(t *testing.T) {
	r := newRig(t)
	canaries := []string{"canary-body", "canary-local", "canary-domain", "canary-subject", "canary-tenant", "canary-group",
		"canary-sender", "canary-key", "canary-meta", "canary-reply", "canary-id"}
	for i := range 200 { // blocks both raw and compressed
		a := r.message("Subject: canary-subject\r\n\r\n"+strings.Repeat("canary-body ", 1+i%100), "canary-local@canary-domain.example.jp")
		d, e := &a.Deliveries[0], &a.Events[0]
		d.Tenant, d.Group, d.From = "canary-tenant", "canary-group", "canary-sender@shop.example"
		e.Subject, e.Group, e.Tenant, e.HeaderID = "canary-subject", "canary-group", "canary-tenant", "canary-id"
		a.Key = fmt.Sprintf("canary-key-%d", i)
		r.put(a)
		if i%2 == 0 {
			m := delivered(d, e.At)
			m.Event.Reply.Text = "canary-reply"
			if err := wait(func(done func(error)) { r.Settle(m, done) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := wait(func(done func(error)) { r.SetMeta("canary-meta", []byte("canary-meta"), done) }); err != nil {
		t.Fatal(err)
	}
	r.reopen() // so that memtables became tables, and counters were written
	names, err := filepath.Glob(filepath.Join(r.cfg.Dir, "*"))
	if err != nil || len(names) < 4 {
		t.Fatalf("files %v, %v", names, err)
	}
	read := 0
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		read += len(data)
		for _, c := range canaries {
			if bytes.Contains(data, []byte(c)) {
				t.Errorf("%s holds %q in clear", filepath.Base(name), c)
			}
		}
	}
	// The search itself must be able to find something: what is sealed still comes back by the proper way.
	n := 0
	err = r.Events().Search(t.Context(), events.Query{To: "canary-local@canary-domain.example.jp"}, func(e mail.Event, _ events.Cursor) bool {
		n++
		return true
	})
	if err != nil || n != 300 || read == 0 {
		t.Errorf("%d events of 300, %d bytes searched, %v", n, read, err)
	}
}
