package destination

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ekiden-mta/ekiden/actors/actorstest"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// toA is where the mail of these tests goes.
var toA = mail.Destination{Domain: "a.example"}

// TestOutboxAgainstModel lets arrivals, scans, sessions and commits interleave at will. Whatever the order: nothing is
// handed out twice, nothing is handed out after it was settled, the window stays bounded, and when everything has come
// to rest the outbox and the store are empty.
func TestOutboxAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const window = 8
		q := actorstest.NewQueue(false)
		q.Manual = true
		env := &Env{Queue: q, Suspensions: &Suspensions{}, Rand: func() float64 { return 0.5 }, Counters: &Counters{},
			Budget: &Budget{Limit: 40}, Window: window, Batch: 4, Gates: &gate.Table{},
			Sources: func(string) []netip.Addr { return twoSources }}
		env.Defaults()
		b := NewOutbox(toA, env, func(any) {})
		now := time.Unix(1_800_000_000, 0)
		var seq mail.Seq = 100
		var hand []*protocol.Parcel
		var offers []mail.Job
		type scan struct {
			ds   []mail.Delivery
			next protocol.Cursor
			more bool
			due  time.Time
		}
		var running *scan
		out := map[mail.Seq]bool{}
		joined := map[int]bool{}
		word := gate.Gate{Group: "g"}
		toggle := func() {
			if word.Version++; word.Closed {
				word = word.Resume("", now, now, word.Version)
			} else {
				word = word.Stop(gate.Order{}, now, word.Version)
			}
			env.Gates.Merge(word)
			if word.Closed {
				b.shut()
			} else {
				b.Reopen(true)
			}
		}

		put := func(n int) {
			for range n {
				seq++
				d := mail.Delivery{Seq: seq, Message: mail.MessageID{Lineage: 1, Seq: seq}, Domain: "a.example", Due: now,
					Expires: now.Add(time.Hour), RetryEvery: time.Minute, Priority: []uint8{50, 90}[rapid.IntRange(0, 1).Draw(t, "priority")],
					Group:  []string{"", "g"}[rapid.IntRange(0, 1).Draw(t, "group")],
					Source: []netip.Addr{{}, twoSources[0], twoSources[1], netip.MustParseAddr("192.0.2.9")}[rapid.IntRange(0, 3).Draw(t, "source")]}
				q.Put([]byte("0123456789"), d)
				offers = append(offers, mail.Job{Delivery: d, Body: []byte("0123456789")})
			}
		}
		take := func() bool {
			var p *protocol.Parcel
			for i := 0; i < len(b.shelves) && p == nil; i++ {
				if !joined[i] {
					b.Join(i)
					joined[i] = true
				}
				p, _ = b.Take(now, i, netip.Addr{}, "r")
			}
			if p == nil {
				return false
			}
			s := p.Job.Delivery.Seq
			if out[s] {
				t.Fatalf("delivery %d was handed out twice", s)
			}
			if e, ok := q.Final(s); ok {
				t.Fatalf("delivery %d was handed out after %v", s, e.Kind)
			}
			if word.Closed && p.Job.Delivery.Group == "g" {
				t.Fatalf("delivery %d was handed out, and its group is stopped", s)
			}
			out[s] = true
			hand = append(hand, p)
			return true
		}
		settle := func(r mail.Result) {
			p := hand[0]
			hand = hand[1:]
			s := p.Job.Delivery.Seq
			b.Settle(now, p, mail.Outcome{Result: r, Stage: mail.StageDot}, "r", func(error) { delete(out, s) })
		}
		load := func() {
			l, ok := b.BeginLoad(now)
			if !ok {
				return
			}
			s := &scan{}
			s.ds, s.next, s.more, s.due, _ = q.Scan(toA, l.Cursor, l.Until, l.N)
			running = s
		}
		merge := func() {
			b.Merge(now, running.ds, running.next, running.more, running.due)
			running = nil
		}
		discard := func() { // one step of it, of which a part may be out of date
			if !word.Closed || !b.beginPurge() {
				return
			}
			before := (seq + 1).Time()
			if rapid.Bool().Draw(t, "for good") {
				word.Discard = before
				env.Gates.Merge(word)
			}
			ds, _, _, _, _ := q.Scan(toA, nil, endOfTime, 6)
			if rapid.Bool().Draw(t, "commit meanwhile") {
				q.Commit()
			}
			ps, _ := b.seize(ds, func(d *mail.Delivery) bool { return concerns(word.Key(), d) && d.Accepted().Before(before) })
			b.endPurge()
			for _, p := range ps {
				if s := p.Job.Delivery.Seq; out[s] {
					t.Fatalf("delivery %d is discarded in a session's hands", s)
				}
				b.interrupt(now, p, discarded, nil)
			}
		}
		var v View
		look := func() {
			b.Look(now, &v)
			if v.Low && running == nil {
				load()
			}
			b.Note(Plan{Alarm: v.NextDue})
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 11).Draw(t, "step") {
			case 10:
				toggle()
			case 11:
				discard()
			case 0, 1:
				put(rapid.IntRange(1, 5).Draw(t, "n"))
			case 2, 3:
				if len(offers) > 0 {
					i := rapid.IntRange(0, len(offers)-1).Draw(t, "which") // offers may overtake one another
					b.Push(now, &offers[i])
					offers = append(offers[:i], offers[i+1:]...)
				}
			case 4, 5:
				take()
			case 6:
				if len(hand) > 0 {
					settle([]mail.Result{mail.Delivered, mail.Failed, mail.Deferred}[rapid.IntRange(0, 2).Draw(t, "result")])
				}
			case 7:
				q.Commit()
				now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			case 8:
				if running != nil {
					merge()
				}
				look()
			case 9:
				if rapid.Bool().Draw(t, "restart") {
					b.Recover(0, 0, time.Time{})
				} else if len(hand) > 0 {
					p := hand[0]
					hand = hand[1:]
					delete(out, p.Job.Delivery.Seq)
					b.Return(p)
				}
			}
			pinned := 0
			for _, s := range b.shelves {
				if len(s.waiting) > 2*window+4 {
					t.Fatalf("%d deliveries in a window of %d", len(s.waiting), window)
				}
				if s.source.IsValid() {
					pinned += len(s.waiting)
				}
			}
			if pinned > 2*window+4 || len(b.shelves) > 3 {
				t.Fatalf("%d deliveries wait for their sources in a window of %d, %d shelves", pinned, window, len(b.shelves))
			}
		}
		if word.Closed {
			toggle()
		}
		for i := range offers {
			b.Push(now, &offers[i])
		}
		for round := 0; q.Left("") > 0; round++ { // let it come to rest: everything must go, whatever happened before
			if round > 1000 {
				t.Fatalf("%d deliveries are out of reach: %+v\n%+v\n%+v, now %v", q.Left(""), b.Standing(), b.disk, q.List("a.example"), now)
			}
			if running != nil {
				merge()
			}
			look()
			for take() || len(hand) > 0 {
				settle(mail.Delivered)
			}
			q.Commit()
			now = now.Add(10 * time.Second)
		}
		for _, err := range q.Faults() {
			t.Error(err)
		}
		if u := env.Budget.Used(); u != 0 {
			t.Errorf("%d octets of the budget are still charged", u)
		}
		if s := b.Standing(); s.Flight != 0 || s.InMemory != 0 {
			t.Errorf("something is left behind: %+v", s)
		}
	})
}

