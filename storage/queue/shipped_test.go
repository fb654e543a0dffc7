package queue

import "testing"

// TestShipped: the store knows which frame it committed last, over restarts, and numbers never go back.
func TestShipped(t *testing.T) {
	r, f := newShippingRig(t)
	number := func(wanted, want uint64) {
		t.Helper()
		first, err := r.NumberFrames(t.Context(), wanted)
		if err != nil || first != want || r.Shipped() != want-1 {
			t.Fatalf("the run begins with %d, %v, noted %d; want %d", first, err, r.Shipped(), want)
		}
		f.n = first - 1
	}
	knows := func(want uint64) {
		t.Helper()
		if r.Shipped() != want || f.n != want {
			t.Fatalf("noted %d, shipped %d, want %d", r.Shipped(), f.n, want)
		}
	}
	r.put(r.message("before anybody knows the number", "a@x.example.jp"))
	if r.Shipped() != 0 {
		t.Fatalf("noted %d before frames are numbered", r.Shipped())
	}
	number(100, 100)
	a := r.message("one", "a@x.example.jp")
	r.put(a)
	knows(100)
	r.settle(a.Deliveries[0])
	knows(101)
	r.reopen()
	knows(102) // what the counters were written with proves that the settlement was committed
	if last := f.frames[len(f.frames)-1]; len(last) != 0 {
		t.Errorf("the last frame changes %d records", len(last))
	}
	r.reopen()
	knows(102)
	number(50, 104) // the clock was set back; one frame more than noted may have been shipped
	r.reopen()
	if r.Shipped() != 103 {
		t.Errorf("noted %d after a run without frames, want 103", r.Shipped())
	}
}

// TestOutdated: a store that was put back still says that it alone holds what standbys held later.
func TestOutdated(t *testing.T) {
	r, f := newShippingRig(t)
	if _, err := r.NumberFrames(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	f.n = 9
	f.set(false, exposed)
	r.put(r.message("covered later", "a@x.example.jp"))
	covered := f.n
	r.reopen()
	f.n = covered + 10
	r.put(r.message("never covered", "b@x.example.jp"))
	for _, row := range []struct {
		upTo uint64
		want int
	}{{covered - 1, 2}, {covered, 1}, {covered + 10, 1}, {f.n, 0}} {
		if err := r.Outdated(t.Context(), row.upTo); err != nil || r.ExposedCount() != row.want {
			t.Errorf("held once up to %d: %d are exposed, %v, want %d", row.upTo, r.ExposedCount(), err, row.want)
		}
	}
}
