package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestUnion(t *testing.T) {
	n := newNetwork()
	b, c := n.mustServe(t, "b", t.TempDir(), 0), n.mustServe(t, "c", t.TempDir(), 0)
	// b is full up to the third frame.
	o := mustOwn(t, n, nil)
	o.SetCandidates([]string{"b"})
	for i := range 10 {
		o.commit(0, set(fmt.Sprint("early", i), "v"))
	}
	o.mustHold(o.commit(0, set("moved", "here"), set("kept", "so")))
	after(t, o.standbys)
	next := o.Status().Next
	_ = o.Close()
	p := mustFillForEver(t, n, "c", next, 1) // c gets the rest and is not filled
	p.mustHold(p.commit(0, del("moved"), set("moved2", "there"), del("early3")))
	_ = p.Close()
	if st := c.store.State(testLineage); st.Full || st.Run == 0 {
		t.Fatalf("state %+v", st)
	}
	want := maps.Clone(o.live)
	delete(want, "moved")
	delete(want, "early3")
	want["moved2"] = "there"
	want["bulk"] = string(make([]byte, fillChunk))

	sources := []Source{b.store.Local(testLineage, 9),
		&Remote{Dialer: n, Member: "c", Cluster: testCluster, Lineage: testLineage, Epoch: 9}}
	for range 2 {
		got := map[string]string{}
		err := Union(t.Context(), sources, func(k, v []byte) error { got[string(k)] = string(v); return nil })
		if err != nil {
			t.Fatal(err)
		}
		mustEqual(t, "union", got, want)
		slices.Reverse(sources)
	}
	if b.store.Epoch(testLineage) != 9 || c.store.Epoch(testLineage) != 9 {
		t.Error("not fenced")
	}
	if err := b.store.Drop(testLineage); err != nil {
		t.Fatal(err)
	}
	if st := b.store.State(testLineage); !reflect.DeepEqual(st, State{Epoch: 9}) {
		t.Errorf("after the drop %+v", st)
	}
}

// What a standby kept of an earlier time does not bring back what a fuller copy saw deleted, whoever is filled when the owner
// dies.
func TestUnionLeavesTheDeadDead(t *testing.T) {
	n := newNetwork()
	b := n.mustServe(t, "b", t.TempDir(), 0)
	n.mustServe(t, "c", t.TempDir(), 0)
	o := mustOwn(t, n, nil)
	o.SetCandidates([]string{"b"})
	o.mustHold(o.commit(0, set("gone", "yesterday"), set("kept", "so")))
	after(t, o.standbys)
	o.SetCandidates([]string{"c"})
	after(t, o.standbys)
	o.mustHold(o.commit(0, del("gone"), set("later", "v")))
	next, want := o.Status().Next, maps.Clone(o.live)
	_ = o.Close()
	sources := []Source{b.store.Local(testLineage, 9),
		&Remote{Dialer: n, Member: "c", Cluster: testCluster, Lineage: testLineage, Epoch: 9}}
	check := func(what string) {
		t.Helper()
		for range 2 {
			got := map[string]string{}
			err := Union(t.Context(), sources, func(k, v []byte) error { got[string(k)] = string(v); return nil })
			if err != nil {
				t.Fatal(err)
			}
			mustEqual(t, what, got, want)
			slices.Reverse(sources)
		}
	}
	// Each owner dies while it fills a standby, from which it had one frame's acknowledgement.
	for i, fill := range []struct{ member, what string }{
		{"b", "the stale one is filled anew"}, {"c", "the full one as well"}, {"b", "the stale one again"},
	} {
		p := mustFillForEver(t, n, fill.member, next, uint64(9+i))
		want["bulk"] = string(make([]byte, fillChunk))
		key := fmt.Sprint("new", i)
		p.mustHold(p.commit(0, set(key, "v")))
		want[key] = "v"
		next = p.Status().Next
		_ = p.Close()
		for j := range sources {
			switch src := sources[j].(type) {
			case local:
				sources[j] = b.store.Local(testLineage, uint64(9+i))
			case *Remote:
				src.Epoch = uint64(9 + i)
			}
		}
		check(fill.what)
	}
	if st := b.store.State(testLineage); len(st.Older) != 2 || st.Older[0].Full || !st.Older[1].Full {
		t.Errorf("b has %+v", st)
	}
}

