package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// shortTerms keep the proportions of DefaultTerms.
func shortTerms() Terms {
	return Terms{TTL: 2500 * time.Millisecond, Renew: 500 * time.Millisecond, Margin: 250 * time.Millisecond}
}

func (h *house) withTerms(t Terms) *house {
	for _, m := range h.members {
		m.terms = t
	}
	return h
}

// mustOwn registers a lineage for m and waits for its lease. The others hold full copies, the first one the best.
func (h *house) mustOwn(m *member) (*Lease, ledger.LineageEpoch) {
	h.t.Helper()
	of := ledger.LineageEpoch{Lineage: randomLineage(), Epoch: 1}
	m.mustPropose(&ledger.Register{Lineage: of.Lineage, Node: m.name, Address: m.address})
	var standbys []ledger.Standby
	for i, o := range h.others(m) {
		standbys = append(standbys, ledger.Standby{Node: o.name, Full: true})
		h.marks.set(o.name, uint64(100-i))
	}
	m.mustPropose(&ledger.SetStandbys{LineageEpoch: of, Standbys: standbys})
	l := m.c.Lease(of)
	eventually(h.t, 10*time.Second, "a valid lease", l.Valid)
	return l, of
}

func lineageAt(m *member, of ledger.LineageEpoch) ledger.Lineage {
	l, _ := m.book.State().Lineage(of.Lineage)
	return l
}

func TestLeaseIsPassedOnAfterItsOwnerPaused(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3).withTerms(shortTerms())
	h.mustFound()
	leader := h.mustLeader()
	owner := h.others(leader)[0]
	lease, of := h.mustOwn(owner)
	best := h.others(owner)[0]

	// Renewed for longer than one lease: nobody takes it away.
	held := time.Now()
	for time.Since(held) < 2*shortTerms().TTL {
		if !lease.Valid() {
			t.Fatal("the lease of an owner that renews was not valid")
		}
		if l := lineageAt(leader, of); l.Epoch != 1 {
			t.Fatalf("an owner that renews lost its lineage: %+v", l)
		}
		<-time.After(20 * time.Millisecond)
	}

	owner.c.leases.paused.Store(true)
	// Never both: at the moment the ledger names another owner, the old lease is not valid any more.
	overlap := make(chan bool, 1)
	stop := leader.book.Watch(func(ledger.Change) {
		if lineageAt(leader, of).Epoch == 2 {
			select {
			case overlap <- lease.Valid():
			default:
			}
		}
	})
	defer stop()
	began := time.Now()
	if <-overlap {
		t.Error("the lineage was passed on while the old lease was valid")
	}
	took := time.Since(began)
	terms := shortTerms()
	if took < terms.TTL-terms.Renew || took > terms.TTL+terms.Margin+3*time.Second {
		t.Errorf("passed on after %v", took)
	}
	t.Logf("passed on after %v", took)
	if l := lineageAt(leader, of); l.Owner != best.name || l.Phase != ledger.Taken {
		t.Errorf("passed on to %+v, want %s, which has most", l, best.name)
	}

	owner.c.leases.paused.Store(false)
	<-lease.Lost()
	if lease.Valid() {
		t.Error("a lost lease is valid")
	}
	if err := best.c.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := best.c.Lease(lineageAt(best, of).LineageEpoch)
	eventually(t, 5*time.Second, "the new owner's lease", next.Valid)
}

func TestNewLeaderRestartsTimers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3).withTerms(shortTerms())
	h.mustFound()
	old := h.mustLeader()
	owner := h.others(old)[0]
	lease, of := h.mustOwn(owner)
	old.stop()
	leader := h.mustLeader(h.others(old)...)
	eventually(t, 10*time.Second, "renewed at the new leader", lease.Valid)
	if l := lineageAt(leader, of); l.Owner != owner.name || l.Epoch != 1 {
		t.Fatalf("the change of leaders cost the owner its lineage: %+v", l)
	}
}

func TestLeaseStopsWithoutQuorum(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3).withTerms(shortTerms())
	h.mustFound()
	leader := h.mustLeader()
	owner := h.others(leader)[0]
	lease, of := h.mustOwn(owner)
	h.part(owner, true)
	eventually(t, shortTerms().TTL, "the lease of a member cut off to run out", func() bool { return !lease.Valid() })
	eventually(t, 15*time.Second, "the lineage to be passed on", func() bool { return lineageAt(leader, of).Epoch == 2 })
	if lease.Valid() {
		t.Error("the member cut off thinks it may deliver")
	}
	h.part(owner, false)
	<-lease.Lost()
}

func TestLeaseEndsWhileSuspended(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3).withTerms(shortTerms())
	h.mustFound()
	owner := h.members[0]
	lease, _ := h.mustOwn(owner)
	owner.c.leases.paused.Store(true)
	owner.boot.Advance(shortTerms().TTL) // as after a suspension of the machine
	if lease.Valid() {
		t.Error("the lease outlived a suspension")
	}
}

// TestRegainBeforeAnEndedLease: a member that was silent hears what the others decided before its lease holds again, and
// only then.
func TestRegainBeforeAnEndedLease(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3).withTerms(shortTerms())
	h.mustFound()
	owner := h.others(h.mustLeader())[0]
	lease, _ := h.mustOwn(owner)
	first := owner.regained.Load()
	if first == 0 {
		t.Error("nothing was asked before the lease held for the first time")
	}
	<-time.After(3 * shortTerms().Renew)
	if n := owner.regained.Load(); n != first {
		t.Errorf("asked %d times while the lease held", n-first)
	}
	var early atomic.Bool
	look := func() { early.Store(lease.Valid()) }
	owner.regain.Store(&look)
	owner.boot.Advance(shortTerms().TTL) // it slept: the others may not count on its lease any more
	eventually(t, 5*time.Second, "the lease to hold again", lease.Valid)
	if owner.regained.Load() == first {
		t.Error("the lease held again and nothing was asked")
	}
	if early.Load() {
		t.Error("the lease held before the answers were in")
	}
}

