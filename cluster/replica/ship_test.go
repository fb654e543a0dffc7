package replica

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ekiden-mta/ekiden/mail"
)

func TestShipToOneStandby(t *testing.T) {
	n := newNetwork()
	b := n.mustServe(t, "b", t.TempDir(), 0)
	o := mustOwn(t, n, nil)
	o.live["old"] = "before"
	o.SetCandidates([]string{"b"})
	o.mustHold(o.commit(0, set("1", "one"), set("2", "two")))
	o.mustHold(o.commit(1, del("1"), set("3", "three")))
	if got := after(t, o.standbys); len(got) != 1 || got[0] != "b" {
		t.Errorf("standbys %v", got)
	}
	mustEqual(t, "standby", content(t, b.store), o.live)
	st := b.store.State(testLineage)
	if !st.Full || st.Damaged || st.Epoch != 1 || st.High != o.Status().Next-1 {
		t.Errorf("state %+v", st)
	}
}

// Mail is acknowledged on the strength of a copy that whoever looks for the next owner finds, and of no other.
func TestWhoIsNotNamedDoesNotCount(t *testing.T) {
	n := newNetwork()
	n.mustServe(t, "b", t.TempDir(), 0)
	o := mustOwn(t, n, func(cfg *Config) { cfg.ByBook, cfg.Patience = true, time.Minute })
	o.SetCandidates([]string{"b"})
	f, ended := o.commit(0, set("1", "one")), make(chan bool, 1)
	o.WhenHeld(f, func(exposed bool, err error) { ended <- exposed || err != nil })
	if got := after(t, o.standbys); !slices.Equal(got, []string{"b"}) {
		t.Fatalf("standbys %v", got)
	}
	for o.Status().Standbys[0].Acked < f {
		<-time.After(time.Millisecond)
	}
	if st := o.Status(); st.Held >= f || len(ended) > 0 || st.Standbys[0].State != "full" {
		t.Fatalf("it counts though nobody would look there: %+v", st)
	}
	o.SetNamed([]string{"b"})
	if after(t, ended) {
		t.Error("exposed, or an error")
	}
	o.mustHold(o.commit(0, set("2", "two")))
}

// What was acknowledged is on the disk of the standby, whatever happens to its process.
func TestStandbyGoesAway(t *testing.T) {
	n := newNetwork()
	b, c := n.mustServe(t, "b", t.TempDir(), 0), n.mustServe(t, "c", t.TempDir(), 0)
	o := mustOwn(t, n, func(cfg *Config) { cfg.Patience = 500 * time.Millisecond })
	o.SetCandidates([]string{"b", "c"})
	o.mustHold(o.commit(0, set("1", "one")))
	if got := after(t, o.standbys); !slices.Equal(got, []string{"b"}) {
		t.Fatalf("standbys %v", got)
	}
	b.stop()
	n.cut("b")
	o.mustHold(o.commit(0, set("2", "two")))
	for got := []string{}; !slices.Equal(got, []string{"c"}); {
		got = after(t, o.standbys)
	}
	mustEqual(t, "next standby", content(t, c.store), o.live)
}

// A standby that takes bytes and says nothing is given up after Patience.
func TestStandbyHangs(t *testing.T) {
	n := newNetwork()
	c := n.mustServe(t, "c", t.TempDir(), 0)
	n.deaf["b"] = true
	o := mustOwn(t, n, func(cfg *Config) { cfg.Patience = 200 * time.Millisecond })
	o.SetCandidates([]string{"b", "c"})
	o.mustHold(o.commit(0, set("1", "one")))
	mustEqual(t, "standby", content(t, c.store), o.live)
}

