package node

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/replica"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// Queues of the tests: V was n3's and is being taken in by n1, whose own is A. That one's standby is n2, with B.
const (
	queueV mail.Lineage = iota + 1
	queueA
	queueB
	queueA2 // n1's next one
)

// bookOf is what the book says of the queues, and into which they are taken.
type bookOf struct {
	lineages map[mail.Lineage]ledger.Lineage
	goes     map[mail.Lineage]mail.Lineage
}

func (b bookOf) lineage(l mail.Lineage) (ledger.Lineage, bool) { v, ok := b.lineages[l]; return v, ok }
func (b bookOf) into(l mail.Lineage) mail.Lineage              { return b.goes[l] }

// owned is a queue by the book; its full standbys come last.
func owned(l mail.Lineage, phase ledger.Phase, owner string, standbys ...string) ledger.Lineage {
	v := ledger.Lineage{LineageEpoch: ledger.LineageEpoch{Lineage: l, Epoch: 1}, Owner: owner, Phase: phase}
	for _, name := range standbys {
		v.Standbys = append(v.Standbys, ledger.Standby{Node: name, Full: true})
	}
	return v
}

// TestQueueFollows: a queue that is being taken in goes where its part went, and after it; where nothing of it was taken, or
// that part can go nowhere, to whoever has most.
func TestQueueFollows(t *testing.T) {
	vInA := map[mail.Lineage]mail.Lineage{queueV: queueA}
	vInAInB := map[mail.Lineage]mail.Lineage{queueV: queueA, queueA: queueB}
	for _, row := range []struct {
		name     string
		lineages []ledger.Lineage
		goes     map[mail.Lineage]mail.Lineage
		dead     string
		to       string
		later    bool
	}{
		{"nothing was taken", []ledger.Lineage{owned(queueV, ledger.Taken, "n1", "n1", "n3"), owned(queueA, ledger.Serving, "n1", "n2")}, nil, "n1", "", false},
		{"its part is passed on first", []ledger.Lineage{owned(queueV, ledger.Taken, "n1", "n1", "n3"), owned(queueA, ledger.Serving, "n1", "n2")}, vInA, "n1", "", true},
		{"its part has no standby", []ledger.Lineage{owned(queueV, ledger.Taken, "n1", "n1", "n3"), owned(queueA, ledger.Serving, "n1")}, vInA, "n1", "", false},
		{"its part has one that is gone", []ledger.Lineage{owned(queueV, ledger.Taken, "n1", "n1", "n3"), owned(queueA, ledger.Serving, "n1", "n2")}, vInA, "n2", "", false},
		{"its part is being taken in", []ledger.Lineage{owned(queueV, ledger.Taken, "n1", "n1", "n3"), owned(queueA, ledger.Taken, "n2"), owned(queueA2, ledger.Serving, "n1")}, vInA, "", "n2", false},
		{"its part was taken in", []ledger.Lineage{owned(queueV, ledger.Taken, "n1", "n1", "n3"), owned(queueA, ledger.Closed, "n2"), owned(queueB, ledger.Serving, "n2")}, vInAInB, "", "n2", false},
		{"who has both is gone as well", []ledger.Lineage{owned(queueV, ledger.Taken, "n2", "n1"), owned(queueA, ledger.Taken, "n2", "n2"), owned(queueB, ledger.Serving, "n2", "n4")}, vInAInB, "n2", "", true},
		{"and its queue is with a fourth", []ledger.Lineage{owned(queueV, ledger.Taken, "n2", "n1"), owned(queueA, ledger.Taken, "n4"), owned(queueB, ledger.Taken, "n4")}, vInAInB, "n2", "n4", false},
		{"it serves", []ledger.Lineage{owned(queueV, ledger.Serving, "n3", "n1")}, vInA, "n3", "", false},
	} {
		b := bookOf{map[mail.Lineage]ledger.Lineage{}, row.goes}
		for _, l := range row.lineages {
			b.lineages[l.Lineage] = l
		}
		alive := func(name string) bool { return name != row.dead }
		if to, later := heirOf(b.lineages[queueV], b.into, b.lineage, alive); to != row.to || later != row.later {
			t.Errorf("%s: to %q, later %t", row.name, to, later)
		}
	}
}