// A standby whose fills never come to their end keeps a bounded number of generations, and all that they alone know.
func TestGenerationsAreBounded(t *testing.T) {
	n, dir := newNetwork(), t.TempDir()
	b := n.mustServe(t, "b", dir, 0)
	o := mustOwn(t, n, nil)
	o.SetCandidates([]string{"b"})
	o.mustHold(o.commit(0, set("first", "full")))
	after(t, o.standbys)
	next, want := o.Status().Next, map[string]string{"bulk": string(make([]byte, fillChunk)), "first": "full"}
	_ = o.Close()
	for i := range 2 * maxOlder {
		p := mustFillForEver(t, n, "b", next, 1)
		key := fmt.Sprint("key", i)
		p.mustHold(p.commit(0, set(key, "v"), del(fmt.Sprint("key", i-3))))
		want[key] = "v"
		delete(want, fmt.Sprint("key", i-3))
		next = p.Status().Next
		_ = p.Close()
	}
	mustEqual(t, "taken", content(t, b.store), want)
	st := b.store.State(testLineage)
	if len(st.Older) != maxOlder {
		t.Errorf("%d older generations", len(st.Older))
	}
	for i, g := range st.Older { // what another standby has since must not be passed over for it
		if first := i == len(st.Older)-1; g.Full != first || first && g.High >= next-2*maxOlder {
			t.Errorf("generation %d of %d: %+v", i, len(st.Older), g)
		}
	}
	b.stop()
	n.cut("b")
	mustEqual(t, "read again", content(t, n.mustServe(t, "b", dir, 0).store), want)
}

// mustFillForEver begins to fill a standby, and gets no further than one chunk.
func mustFillForEver(t *testing.T, n *network, member string, first, epoch uint64) *owner {
	t.Helper()
	begun := make(chan struct{})
	o := mustOwn(t, n, func(cfg *Config) {
		cfg.First, cfg.Epoch = first, epoch
		cfg.Live = func(ctx context.Context, each func(Op) error) error {
			_ = each(set("bulk", string(make([]byte, fillChunk))))
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	o.SetCandidates([]string{member})
	<-begun
	return o
}

// The first that an owner hears behind the state is about what it sent itself: a sync for the connection before must not
// tell one that is about to fill the standby anew that it is full.
func TestNobodyHearsOfOthersFrames(t *testing.T) {
	n := newNetwork()
	b := n.mustServe(t, "b", t.TempDir(), 0)
	o := mustOwn(t, n, nil)
	o.SetCandidates([]string{"b"})
	o.mustHold(o.commit(0, set("1", "one")))
	after(t, o.standbys)
	_ = o.Close()
	l := b.store.lineage(testLineage)
	here, there := net.Pipe()
	defer here.Close()
	c := &session{conn: there, epoch: 2}
	heard := make(chan kind, 3)
	go func() {
		in := newBlockReader(here, maxAnswer)
		for range cap(heard) {
			blk, err := in.next()
			if err != nil {
				return
			}
			heard <- blk.kind
		}
	}()
	if err := c.attach(l); err != nil {
		t.Fatal(err)
	}
	l.syncOnce()
	c.refuse(2, "enough")
	if state, last := after(t, heard), after(t, heard); state != kindState || last != kindRefused {
		t.Errorf("heard %d, then %d", state, last)
	}
}

// A disk that is full for a while costs a standby its place for that while, and never what it has.
func TestFullDiskPasses(t *testing.T) {
	n := newNetwork()
	b := n.mustServe(t, "b", t.TempDir(), 0)
	o := mustOwn(t, n, func(cfg *Config) { cfg.Patience = time.Second })
	o.SetCandidates([]string{"b"})
	o.mustHold(o.commit(0, set("1", "one")))
	after(t, o.standbys)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Skip("files cannot be bounded here:", err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	limit := was
	limit.Cur = 64 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Skip("files cannot be bounded here:", err)
	}
	exposed, err := o.held(o.commit(0, set("2", strings.Repeat("two", 100<<10))))
	if restored := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); restored != nil {
		t.Fatal(restored)
	}
	if err != nil || !exposed {
		t.Errorf("with a full disk: exposed %v, %v", exposed, err)
	}
	caughtUp := func() bool {
		st := o.Status()
		return slices.ContainsFunc(st.Standbys, func(s Standby) bool { return s.State == "full" && s.Acked == st.Next-1 })
	}
	for limit := time.After(30 * time.Second); !caughtUp(); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Fatalf("never full again: %+v", o.Status())
		}
	}
	mustEqual(t, "b", content(t, b.store), o.live)
}

// What cannot be written to any more can still be read, and is taken over from.
func TestFailedLogIsRead(t *testing.T) {
	n := newNetwork()
	b := n.mustServe(t, "b", t.TempDir(), 0)
	o := mustOwn(t, n, nil)
	o.SetCandidates([]string{"b"})
	o.mustHold(o.commit(0, set("1", "one")))
	_ = o.Close()
	l := b.store.lineage(testLineage)
	l.mu.Lock()
	_ = l.fail(errors.New("input/output error"))
	l.mu.Unlock()
	mustEqual(t, "b", content(t, b.store), o.live)
}
