package queue

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ekiden-mta/ekiden/mail"
)

func TestOrder(t *testing.T) {
	r := newRig(t)
	now := r.cfg.Clock.Now()
	for _, m := range []struct {
		name     string
		priority uint8
		due      time.Duration
	}{
		{"normal, first", 50, 0}, {"normal, later", 50, time.Minute}, {"normal, second", 50, 0},
		{"urgent, later", 90, time.Minute}, {"urgent", 90, 0}, {"bulk", 10, 0}, {"not due", 99, time.Hour},
	} {
		a := r.message("x", "taro@example.jp")
		a.Deliveries[0].Priority, a.Deliveries[0].Due, a.Deliveries[0].Group = m.priority, now.Add(m.due), m.name
		r.put(a)
	}
	r.put(r.message("x", "taro@other.example.jp"))
	ds, next, more, nextDue, err := r.Scan(shop("example.jp"), Cursor{}, now.Add(time.Minute), 4)
	if err != nil || !more {
		t.Fatalf("more %v, %v", more, err)
	}
	rest, _, more, nextDue2, err := r.Scan(shop("example.jp"), next, now.Add(time.Minute), 4)
	if err != nil || more {
		t.Fatalf("more %v, %v", more, err)
	}
	var got []string
	for _, d := range append(ds, rest...) {
		got = append(got, d.Group)
	}
	want := []string{"urgent", "urgent, later", "normal, first", "normal, second", "normal, later", "bulk"}
	if !slices.Equal(got, want) {
		t.Errorf("order %q", got)
	}
	hour := now.Add(time.Hour).Truncate(time.Millisecond)
	if !nextDue2.Equal(hour) || !nextDue.Equal(hour) {
		t.Errorf("next due %v and %v, want %v", nextDue, nextDue2, hour)
	}
	moved := r.later(ds[0], now.Add(2*time.Hour))
	if got := r.scan("example.jp", Cursor{}, now, 1); len(got) != 1 || got[0].Group != "normal, first" {
		t.Errorf("after a deferral: %v", got)
	}
	got2 := r.scan("example.jp", Cursor{}, now.Add(3*time.Hour), 99)
	if i := slices.IndexFunc(got2, func(d mail.Delivery) bool { return d.Seq == moved.Seq }); i < 0 ||
		got2[i].Attempts != 1 || !got2[i].Due.Equal(moved.Due.Truncate(time.Millisecond)) {
		t.Errorf("deferred delivery: %+v", got2)
	}
}

// TestScanModel compares scans of any cursor, limit and time with a sorted list, under puts, settlements, deferrals.
func TestScanModel(t *testing.T) {
	r := newRig(t)
	r.index.least = 2 // as few as a model gets to see
	base := r.cfg.Clock.Now().Truncate(time.Millisecond)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		domain := mail.Domain(fmt.Sprintf("d%d.example.jp", round))
		var model []mail.Delivery
		minute := func(name string) time.Time {
			return base.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, name)) * time.Minute)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				a := r.message("x", mail.Address("u@"+string(domain)))
				a.Deliveries[0].Priority = rapid.SampledFrom([]uint8{1, 50, 99}).Draw(rt, "priority")
				a.Deliveries[0].Due = minute("due")
				r.put(a)
				model = append(model, a.Deliveries[0])
			},
			"settle": func(rt *rapid.T) {
				if len(model) == 0 {
					rt.Skip("empty")
				}
				i := rapid.IntRange(0, len(model)-1).Draw(rt, "which")
				if rapid.Bool().Draw(rt, "final") {
					r.settle(model[i])
					model = slices.Delete(model, i, i+1)
				} else {
					model[i] = r.later(model[i], minute("next"))
				}
			},
			"scan": func(rt *rapid.T) {
				slices.SortFunc(model, compareDeliveries)
				until, n := minute("until"), rapid.IntRange(1, 5).Draw(rt, "n")
				var c Cursor
				var from *mail.Delivery
				if len(model) > 0 && rapid.Bool().Draw(rt, "cursor") {
					from = &model[rapid.IntRange(0, len(model)-1).Draw(rt, "from")]
					c = After(from)
				}
				var want []mail.Seq
				wantDue := time.Time{}
				for i := range model {
					m := &model[i]
					if m.Due.After(until) {
						if wantDue.IsZero() || m.Due.Before(wantDue) {
							wantDue = m.Due
						}
					} else if from == nil || compareDeliveries(*m, *from) > 0 {
						want = append(want, m.Seq)
					}
				}
				ds, _, more, due, err := r.Scan(shop(domain), c, until, n)
				if err != nil {
					rt.Fatal(err)
				}
				var got []mail.Seq
				for _, d := range ds {
					got = append(got, d.Seq)
				}
				if !slices.Equal(got, want[:min(n, len(want))]) || more != (len(want) > n) {
					rt.Fatalf("scanned %v more %v, want %v of %v", got, more, n, want)
				}
				if !more && !due.Equal(wantDue) {
					rt.Fatalf("next due %v, want %v", due, wantDue)
				}
			},
		})
	})
}

// A gap noted from a record that went later lies over an older one. What is put into both is met all the same.
func TestScanMeetsWhatIsPutIntoGapsThatOverlap(t *testing.T) {
	r := newRig(t)
	now := r.cfg.Clock.Now()
	last := r.message("x", "taro@example.jp")
	last.Deliveries[0].Due = now.Add(time.Hour)
	r.put(last)
	first, second := r.fill(100, "taro@example.jp"), r.fill(100, "taro@example.jp")
	r.drain(second)
	r.scan("example.jp", Cursor{}, now.Add(time.Minute), 200)
	r.drain(first)
	r.scan("example.jp", Cursor{}, now.Add(time.Minute), 200)
	between := r.message("x", "taro@example.jp")
	between.Deliveries[0].Due = now.Add(30 * time.Minute)
	r.put(between)
	for _, look := range []string{"first", "second"} {
		if got := r.scan("example.jp", Cursor{}, now.Add(31*time.Minute), 9); len(got) != 1 || got[0].Seq != between.Deliveries[0].Seq {
			t.Errorf("%s look: %v", look, got)
		}
	}
}