var twoSources = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}

// What was greylisted waits for its source in a window that the pool's sources share; what belongs to none of them any
// more waits with the rest.
func TestGreylistedMailSharesAWindow(t *testing.T) {
	const window, many = 16, 300
	q := actorstest.NewQueue(false)
	pool := twoSources
	env := &Env{Queue: q, Suspensions: &Suspensions{}, Rand: func() float64 { return 0.5 }, Counters: &Counters{}, Budget: &Budget{},
		Window: window, Batch: many, Sources: func(string) []netip.Addr { return pool }}
	env.Defaults()
	b := NewOutbox(toA, env, func(any) {})
	now := time.Unix(1_800_000_000, 0)
	from := append(twoSources[:2:2], netip.MustParseAddr("192.0.2.9"), netip.Addr{})
	for i := range many {
		q.Put([]byte("x"), mail.Delivery{Seq: mail.Seq(i + 1), Message: mail.MessageID{Seq: mail.Seq(i + 1)}, Domain: toA.Domain, Due: now,
			Expires: now.Add(time.Hour), Source: from[i%len(from)]})
	}
	b.Recover(many, 0, time.Time{})
	load := func() {
		if l, ok := b.BeginLoad(now); ok {
			ds, next, more, due, err := q.Scan(toA, l.Cursor, l.Until, l.N)
			if err != nil {
				t.Fatal(err)
			}
			b.Merge(now, ds, next, more, due)
		}
	}
	load()
	held := map[netip.Addr]int{}
	for _, s := range b.shelves {
		held[s.source] += len(s.waiting)
	}
	if len(b.shelves) != 3 || held[from[0]] != window || held[from[1]] != window || held[netip.Addr{}] != 2*window {
		t.Errorf("%d shelves hold %v of a window of %d", len(b.shelves), held, window)
	}
	pool = twoSources[:1] // mail of the other goes from anywhere from now on
	b.Sort(nil)
	for _, s := range b.shelves {
		if s.source == from[1] && len(s.waiting) > 0 || s.source == from[0] && len(s.waiting) != window {
			t.Errorf("%d wait for %s, the pool is %v", len(s.waiting), s.source, pool)
		}
	}
	sent := 0
	for v := (View{}); q.Left("") > 0; { // nothing stays out of reach
		before := sent
		for i := range b.shelves {
			for p, _ := b.Take(now, i, netip.Addr{}, "r"); p != nil; p, _ = b.Take(now, i, netip.Addr{}, "r") {
				b.Settle(now, p, mail.Outcome{Result: mail.Delivered}, "r", nil)
				sent++
			}
		}
		if b.Look(now, &v); v.Low {
			load()
		} else if sent == before {
			t.Fatalf("%d of %d sent, %d are left", sent, many, q.Left(""))
		}
	}
}