// TestLeaseWaitsForTheBook: a member that was cut off has what the others agreed on meanwhile in its book before its lease
// holds again.
func TestLeaseWaitsForTheBook(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3).withTerms(shortTerms())
	h.mustFound()
	leader := h.mustLeader()
	owner := h.others(leader)[0]
	lease, _ := h.mustOwn(owner)
	h.part(owner, true)
	leader.mustPropose(putMeta("suppressed", "yes"))
	owner.boot.Advance(shortTerms().TTL)
	if lease.Valid() {
		t.Fatal("the lease holds in spite of the cut")
	}
	known := make(chan string, 1)
	look := func() {
		select {
		case known <- owner.meta("suppressed"):
		default:
		}
	}
	owner.regain.Store(&look)
	h.part(owner, false)
	if got := <-known; got != "yes" {
		t.Errorf("the lease is about to hold, and the book says %q", got)
	}
	eventually(t, 15*time.Second, "the lease to hold again", lease.Valid)
}

// An import of many large entries must not delay renewals: each of them is answered within one renewal's period.
func TestImportDoesNotDelayLeases(t *testing.T) {
	h := newHouse(t, 3)
	h.mustFound()
	leader := h.mustLeader()
	owner := h.others(leader)[0]
	lease, of := h.mustOwn(owner)
	var add []ledger.Suppression
	for i := range 40_000 {
		s := ledger.Suppression{Reason: "hard bounce", Evidence: strings.Repeat("5.1.1 ", 10)}
		s.Scope, s.Address = ledger.Scope{List: ledger.Blackbox}, fmt.Sprintf("user%d@example.com", i)
		add = append(add, s)
	}
	parts := ledger.Split(ledger.Suppress{Signed: ledger.Signed{At: time.Now()}, Add: add})
	work := make(chan *ledger.Suppress, len(parts))
	for _, p := range parts {
		work <- p
	}
	close(work)
	var wg sync.WaitGroup
	began := time.Now()
	for range 8 { // more than the leader takes at once
		wg.Go(func() {
			for p := range work {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				if _, err := owner.c.Propose(ctx, p); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var slowest time.Duration
	for busy := true; busy; {
		asked := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := owner.c.renewAtLeader(ctx, []ledger.LineageEpoch{of}); err != nil {
			t.Error(err)
		}
		cancel()
		slowest = max(slowest, time.Since(asked))
		if !lease.Valid() {
			t.Fatal("the lease ran out during an import")
		}
		select {
		case <-done:
			busy = false
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Logf("%d addresses in %d entries in %v; slowest renewal %v", len(add), len(parts), time.Since(began), slowest)
	if slowest > DefaultTerms().Renew {
		t.Errorf("a renewal took %v", slowest)
	}
	if n := owner.book.SuppressionCount(); n != uint64(len(add)) {
		t.Errorf("%d of %d suppressions arrived", n, len(add))
	}
}

func BenchmarkLeaseValid(b *testing.B) {
	l := &Lease{boot: &clock.Boot{}, lost: make(chan struct{})}
	l.extend(l.boot.Now() + time.Hour)
	b.Run("granted", func(b *testing.B) {
		for b.Loop() {
			if !l.Valid() {
				b.Fatal("not valid")
			}
		}
	})
	b.Run("alone", func(b *testing.B) {
		l.until.Store(int64(always))
		for b.Loop() {
			if !l.Valid() {
				b.Fatal("not valid")
			}
		}
	})
}

// TestTimersTranscripts runs the scripts in testdata/timers: lines of an event, answered by what the timers want.
//
//	SECONDS seen|led|book|lost LINEAGE/EPOCH/RENEWED[/closed] ...
func TestTimersTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/timers/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			timers := newTimers(Terms{TTL: 10 * time.Second, Renew: 2 * time.Second, Margin: time.Second})
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "  ") {
					continue // an answer
				}
				got.WriteString(line)
				if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
					continue
				}
				for _, want := range mustStep(t, timers, line) {
					fmt.Fprintf(&got, "  take over %d from %s, epoch %d, unless renewed after %d, standbys %v\n",
						want.Lineage, want.owner, want.Epoch, want.renewed, want.standbys)
				}
			}
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(file, []byte(got.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got.String() != string(text) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), text)
			}
		})
	}
}

func mustStep(t *testing.T, timers *timers, line string) []takeover {
	t.Helper()
	words := strings.Fields(line)
	var seconds float64
	if _, err := fmt.Sscan(words[0], &seconds); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	var book []ledger.Lineage
	for _, w := range words[2:] {
		l := ledger.Lineage{Owner: "n1", Phase: ledger.Serving, Standbys: []ledger.Standby{{Node: "n2", Full: true}}}
		if rest, closed := strings.CutSuffix(w, "/closed"); closed {
			l.Phase, w = ledger.Closed, rest
		}
		if _, err := fmt.Sscanf(w, "%d/%d/%d", &l.LineageEpoch.Lineage, &l.Epoch, &l.Renewed); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		book = append(book, l)
	}
	now := time.Duration(seconds * float64(time.Second))
	switch words[1] {
	case "seen":
		return timers.Step(now, evSeen{book})
	case "led":
		return timers.Step(now, evLed{book})
	case "book":
		return timers.Step(now, evBook{book})
	case "lost":
		return timers.Step(now, evLost{})
	}
	t.Fatalf("%q: no such event", line)
	return nil
}