func TestNobodyStandsBy(t *testing.T) {
	for name, strict := range map[string]bool{"degrade": false, "strict": true} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork()
			o := mustOwn(t, n, func(cfg *Config) { cfg.Strict, cfg.Patience, cfg.Credit = strict, 100*time.Millisecond, 2 })
			o.SetCandidates([]string{"b"})
			f := o.commit(2, set("1", "one"))
			exposed, err := o.held(f)
			if strict && !errors.Is(err, ErrShort) || !strict && (err != nil || !exposed) {
				t.Errorf("held: exposed %v, %v", exposed, err)
			}
			if err := o.settled(f); err != nil {
				t.Errorf("settled within the credit: %v", err)
			}
			if !after(t, o.degraded) || !o.Status().Short {
				t.Error("nobody was told")
			}
			beyond := make(chan error, 1)
			o.WhenSettled(o.commit(1, del("1")), func(err error) { beyond <- err })
			if !strict {
				if err := after(t, beyond); err != nil {
					t.Errorf("settled beyond the credit: %v", err)
				}
			} else if _, err := o.held(o.commit(0, set("2", "two"))); !errors.Is(err, ErrShort) || len(beyond) != 0 {
				t.Fatalf("a later frame: %v; settled beyond the credit: %d", err, len(beyond))
			}
			b := n.mustServe(t, "b", t.TempDir(), 0)
			if after(t, o.degraded) {
				t.Error("still degraded")
			}
			if strict { // no frame comes before outcomes are settled
				if err := after(t, beyond); err != nil {
					t.Errorf("settled with a standby again: %v", err)
				}
			}
			o.mustHold(o.commit(0, set("3", "three")))
			after(t, o.standbys) // filled
			mustEqual(t, "standby", content(t, b.store), o.live)
			if st := o.Status(); st.Unacked != 0 || !strict && st.Exposed != 1 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// Outcomes settle at once while there is credit, and no sooner than acknowledged where there is none.
func TestCredit(t *testing.T) {
	n := newNetwork()
	n.deaf["b"] = true
	o := mustOwn(t, n, func(cfg *Config) { cfg.Credit, cfg.Patience = 3, time.Minute })
	o.SetCandidates([]string{"b"})
	ended := make(chan int, 10)
	for i := range 5 {
		f := o.commit(1, set(fmt.Sprint(i), "x"))
		o.WhenSettled(f, func(error) { ended <- i })
	}
	for want := range 3 {
		if got := after(t, ended); got != want {
			t.Fatalf("%d settled, want %d", got, want)
		}
	}
	if len(ended) != 0 || o.Status().Unacked != 5 {
		t.Fatalf("%d more settled without credit; %+v", len(ended), o.Status())
	}
	n.mustServe(t, "c", t.TempDir(), 0)
	o.SetCandidates([]string{"c"})
	for want := 3; want < 5; want++ {
		if got := after(t, ended); got != want {
			t.Fatalf("%d settled, want %d", got, want)
		}
	}
}

// An owner that may be the one who is cut off keeps to its credit, until its lease was renewed.
func TestCreditWhileCutOff(t *testing.T) {
	var lease atomic.Int64 // how long ago it was renewed
	lease.Store(int64(time.Hour))
	n := newNetwork()
	o := mustOwn(t, n, func(cfg *Config) {
		cfg.Credit, cfg.Patience = 2, 20*time.Millisecond
		cfg.Renewed = func() time.Duration { return time.Duration(lease.Load()) }
	})
	o.SetCandidates([]string{"b"})
	if exposed, err := o.held(o.commit(0, set("1", "one"))); err != nil || !exposed {
		t.Fatalf("mail is not taken without standbys: exposed %v, %v", exposed, err)
	}
	if !after(t, o.degraded) {
		t.Fatal("not degraded")
	}
	if err := o.settled(o.commit(2, del("1"))); err != nil {
		t.Fatal("settled within the credit:", err)
	}
	ended := make(chan error, 1)
	o.WhenSettled(o.commit(1, del("2")), func(err error) { ended <- err })
	if _, err := o.held(o.commit(0, set("3", "three"))); err != nil { // a later frame, decided
		t.Fatal(err)
	}
	if len(ended) != 0 || o.Status().Unacked != 3 {
		t.Fatalf("settled beyond the credit while it may be cut off: %+v", o.Status())
	}
	lease.Store(0)
	if err := after(t, ended); err != nil {
		t.Error(err)
	}
}

// After a broken connection the standby goes on where it was: nothing is filled again.
func TestResume(t *testing.T) {
	n := newNetwork()
	b := n.mustServe(t, "b", t.TempDir(), 0)
	o := mustOwn(t, n, nil)
	o.SetCandidates([]string{"b"})
	for i := range 200 {
		f := o.commit(0, set(fmt.Sprint(i), "x"), del(fmt.Sprint(i-10)))
		if i%20 == 19 {
			n.cut("b")
		}
		o.mustHold(f)
	}
	mustEqual(t, "standby", content(t, b.store), o.live)
	l := b.store.lineage(testLineage)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun != 1 || !l.known.full {
		t.Errorf("filled again: generation of segment %d, %+v", l.begun, l.known)
	}
}

func TestFence(t *testing.T) {
	n := newNetwork()
	b := n.mustServe(t, "b", t.TempDir(), 0)
	o := mustOwn(t, n, nil)
	o.SetCandidates([]string{"b"})
	o.mustHold(o.commit(0, set("1", "one")))
	if err := b.store.Fence(testLineage, 2); err != nil {
		t.Fatal(err)
	}
	if e := after(t, o.fenced); e != 2 {
		t.Errorf("fenced at %d", e)
	}
	high := b.store.HighWater(testLineage)
	f := o.commit(0, set("2", "two"))
	if _, err := o.held(f); !errors.Is(err, ErrFenced) {
		t.Errorf("held: %v", err)
	}
	if err := o.settled(f); !errors.Is(err, ErrFenced) {
		t.Errorf("settled: %v", err)
	}
	again := mustOwn(t, n, nil)
	again.SetCandidates([]string{"b"})
	after(t, again.fenced)
	if got := b.store.HighWater(testLineage); got != high || b.store.Epoch(testLineage) != 2 {
		t.Errorf("high water %d after %d, epoch %d", got, high, b.store.Epoch(testLineage))
	}
	if err := b.store.Fence(testLineage, 1); err == nil {
		t.Error("the fence went down")
	}
	mustEqual(t, "standby", content(t, b.store), map[string]string{"1": "one"})
	if len(o.fenced) != 0 {
		t.Error("told twice")
	}
	next := mustOwn(t, n, func(cfg *Config) { cfg.Epoch = 3 })
	next.SetCandidates([]string{"b"})
	next.mustHold(next.commit(0, set("3", "three")))
	if b.store.Epoch(testLineage) != 3 {
		t.Error("a higher epoch raises the fence")
	}
}

// Two copies are held when the slower of two standbys has them.
func TestTwoCopies(t *testing.T) {
	n := newNetwork()
	b, c := n.mustServe(t, "b", t.TempDir(), 0), n.mustServe(t, "c", t.TempDir(), 0)
	o := mustOwn(t, n, func(cfg *Config) { cfg.Copies = 2 })
	o.SetCandidates([]string{"b", "c"})
	for i := range 50 {
		o.mustHold(o.commit(0, set(fmt.Sprint(i), "x")))
	}
	mustEqual(t, "b", content(t, b.store), o.live)
	mustEqual(t, "c", content(t, c.store), o.live)
}

// Every wait ends once and in order, whatever the network does.
func TestWaitsEndInOrder(t *testing.T) {
	n := newNetwork()
	n.mustServe(t, "b", t.TempDir(), 0)
	o := mustOwn(t, n, func(cfg *Config) { cfg.Credit = 0 })
	o.SetCandidates([]string{"b"})
	const frames = 2000
	ended := make(chan int, 2*frames)
	last := -1
	for i := range frames {
		f := o.commit(1, set(fmt.Sprint(i%100), "x"))
		o.WhenHeld(f, func(bool, error) { ended <- i })
		o.WhenSettled(f, func(error) {})
		if i%500 == 250 {
			n.cut("b")
		}
	}
	for range frames {
		i := after(t, ended)
		if i != last+1 {
			t.Fatalf("%d after %d", i, last)
		}
		last = i
	}
	if len(ended) > 0 {
		t.Error("a wait ended twice")
	}
}

// A full window holds Ship up; a standby that hangs is given up, and Ship goes on.
func TestWindowIsBounded(t *testing.T) {
	n := newNetwork()
	n.deaf["b"] = true
	o := mustOwn(t, n, func(cfg *Config) { cfg.Window, cfg.Patience = 10<<10, 200*time.Millisecond })
	o.SetCandidates([]string{"b"})
	for i := range 100 {
		o.commit(0, set(fmt.Sprint(i), string(make([]byte, 1000))))
		if w := o.Status().Window; w > 10<<10 {
			t.Fatalf("%d octets in the window", w)
		}
	}
	if !after(t, o.degraded) {
		t.Error("not degraded")
	}
}

func TestStoreRefuses(t *testing.T) {
	n := newNetwork()
	b := n.mustServe(t, "b", t.TempDir(), 0)
	b.store.cfg.Allow = func(string, mail.Lineage, uint64) error { return errors.New("no") }
	o := mustOwn(t, n, func(cfg *Config) { cfg.Patience = 100 * time.Millisecond })
	o.SetCandidates([]string{"b"})
	if exposed, err := o.held(o.commit(0, set("1", "one"))); !exposed || err != nil {
		t.Errorf("exposed %v, %v", exposed, err)
	}
	other := mustOwn(t, n, func(cfg *Config) { cfg.Cluster, cfg.Patience = "other", 100*time.Millisecond })
	other.SetCandidates([]string{"b"})
	if exposed, err := other.held(other.commit(0, set("1", "one"))); !exposed || err != nil {
		t.Errorf("of another cluster: exposed %v, %v", exposed, err)
	}
	if len(b.store.Lineages()) != 0 {
		t.Errorf("lineages %v", b.store.Lineages())
	}
}

// Whatever traffic flows while standbys are filled, cut off, killed and changed: a full standby has what the owner has.
func TestShippingModel(t *testing.T) {
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		n := newNetwork()
		names := []string{"b", "c"}
		sites := map[string]*site{}
		serve := func(name string) {
			sites[name] = n.mustServe(t, name, filepath.Join(root, fmt.Sprint(runs, name)), 4<<10)
		}
		for _, name := range names {
			serve(name)
		}
		o := mustOwn(t, n, func(cfg *Config) {
			cfg.Window, cfg.Patience = 8<<10, 5*time.Second
		})
		defer func() {
			_ = o.Close()
			for _, s := range sites {
				s.stop()
			}
		}()
		for i := range rapid.IntRange(0, 300).Draw(rt, "backlog") {
			o.live[fmt.Sprint("old", i)] = strings.Repeat("v", 2000)
		}
		o.SetCandidates(names)
		f := uint64(0)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			name := rapid.SampledFrom(names).Draw(rt, "member")
			switch rapid.IntRange(0, 19).Draw(rt, "step") {
			case 0:
				n.cut(name)
			case 1:
				sites[name].stop()
				n.cut(name)
				serve(name)
			case 2:
				o.SetCandidates([]string{name})
			case 3:
				o.SetCandidates(names)
			default:
				var list []Op
				for range rapid.IntRange(1, 8).Draw(rt, "ops") {
					k := fmt.Sprint("old", rapid.IntRange(0, 320).Draw(rt, "key"))
					if rapid.IntRange(0, 2).Draw(rt, "what") > 0 {
						list = append(list, del(k))
					} else {
						list = append(list, set(k, fmt.Sprint(len(list), f)))
					}
				}
				f = o.commit(0, list...)
			}
		}
		f = o.commit(0, set("last", "one"))
		if _, err := o.held(f); err != nil {
			rt.Fatal(err)
		}
		limit := time.After(30 * time.Second)
		for {
			for _, s := range o.Status().Standbys {
				if s.State == "full" && s.Acked == f {
					mustEqual(t, s.Member, content(t, sites[s.Member].store), o.live)
					return
				}
			}
			select {
			case <-o.standbys:
			case <-time.After(10 * time.Millisecond): // acknowledged after it was full
			case <-limit:
				rt.Fatalf("nobody is full: %+v", o.Status())
			}
		}
	})
}