func compareDeliveries(a, b mail.Delivery) int {
	if a.Priority != b.Priority {
		return int(b.Priority) - int(a.Priority)
	}
	if c := a.Due.Compare(b.Due); c != 0 {
		return c
	}
	return int(a.Seq) - int(b.Seq)
}

// fill puts n messages to one domain and waits for all.
func (r *rig) fill(n int, to mail.Address) []mail.Delivery {
	r.t.Helper()
	errs := make(chan error, n)
	ds := make([]mail.Delivery, n)
	for i := range n {
		a := r.message("0123456789", to)
		ds[i] = a.Deliveries[0]
		r.Put(a, func(err error) { errs <- err })
	}
	for range n {
		if err := <-errs; err != nil {
			r.t.Fatal(err)
		}
	}
	return ds
}

func (r *rig) drain(ds []mail.Delivery) {
	r.t.Helper()
	errs := make(chan error, len(ds))
	for i := range ds {
		r.Settle(delivered(&ds[i], r.cfg.Clock.Now()), func(err error) { errs <- err })
	}
	for range ds {
		if err := <-errs; err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestScanSkipsTheDead(t *testing.T) {
	n := 200_000
	if testing.Short() {
		n = 20_000
	}
	r := newRig(t)
	now := r.cfg.Clock.Now()
	looked := func(name string, want int, limit uint64) {
		t.Helper()
		before := r.steps.Load()
		if got := r.scan("example.jp", Cursor{}, far(now), 10); len(got) != want {
			t.Fatalf("%s: scanned %d deliveries, want %d", name, len(got), want)
		}
		if steps := r.steps.Load() - before; steps > limit {
			t.Errorf("%s: looked at %d records, want at most %d", name, steps, limit)
		} else {
			t.Logf("%s: looked at %d records", name, steps)
		}
	}
	ds := r.fill(n, "taro@example.jp")
	r.drain(ds)
	looked("all gone", 0, 0)
	r.put(r.message("x", "taro@example.jp"))
	looked("one put behind the dead", 1, 2)

	// Two that stay on either side of a field of dead ones: the first look walks it, later ones do not.
	ds = append(r.scan("example.jp", Cursor{}, far(now), 1), r.fill(n/4, "taro@example.jp")...)
	r.drain(ds[1 : len(ds)-1])
	looked("first look between the living", 2, uint64(2*n/4+10))
	looked("second look", 2, 10)
	late := r.message("x", "taro@example.jp")
	late.Deliveries[0].Due = ds[len(ds)/2].Due // into the field
	r.put(late)
	looked("one put into the field", 3, 10)
	r.settle(ds[0])
	looked("head gone", 2, 10)
	looked("head gone, again", 2, 10)
}

func TestDestinations(t *testing.T) {
	r := newRig(t)
	now := r.cfg.Clock.Now().Truncate(time.Millisecond)
	want := map[mail.Domain]int{}
	for i := range 50 {
		domain := mail.Domain(fmt.Sprintf("d%d.example.jp", i%20))
		a := r.message("x", mail.Address("u@"+string(domain)))
		a.Deliveries[0].Due = now.Add(time.Duration(i%20) * time.Minute)
		a.Deliveries[0].Priority = uint8(40 + i%3)
		r.put(a)
		want[domain]++
	}
	gone := r.message("x", "u@gone.example.jp")
	r.put(gone)
	r.settle(gone.Deliveries[0])
	check := func() {
		t.Helper()
		got := map[mail.Domain]int{}
		err := r.Destinations(func(d mail.Destination, waiting int, due time.Time) error {
			got[d.Domain] = waiting
			var i int
			if _, err := fmt.Sscanf(string(d.Domain), "d%d.", &i); err != nil || d.Tenant != "shop" || !due.Equal(now.Add(time.Duration(i)*time.Minute)) {
				t.Errorf("%s is due %v (%v)", d, due, err)
			}
			return nil
		})
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d destinations, want %d: %v", len(got), len(want), err)
		}
		for d, n := range want {
			if got[d] != n {
				t.Errorf("%s: %d waiting, want %d", d, got[d], n)
			}
		}
	}
	check()
	r.reopen()
	check()
	stop := errors.New("enough")
	if err := r.Destinations(func(mail.Destination, int, time.Time) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of the callback: %v", err)
	}
}

func TestRewind(t *testing.T) {
	r := newRig(t)
	r.fill(5, "taro@example.jp")
	until := far(r.cfg.Clock.Now())
	ds := r.scan("example.jp", Cursor{}, until, 9)
	for name, c := range map[string]struct {
		from Cursor
		want int // deliveries met
	}{
		"behind it":        {After(&ds[4]), 3},
		"on it":            {After(&ds[2]), 3},
		"before it":        {After(&ds[0]), 4},
		"at the head":      {Cursor{}, 5},
		"more urgent ones": {After(&mail.Delivery{Seq: 1, Priority: 99}), 5},
	} {
		if got := r.scan("example.jp", Rewind(c.from, &ds[2]), until, 9); len(got) != c.want {
			t.Errorf("cursor %s: %d deliveries, want %d", name, len(got), c.want)
		}
	}
}
