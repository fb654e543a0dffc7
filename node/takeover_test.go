package node_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/storage/queue"
)

// bereft is a cluster that keeps two copies of each queue and has lost a member, with its directory, that had accepted
// mail for an hour from now.
type bereft struct {
	left []*rig
	sent []string // recipients

	mu    sync.Mutex
	tried []string // members that began to take the queue in, in order
}

// newBereft calls do whenever a member reads the queue to take it in, with who did so first.
func newBereft(t *testing.T, sink *receiver, do func(ctx context.Context, read int, name, first string) error) *bereft {
	t.Helper()
	b := &bereft{}
	trio := newTrioOf(t, to(sink), "tenants: [{name: shop, compositions: [{name: main, networks: [127.0.0.0/8]}]}]\n",
		func(text string) string { return strings.Replace(text, "standbys: 1", "standbys: 2", 1) })
	for _, r := range trio {
		adopting := func(ctx context.Context, read int) error {
			b.mu.Lock()
			b.tried = append(b.tried, r.cfg.Node.Name)
			first := b.tried[0]
			b.mu.Unlock()
			return do(ctx, read, r.cfg.Node.Name, first)
		}
		r.adopting.Store(&adopting)
	}
	n1 := trio[0]
	mustBecome(t, "n1 has two copies", func() bool {
		own, n := n1.members()["n1"], 0
		for _, l := range own.Lineages {
			for _, s := range l.Standbys {
				if s.Acknowledging {
					n++
				}
			}
		}
		return n == 2
	})
	c := n1.session()
	for i := range 40 {
		rcpt := fmt.Sprintf("u%d@a.test", i)
		c.mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", n1.now()+3600)), rcpt)
		b.sent = append(b.sent, rcpt)
	}
	n1.stop()
	if err := os.RemoveAll(filepath.Join(n1.dir, "data")); err != nil {
		t.Fatal(err)
	}
	b.left = trio[1:]
	return b
}

// adopters are the members that tried to take the queue in, each once.
func (b *bereft) adopters() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Compact(slices.Clone(b.tried))
}

// mustSendOnce waits until all mail waits at who is left, and lets it go out.
func (b *bereft) mustSendOnce(t *testing.T, sink *receiver) {
	t.Helper()
	if !becomes(60*time.Second, func() bool { return waiting(b.left...) == len(b.sent) }) {
		t.Fatalf("%d of %d wait; %v tried: %+v", waiting(b.left...), len(b.sent), b.adopters(), b.left[0].members())
	}
	for _, r := range b.left {
		r.advance(75 * time.Minute)
	}
	mustBecome(t, "all mail is gone", func() bool { return waiting(b.left...) == 0 })
	for _, rcpt := range b.sent {
		if n := sink.tried(rcpt); n != 1 {
			t.Errorf("%s was sent %d times", rcpt, n)
		}
	}
}

// TestTakeoverThatTakesLongerThanALease: while one standby takes a queue in, the other is not given it, however long that
// takes.
func TestTakeoverThatTakesLongerThanALease(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	begun, free := make(chan struct{}, 1), make(chan struct{})
	b := newBereft(t, sink, func(ctx context.Context, _ int, _, _ string) error {
		select {
		case begun <- struct{}{}:
		default:
		}
		select {
		case <-free:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	<-begun
	// A lease lasts 8 s, and the leader waits for one more (docs/adr/0011).
	if becomes(13*time.Second, func() bool { return len(b.adopters()) > 1 }) {
		t.Errorf("%v took the queue in", b.adopters())
	}
	close(free)
	b.mustSendOnce(t, sink)
	if len(b.adopters()) != 1 {
		t.Errorf("%v took the queue in", b.adopters())
	}
}

// TestTakeoverWithoutRoom: a standby whose disk is full lets the queue go to the other one.
func TestTakeoverWithoutRoom(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	b := newBereft(t, sink, func(_ context.Context, read int, name, first string) error {
		if name == first && read == 2 { // where its own store would say so
			return fmt.Errorf("adopt: %w", queue.ErrDiskFull)
		}
		return nil
	})
	b.mustSendOnce(t, sink)
	if got := b.adopters(); len(got) != 2 {
		t.Errorf("%v took the queue in", got)
	}
}