// TestWhatIsTakenInFirst: the queue that has a part of another, wherever it went meanwhile.
func TestWhatIsTakenInFirst(t *testing.T) {
	a, b := owned(queueA, ledger.Taken, "n2"), owned(queueB, ledger.Serving, "n2")
	closed := a
	closed.Phase = ledger.Closed
	for _, row := range []struct {
		name     string
		lineages []ledger.Lineage
		goes     map[mail.Lineage]mail.Lineage
		want     mail.Lineage
	}{
		{"none", nil, nil, 0},
		{"the one it was taken into", []ledger.Lineage{a}, map[mail.Lineage]mail.Lineage{queueV: queueA}, queueA},
		{"the one that took that in", []ledger.Lineage{closed, b}, map[mail.Lineage]mail.Lineage{queueV: queueA, queueA: queueB}, queueB},
		{"one that nobody knows", nil, map[mail.Lineage]mail.Lineage{queueV: queueA}, 0},
		{"one that ended nowhere", []ledger.Lineage{closed}, map[mail.Lineage]mail.Lineage{queueV: queueA}, 0},
		{"a book that goes round", []ledger.Lineage{closed}, map[mail.Lineage]mail.Lineage{queueV: queueA, queueA: queueA}, 0},
	} {
		book := bookOf{map[mail.Lineage]ledger.Lineage{}, row.goes}
		for _, l := range row.lineages {
			book.lineages[l.Lineage] = l
		}
		if got, ok := wentTo(queueV, book.into, book.lineage); got.Lineage != row.want || ok != (row.want != 0) {
			t.Errorf("%s: %d, %t", row.name, got.Lineage, ok)
		}
	}
}

// TestLacking: a queue is not closed with nothing, or with what is out of date, in hand.
func TestLacking(t *testing.T) {
	type copies = map[string]replica.State
	some := replica.State{Run: 1, High: 10, Full: true}
	for _, row := range []struct {
		name    string
		epoch   uint64
		copies  copies
		removed string
		want    string
	}{
		{"the standby that the book names", 2, copies{"n1": some}, "", ""},
		{"whom an operator named", 2, copies{"n2": some}, "", ""},
		{"it has lost its disk", 2, copies{"n2": {}}, "", "n1"},
		{"it follows, and the standby answers", 3, copies{"n2": {}, "n1": some}, "", ""},
		{"it follows, and the standby is down", 3, copies{"n2": {}}, "", "n1"},
		{"it follows to an old copy", 3, copies{"n2": some}, "", "n1"},
		{"the standby was removed", 3, copies{"n2": some}, "n1", ""},
	} {
		v := owned(queueV, ledger.Taken, "n2", "n1")
		v.Epoch = row.epoch
		if got := lacking(v, row.copies, func(name string) bool { return name == row.removed }); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

// TestNextTry: a queue that finds no room is let go for longer than a lease at once, unless some of it is here.
func TestNextTry(t *testing.T) {
	full := fmt.Errorf("adopt: %w", queue.ErrDiskFull)
	for _, row := range []struct {
		name string
		err  error
		keep bool
		wait time.Duration
		now  time.Duration
		next time.Duration
	}{
		{"at first", errors.New("x"), false, time.Second, time.Second, 2 * time.Second},
		{"at last", errors.New("x"), false, takeAgain, takeAgain, takeAgain},
		{"no room", full, false, time.Second, takeAgain, takeAgain},
		{"no room, and some is here", full, true, time.Second, time.Second, 2 * time.Second},
	} {
		if now, next := nextTry(row.err, row.keep, row.wait); now != row.now || next != row.next {
			t.Errorf("%s: %v, then %v", row.name, now, next)
		}
	}
}

// TestFollows: a queue follows its part to who has that, or will have it, and to nobody else.
func TestFollows(t *testing.T) {
	full, part := ledger.Standby{Node: "n3", Full: true}, ledger.Standby{Node: "n3"}
	for _, row := range []struct {
		name  string
		owner string // of the queue its part lies in
		by    []ledger.Standby
		alive string
		to    string
	}{
		{"the owner lives", "n2", nil, "n2", "n2"},
		{"it has the same owner", "n1", nil, "n2", ""},
		{"the owner is gone, and a standby takes its place", "n2", []ledger.Standby{full}, "n3", "n2"},
		{"the owner is gone, and so is its standby", "n2", []ledger.Standby{full}, "n4", ""},
		{"the owner is gone, and nobody has all of its queue", "n2", []ledger.Standby{part}, "n3", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			v, x := ledger.Lineage{Owner: "n1"}, ledger.Lineage{Owner: row.owner, Standbys: row.by}
			if to := follows(v, x, func(name string) bool { return name == row.alive }); to != row.to {
				t.Errorf("goes to %q, want %q", to, row.to)
			}
		})
	}
}
