package source

import (
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// stage has couriers carry endless mail of several kinds at once to one receiver. A message takes a step.
type stage struct {
	t     *testing.T
	book  *Book
	now   time.Time
	all   []*shaping.Limits
	open  []*Session
	begun int
	sent  [][]time.Time // by kind
}

const step = 100 * time.Millisecond

func newStage(t *testing.T, all ...*shaping.Limits) *stage {
	return &stage{t: t, book: newBook(100), now: testStart, all: all, sent: make([][]time.Time, len(all))}
}

// ask has kind i always wait for one more session.
func (x *stage) ask(i int) {
	for _, l := range x.book.order {
		if l := l.named[x.all[i].Kind.Name]; l != nil && l.waiting > 0 {
			return
		}
	}
	a := askFor(nil, 1, x.all[i], "k")
	a.Outbox, a.Deadline = &endless{}, x.now.Add(time.Hour)
	x.take(x.book.Step(x.now, a))
}

func (x *stage) take(es []Effect) {
	ss := started(es)
	x.open, x.begun = append(x.open, ss...), x.begun+len(ss)
}

// run lets time pass while the kinds have mail.
func (x *stage) run(d time.Duration, kinds ...int) {
	for end := x.now.Add(d); x.now.Before(end); x.now = x.now.Add(step) {
		x.take(x.book.Step(x.now, protocol.Ticked{}))
		for _, i := range kinds {
			x.ask(i)
		}
		for _, s := range slices.Clone(x.open) {
			p, v, es := look(x.book, x.now, s)
			x.take(es)
			if i := slices.Index(x.all, s.road.lane.limits); p != nil {
				x.sent[i] = append(x.sent[i], x.now)
			}
			if v == End {
				x.open = remove(x.open, s)
				x.book.Close(x.now, s, nil, nil)
				x.take(x.book.Step(x.now, protocol.Reported{Session: s.ID, Report: protocol.Report{Connected: true, Messages: 1}}))
			}
		}
	}
}

// closest is the shortest time between two messages of a kind.
func (x *stage) closest(i int) time.Duration {
	least := time.Hour
	for n := 1; n < len(x.sent[i]); n++ {
		least = min(least, x.sent[i][n].Sub(x.sent[i][n-1]))
	}
	return least
}

// TestWhoPausesGivesWay: a connection on which nothing may begin for longer than a turn, by what its own kind of mail may, is there
// for who else needs one meanwhile; and its kind goes no faster for that, nor much slower.
func TestWhoPausesGivesWay(t *testing.T) {
	plain := shaping.Limits{Receiver: "r", Connections: 1}
	paced := shaping.Limits{Receiver: "r", Connections: 1, Rate: 2}
	filter, fixed := plain.Filtered("t/f", 1, 4*time.Second, false), plain.Filtered("t/x", 1, 4*time.Second, true)
	cleaning := paced.Cleaning()
	for _, row := range []struct {
		name  string
		plain shaping.Limits
		other shaping.Limits
		every time.Duration
		least [2]int // messages in ten minutes
	}{
		{"a filter's distance", plain, filter, 4 * time.Second, [2]int{5000, 110}},
		{"that of fixed mail", plain, fixed, 4 * time.Second, [2]int{5000, 110}},
		{"a tenth of the pace", paced, cleaning, 4 * time.Second, [2]int{1120, 50}},
	} {
		x := newStage(t, &row.plain, &row.other)
		x.run(10*time.Minute, 0, 1)
		for i, least := range row.least {
			if n := len(x.sent[i]); n < least {
				t.Errorf("%s: %d messages of kind %d, want %d at least", row.name, n, i, least)
			}
		}
		if d := x.closest(1); d < row.every {
			t.Errorf("%s: two messages %s apart", row.name, d)
		}
	}
}

// TestWhoPausesAloneStays: who waits for his own next message keeps the connection while nobody else needs it, and gives it to who
// comes then, at once.
func TestWhoPausesAloneStays(t *testing.T) {
	plain := shaping.Limits{Receiver: "r", Connections: 1}
	filter := plain.Filtered("t/f", 1, 9*time.Second, false)
	x := newStage(t, &plain, &filter)
	x.run(time.Minute, 1)
	if n := len(x.sent[1]); x.begun != 1 || n != 7 {
		t.Fatalf("%d connections, %d messages", x.begun, n)
	}
	x.run(time.Second, 0, 1)
	if len(x.sent[0]) < 8 {
		t.Errorf("%d messages of who comes, in a second of the pause", len(x.sent[0]))
	}
	short := plain.Filtered("t/short", 1, 500*time.Millisecond, false)
	x = newStage(t, &plain, &short)
	x.run(time.Minute, 0, 1)
	if x.begun > 70 {
		t.Errorf("%d connections in a minute for pauses shorter than a turn", x.begun)
	}
}

// TestSlowConnectionsKeepTheirPlaces: a filter's connections that end early, for whatever reason, do not have their successors
// begin before the next message was due.
func TestSlowConnectionsKeepTheirPlaces(t *testing.T) {
	plain := shaping.Limits{Receiver: "r", Connections: 10}
	filter := plain.Filtered("t/f", 2, 2*time.Second, false)
	x := newStage(t, &plain, &filter)
	for range 600 {
		x.run(step, 1)
		for _, s := range slices.Clone(x.open) { // the receiver closes after each message
			x.open = remove(x.open, s)
			x.book.Close(x.now, s, nil, nil)
			x.take(x.book.Step(x.now, protocol.Reported{Session: s.ID, Report: protocol.Report{Connected: true, Messages: 1}}))
		}
	}
	if n := len(x.sent[1]); n < 50 || n > 62 {
		t.Errorf("%d messages in a minute of two connections at two seconds", n)
	}
}

// TestPaceNeedsNoMoreConnections: where the pace of a receiver holds mail back, a kind of mail with work opens no connection that
// the other kinds would have to ask back, and one that has nothing to do for a moment keeps its own and no allowance.
func TestPaceNeedsNoMoreConnections(t *testing.T) {
	plain := shaping.Limits{Receiver: "r", Connections: 4, Rate: 2}
	filter, late := plain.Filtered("t/f", 1, 4*time.Second, true), plain.Filtered("t/late", 1, 0, false)
	x := newStage(t, &plain, &filter, &late)
	x.run(time.Minute, 0, 1)
	if x.begun > 5 {
		t.Errorf("%d connections in a minute at two messages a second", x.begun)
	}
	some := &box{name: "late", waiting: 1}
	a := askFor(some, 1, &late, "k")
	a.Deadline = x.now.Add(time.Hour)
	x.take(x.book.Step(x.now, a))
	x.run(10*time.Second, 0, 1)
	if some.waiting > 0 {
		t.Error("who comes later waits for a connection while the others have more than they need")
	}
	before := len(x.sent[0]) + len(x.sent[1])
	x.run(time.Minute, 0, 1)
	if n := len(x.sent[0]) + len(x.sent[1]) - before; n < 115 {
		t.Errorf("%d messages in a minute at two a second beside a connection without work", n)
	}
}

// TestOtherHostsDoNotWaitForNothing: what waits for other hosts of a receiver, where the last connections are left to other kinds
// of mail because the pace lets nobody gain by one more, has an idle connection of its own kind end at once, and looks again
// while none is: nobody tells when the pace holds nothing back any more.
func TestOtherHostsDoNotWaitForNothing(t *testing.T) {
	plain := shaping.Limits{Receiver: "r", Connections: 2, Rate: 2}
	filter := plain.Filtered("t/f", 1, 0, true)
	for _, row := range []struct {
		name string
		idle bool // the connection to the first hosts is, else it is in the middle of a long message
		most time.Duration
	}{
		{"an idle connection", true, time.Second}, // for the next message that the pace leaves
		{"one at work", false, 31 * time.Second},
	} {
		b, now := newBook(100), testStart
		f := started(b.Step(now, askFor(&box{name: "f"}, 1, &filter, "k")))[0]
		b.Close(now, f, nil, nil)
		b.Step(now, protocol.Reported{Session: f.ID, Report: protocol.Report{Connected: true}})
		first := &box{name: "first", waiting: 100}
		s := started(b.Step(now, askFor(first, 1, &plain, "k")))[0]
		v, at := Busy, now
		for v == Busy { // until the pace holds it back
			_, v, at, _ = b.Next(now, s, true)
		}
		now = at
		if _, v, _, _ = b.Next(now, s, true); v != Busy {
			t.Fatalf("%s: verdict %d at its moment", row.name, v)
		}
		if row.idle {
			first.waiting = 0
			if _, v, _, _ = b.Next(now, s, true); v != Dry {
				t.Fatalf("%s: verdict %d, want dry", row.name, v)
			}
		}
		a := askFor(&box{name: "other", waiting: 1}, 1, &plain, "other hosts")
		a.Deadline = now.Add(time.Hour)
		asked, es := now, b.Step(now, a)
		for len(started(es)) == 0 {
			woken := slices.ContainsFunc(es, func(e Effect) bool { return e.Kind == EffectWake && e.Session == s })
			i := slices.IndexFunc(es, func(e Effect) bool { return e.Kind == EffectAlarm })
			switch {
			case woken:
				if _, v, _, _ = b.Next(now, s, true); v != End {
					t.Fatalf("%s: verdict %d, want the end", row.name, v)
				}
				b.Close(now, s, nil, nil)
				es = b.Step(now, protocol.Reported{Session: s.ID, Report: protocol.Report{Connected: true}})
			case i >= 0:
				now = es[i].At
				es = b.Step(now, protocol.Ticked{})
			default:
				t.Fatalf("%s: nobody wakes who waits, %s after it asked", row.name, now.Sub(asked))
			}
		}
		if waited := now.Sub(asked); waited > row.most {
			t.Errorf("%s: waited %s, want %s at most", row.name, waited, row.most)
		}
	}
}