func TestPriorityOvertakes(t *testing.T) { // R35
	q := actorstest.NewQueue(false)
	env := &Env{Queue: q, Suspensions: &Suspensions{}, Rand: func() float64 { return 0.5 }, Counters: &Counters{}, Budget: &Budget{Limit: 1 << 20}, Window: 16}
	env.Defaults()
	b := NewOutbox(toA, env, func(any) {})
	now := time.Unix(1_800_000_000, 0)
	for i := range 1000 {
		b.Push(now, &mail.Job{Delivery: mail.Delivery{Seq: mail.Seq(i + 1), Domain: "a.example", Due: now, Priority: 10}})
	}
	b.Push(now, &mail.Job{Delivery: mail.Delivery{Seq: 5000, Domain: "a.example", Due: now, Priority: 90}})
	b.Join(0)
	if p, _ := b.Take(now, 0, netip.Addr{}, "r"); p == nil || p.Job.Delivery.Seq != 5000 {
		t.Fatalf("the mail of priority 90 is not next: %+v", p)
	}
}

// A burst stays in memory, whatever the window, as far as the common budget pays for it; what comes after it waits on
// disk until the burst is gone, so that the order stays.
func TestBurstWithinBudgetStaysInMemory(t *testing.T) {
	q := actorstest.NewQueue(false)
	env := &Env{Queue: q, Suspensions: &Suspensions{}, Rand: func() float64 { return 0.5 }, Counters: &Counters{},
		Budget: &Budget{Limit: 100 * (parcelCost + 8)}, Window: 4}
	env.Defaults()
	b := NewOutbox(toA, env, func(any) {})
	now := time.Unix(1_800_000_000, 0)
	for i := range 150 {
		d := mail.Delivery{Seq: mail.Seq(i + 1), Message: mail.MessageID{Seq: mail.Seq(i + 1)}, Domain: "a.example", Due: now}
		q.Put([]byte("12345678"), d)
		b.Push(now, &mail.Job{Delivery: d, Body: []byte("12345678")})
	}
	if s := b.Standing(); s.InMemory != 100 || s.Waiting != 150 {
		t.Errorf("%d of %d in memory, want 100 of 150", s.InMemory, s.Waiting)
	}
	b.Join(0)
	for i := range 100 {
		p, _ := b.Take(now, 0, netip.Addr{}, "r")
		if p == nil || p.Job.Delivery.Seq != mail.Seq(i+1) || p.Job.Body == nil {
			t.Fatalf("parcel %d: %+v", i, p)
		}
		b.Settle(now, p, mail.Outcome{Result: mail.Delivered}, "r", nil)
	}
	if u := env.Budget.Used(); u != 0 {
		t.Errorf("%d octets still charged", u)
	}
}

func TestBudgetKeepsReferencesOnly(t *testing.T) {
	q := actorstest.NewQueue(false)
	env := &Env{Queue: q, Suspensions: &Suspensions{}, Rand: func() float64 { return 0.5 }, Counters: &Counters{}, Budget: &Budget{Limit: parcelCost + 10}}
	env.Defaults()
	b := NewOutbox(toA, env, func(any) {})
	now := time.Unix(1_800_000_000, 0)
	for i := range 3 {
		d := mail.Delivery{Seq: mail.Seq(i + 1), Message: mail.MessageID{Seq: mail.Seq(i + 1)}, Domain: "a.example", Due: now}
		q.Put([]byte("12345678"), d)
		b.Push(now, &mail.Job{Delivery: d, Body: []byte("12345678")})
	}
	if u := env.Budget.Used(); u != parcelCost+8 {
		t.Errorf("%d octets charged, the budget has room for one message of %d", u, parcelCost+8)
	}
	b.Join(0)
	for range 3 {
		p, _ := b.Take(now, 0, netip.Addr{}, "r")
		if err := b.Fetch(p); err != nil || string(p.Job.Body) != "12345678" {
			t.Errorf("body %q, %v", p.Job.Body, err)
		}
		b.Settle(now, p, mail.Outcome{Result: mail.Delivered}, "r", nil)
	}
	if u := env.Budget.Used(); u != 0 {
		t.Errorf("%d octets still charged", u)
	}
}
