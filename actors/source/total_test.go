package source

import (
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// part is a share that a test hands out; it does not end.
type part struct{ units int }

func (p *part) Offer(_ time.Duration, wants int) int { p.units = min(p.units, wants); return p.units }
func (p *part) Fill(_ time.Duration, units int)      { p.units = units }
func (p *part) Units(time.Duration) int              { return p.units }

// divided is a book whose connections of receiver r are shared with other nodes, on a clock that the test moves.
func divided() (b *Book, totals *Totals, now *time.Duration, lacked *int) {
	now, lacked = new(time.Duration), new(int)
	*now = time.Minute
	b = newBook(2)
	totals = b.cfg.Totals
	totals.Divide(func() Share { return &part{} }, func() time.Duration { return *now }, func() { *lacked++ })
	return b, totals, now, lacked
}

// TestShareOfTheCluster: a node opens what it has a share of, says what it wants, and ends what is too much, idle
// connections first (N6).
func TestShareOfTheCluster(t *testing.T) {
	b, totals, now, lacked := divided()
	l := &shaping.Limits{Receiver: "r", Connections: 5, Kind: shaping.Kind{Name: "k", Total: 3}}
	x := &box{name: "a", waiting: 10}
	demand := func(want ...Demand) {
		t.Helper()
		if got := totals.Demands(); !slices.Equal(got, want) {
			t.Fatalf("demands %+v, want %+v", got, want)
		}
	}
	fill := func(units int) (begun []*Session) {
		t.Helper()
		totals.Fill("r k", *now, units)
		return started(b.Step(testStart, protocol.Reshared{}))
	}
	demand()
	if ss := started(b.Step(testStart, askFor(x, 3, l, "k"))); len(ss) != 0 || *lacked != 1 {
		t.Fatalf("without a share %d began, and the lack was told %d times", len(ss), *lacked)
	}
	demand(Demand{"r k", 3, 0, 3})
	ss := fill(3)
	if len(ss) != 3 {
		t.Fatalf("%d of 3 began when there was a share", len(ss))
	}
	*now += totalWants
	demand(Demand{"r k", 3, 3, 3})
	if _, v, _, _ := b.Next(testStart, ss[0], true); v != Busy {
		t.Fatal("the first has no work")
	}
	x.waiting = 0
	for _, s := range ss[1:] {
		if _, v, _, _ := b.Next(testStart, s, true); v == Busy {
			t.Fatal("there is no more work")
		}
	}
	fill(1)
	for i, s := range ss {
		if s.quit.Load() != (i > 0) {
			t.Errorf("session %d: told to end %v", i, s.quit.Load())
		}
	}
	demand(Demand{"r k", 3, 3, 3}) // nobody else may have them yet
	before := *lacked
	b.Step(testStart, protocol.Reported{Session: ss[1].ID})
	if *lacked != before+1 {
		t.Errorf("that one has gone was told %d times", *lacked-before)
	}
	demand(Demand{"r k", 3, 2, 2})
	if fill(1); ss[0].quit.Load() {
		t.Error("the last one, which is its share, was told to end")
	}
	b.Step(testStart, protocol.Reported{Session: ss[2].ID})
	b.Step(testStart, protocol.Reported{Session: ss[0].ID})
	demand(Demand{"r k", 3, 0, 0}) // given back
	demand()
}
