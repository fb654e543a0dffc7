package queue

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// reserve makes work that waits for a moment.
func (r *rig) reserve(from mail.Address, due time.Time, to ...mail.Address) *mail.Accepted {
	a := r.message("x", to...)
	for i := range a.Deliveries {
		a.Deliveries[i].From, a.Deliveries[i].Due, a.Deliveries[i].Reserved = from, due, true
	}
	return a
}

// reservations are the rows of the list: sender, seconds from now, count.
func (r *rig) reservations(now time.Time) map[string]int {
	r.t.Helper()
	list, err := r.Reservations(r.t.Context(), now)
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]int{}
	for _, v := range list {
		out[fmt.Sprintf("%s %s %d", v.Tenant, v.From, v.Due.Unix()-now.Unix())] += v.Count
	}
	return out
}

// TestReservations: reserved mail is counted by tenant, sender's domain and moment, from what is put to what ends, is tried
// or falls due; over a restart, also of a store whose records do not say what they are; and by reading the queue where memory
// does not know.
func TestReservations(t *testing.T) {
	r := newRig(t)
	now := r.cfg.Clock.Now().Truncate(time.Second)
	first, second := now.Add(time.Hour), now.Add(2*time.Hour)
	r.put(r.message("x", "plain@example.jp"))
	r.put(r.reserve("a@News.example", first, "u1@example.jp", "u2@example.jp", "u3@other.jp"))
	r.put(r.reserve("b@news.example", first, "u4@example.jp"))
	r.put(r.reserve("a@news.example", second, "u5@example.jp"))
	r.put(r.reserve("a@shop.example", first, "u6@example.jp"))
	want := map[string]int{"shop news.example 3600": 4, "shop news.example 7200": 1, "shop shop.example 3600": 1}
	check := func(when string, at time.Time) {
		t.Helper()
		if got := r.reservations(at); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("put", now)
	r.reopen()
	check("after a restart", now)
	err := r.db.Update(func(txn *badger.Txn) error { // as an older version wrote them
		for _, k := range r.keys(kindDelivery) {
			item, err := txn.Get([]byte(k))
			if err != nil {
				return err
			}
			v, err := item.ValueCopy(nil)
			if err != nil {
				return err
			}
			if err := txn.Set([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.reopen()
	check("of an older version", now)

	byTo := map[mail.Address]mail.Delivery{}
	for _, d := range append(r.scan("example.jp", Cursor{}, far(now), 99), r.scan("other.jp", Cursor{}, far(now), 99)...) {
		byTo[d.To] = d
	}
	r.settle(byTo["u3@other.jp"])
	r.later(byTo["u1@example.jp"], now.Add(time.Minute))
	r.settle(byTo["u6@example.jp"])
	want = map[string]int{"shop news.example 3600": 2, "shop news.example 7200": 1}
	check("ended and tried", now)
	r.reopen()
	check("ended and tried, after a restart", now)
	want = map[string]int{"shop news.example 3600": 1} // reckoned from an hour later
	check("due", first)
	want = map[string]int{"shop news.example 3600": 2, "shop news.example 7200": 1}

	d := byTo["u4@example.jp"]
	at := r.spotOf(&d)
	if err := r.db.Update(func(txn *badger.Txn) error { return txn.Set(appendSpot(nil, &at), []byte("damaged")) }); err != nil {
		t.Fatal(err)
	}
	r.scan("example.jp", Cursor{}, far(now), 99) // meets it
	if err := r.barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	want["shop news.example 3600"] = 1
	check("with a damaged record", now)
}

// TestReservationsBeyondMemory: more reservations than memory counts are counted by reading the queue.
func TestReservationsBeyondMemory(t *testing.T) {
	r := newRig(t)
	now := r.cfg.Clock.Now().Truncate(time.Second)
	for i := range maxBookings - 1 {
		r.bookings.by[booking{"other", "x.example", uint64(i)}] = 1
	}
	for i := range 3 {
		r.put(r.reserve("a@news.example", now.Add(time.Duration(i+1)*time.Hour), "u@example.jp"))
	}
	if n := len(r.bookings.by); n > maxBookings {
		t.Errorf("%d in memory", n)
	}
	if got := r.reservations(now); len(got) != 3 {
		t.Errorf("listed %v", got)
	}
}

// TestScanAt shows what is due at one moment in the order of priority and number, page by page, and neither walks nor
// teaches the index anything wrong about what waits before, behind and in other destinations.
func TestScanAt(t *testing.T) {
	r := newRig(t)
	now := r.cfg.Clock.Now().Truncate(time.Second)
	at := now.Add(time.Hour)
	const backlog = 5_000
	r.bulk("shop", backlog, 50)
	var meant []mail.Seq
	for _, priority := range []uint8{90, 50, 10} {
		for i := range 4 {
			a := r.reserve("a@news.example", at, mail.Address(fmt.Sprintf("p%d-%d@example.jp", priority, i)))
			a.Deliveries[0].Priority = priority
			r.put(a)
			meant = append(meant, a.ID.Seq)
		}
	}
	r.put(r.reserve("a@news.example", at.Add(time.Millisecond), "late@example.jp"))
	r.put(r.reserve("a@news.example", at.Add(-time.Millisecond), "early@example.jp"))
	r.put(r.message("x", "now@other.jp"))

	before := r.steps.Load()
	ds, err := r.DestinationsAt(t.Context(), at)
	if err != nil || len(ds) != 1 || ds[0] != shop("example.jp") {
		t.Fatalf("destinations %v, %v", ds, err)
	}
	var got []mail.Seq
	var c Cursor
	for more := true; more; {
		var page []mail.Delivery
		if page, c, more, err = r.ScanAt(ds[0], c, at, 5); err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			if !d.Due.Equal(at) {
				t.Errorf("%s is due at %s", d.To, d.Due)
			}
			got = append(got, d.Seq)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(meant) {
		t.Errorf("scanned %v, want %v", got, meant)
	}
	if steps := r.steps.Load() - before; steps > 60 {
		t.Errorf("%d steps for %d deliveries beside %d", steps, len(meant), backlog)
	}
	if all := r.scan("example.jp", Cursor{}, far(now), 2*backlog); len(all) != backlog+len(meant)+2 {
		t.Errorf("%d are left to a full scan", len(all))
	}
	if ds, err := r.DestinationsAt(t.Context(), at.Add(time.Hour)); err != nil || len(ds) != 0 {
		t.Errorf("at another moment: %v, %v", ds, err)
	}
}

// BenchmarkReservations lists 1,000 reserved mails for one moment beside 1,000,000 that wait, and finds them to cancel.
func BenchmarkReservations(b *testing.B) {
	r := newRig(b)
	now := r.cfg.Clock.Now().Truncate(time.Second)
	at := now.Add(time.Hour)
	fill := func(n int, due time.Time, reserved bool) {
		for i := 0; i < n; i += 500 {
			to := make([]mail.Address, min(500, n-i))
			for j := range to {
				to[j] = mail.Address(fmt.Sprintf("u%d@d%d.jp", i+j, j%200))
			}
			a := r.reserve("a@news.example", due, to...)
			for j := range a.Deliveries {
				a.Deliveries[j].Reserved = reserved
			}
			a.Events = nil
			r.put(a)
		}
	}
	fill(500_000, now, false)
	fill(500_000, now.Add(2*time.Hour), false)
	fill(1000, at, true)
	began := clock.Wall()
	r.reopen()
	opened := clock.Since(began).Seconds()
	for b.Loop() {
		began := clock.Wall()
		if got := r.reservations(now); got["shop news.example 3600"] != 1000 || len(got) != 1 {
			b.Fatal(got)
		}
		listed := clock.Since(began)
		found := 0
		ds, err := r.DestinationsAt(b.Context(), at)
		if err != nil {
			b.Fatal(err)
		}
		for _, d := range ds {
			page, _, _, err := r.ScanAt(d, Cursor{}, at, 1000)
			if err != nil {
				b.Fatal(err)
			}
			found += len(page)
		}
		if found != 1000 {
			b.Fatalf("found %d", found)
		}
		b.ReportMetric(opened, "open_s")
		b.ReportMetric(float64(listed.Microseconds()), "list_us")
		b.ReportMetric(float64(clock.Since(began).Microseconds()), "find_us")
	}
}

// TestCleaningAtOpen: a store that is opened tells how much cleaning mail each destination has (requirement R63), whether its records
// say so or have to be opened.
func TestCleaningAtOpen(t *testing.T) {
	r := newRig(t)
	due := r.cfg.Clock.Now().Add(time.Hour)
	clean := func(a *mail.Accepted) *mail.Accepted {
		for i := range a.Deliveries {
			a.Deliveries[i].Cleaning = true
		}
		return a
	}
	r.put(r.message("x", "plain@example.jp"))
	r.put(clean(r.message("x", "u1@example.jp", "u2@example.jp", "u3@other.jp")))
	r.put(clean(r.reserve("a@news.example", due, "u4@example.jp")))
	at := func(domain mail.Domain) int {
		a := r.message("x", mail.Address("x@"+string(domain)))
		return r.CleaningAtOpen(a.Deliveries[0].Destination())
	}
	for range 2 {
		r.reopen()
		if a, b, none := at("example.jp"), at("other.jp"), at("none.jp"); a != 3 || b != 1 || none != 0 {
			t.Errorf("%d, %d and %d; want 3, 1 and 0", a, b, none)
		}
	}
}
