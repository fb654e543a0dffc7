package queue

import (
	"context"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// until polls what other goroutines bring about.
func until(t *testing.T, patience time.Duration, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// TestReclaim fills a disk with mail, settles all but one of it, and asks that the space comes back though nothing more
// is put, and nothing that lives with it goes.
func TestReclaim(t *testing.T) {
	r := newRig(t)
	body := string(random(1 << 20))
	keep := r.message(body[:4000], "keep@x.example.jp")
	r.put(keep)
	var all []*mail.Accepted
	for range 140 { // two value logs and a part of the third
		a := r.message(body, "a@x.example.jp")
		r.put(a)
		all = append(all, a)
	}
	full := r.Usage()
	r.threshold(math.MaxUint64 / 2) // more than any disk has, as others use this one too
	r.lookAtSpace(full.Free)
	if !r.Usage().Full {
		t.Fatal("disk does not count as full")
	}
	for _, a := range all {
		r.settle(a.Deliveries[0])
	}
	logs := func() (n int) {
		entries, err := os.ReadDir(r.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), valueSuffix) {
				n++
			}
		}
		return n
	}
	until(t, 30*time.Second, "dead value logs to go", func() bool { return logs() <= 1 })
	if u := r.Usage(); u.Disk > full.Disk-100<<20 {
		t.Errorf("disk %d MiB, when full %d MiB", u.Disk>>20, full.Disk>>20)
	}
	if r.body(keep.ID) != string(keep.Body) {
		t.Error("the body that waits is another")
	}
	r.reopen()
	if r.Waiting() != 1 || r.body(keep.ID) != string(keep.Body) {
		t.Errorf("after a restart %d waiting", r.Waiting())
	}
}

// TestNothingLeft asks that with not enough for a new table mail is refused and settlements wait, until there is.
func TestNothingLeft(t *testing.T) {
	r := newRig(t)
	a := r.message("x", "a@x.example.jp")
	r.put(a)
	free := r.Usage().Free
	if free == 0 {
		t.Skip("free space is not known here")
	}
	r.space.minFree.Store(2 * free)
	r.space.least.Store(2 * free) // more than there is
	settled := make(chan error, 1)
	r.Settle(delivered(&a.Deliveries[0], r.cfg.Clock.Now()), func(err error) { settled <- err })
	until(t, 5*time.Second, "the store to be short", func() bool { return r.Usage().Full })
	if err := wait(func(done func(error)) { r.Put(r.message("x", "a@x.example.jp"), done) }); err != ErrDiskFull {
		t.Errorf("put: %v", err)
	}
	select {
	case err := <-settled:
		t.Fatalf("settled with nothing left: %v", err)
	default:
	}
	r.threshold(1)
	if err := <-settled; err != nil {
		t.Errorf("settled: %v", err)
	}
	if r.Waiting() != 0 {
		t.Errorf("%d waiting", r.Waiting())
	}
}
