package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

const (
	testCluster = "test"
	testLineage = mail.Lineage(7)
)

// site is one standby reachable over TCP.
type site struct {
	name  string
	store *Store
	addr  string
	stop  func()
}

// network is the members by name. It is a Dialer.
type network struct {
	mu    sync.Mutex
	sites map[string]*site
	conns map[net.Conn]string
	deaf  map[string]bool // accepts and never answers
}

func newNetwork() *network {
	return &network{sites: map[string]*site{}, conns: map[net.Conn]string{}, deaf: map[string]bool{}}
}

func (n *network) Dial(ctx context.Context, member string) (net.Conn, error) {
	n.mu.Lock()
	s, deaf := n.sites[member], n.deaf[member]
	n.mu.Unlock()
	if deaf {
		c, _ := net.Pipe()
		return c, nil
	}
	if s == nil {
		return nil, fmt.Errorf("%s is down", member)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.addr)
	if err == nil {
		n.mu.Lock()
		n.conns[c] = member
		n.mu.Unlock()
	}
	return c, err
}

// cut breaks every connection to a member.
func (n *network) cut(member string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c, name := range n.conns {
		if name == member {
			_ = c.Close()
			delete(n.conns, c)
		}
	}
}

// mustServe starts a standby in dir.
func (n *network) mustServe(t testing.TB, name, dir string, segment int64) *site {
	t.Helper()
	store, err := Open(StoreConfig{Dir: dir, Cluster: testCluster, SegmentSize: segment, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go store.Serve("owner", c)
		}
	}()
	s := &site{name: name, store: store, addr: ln.Addr().String()}
	s.stop = sync.OnceFunc(func() {
		n.mu.Lock()
		if n.sites[name] == s {
			delete(n.sites, name)
		}
		n.mu.Unlock()
		_ = ln.Close()
		if err := store.Close(); err != nil && !t.Failed() {
			t.Errorf("close %s: %v", name, err)
		}
	})
	n.mu.Lock()
	n.sites[name] = s
	n.mu.Unlock()
	t.Cleanup(s.stop)
	return s
}

func testLog(t testing.TB) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// owner is a store in memory with its shipper.
type owner struct {
	t testing.TB
	*Shipper

	mu       sync.Mutex
	live     map[string]string
	standbys chan []string
	degraded chan bool
	fenced   chan uint64
}

func mustOwn(t testing.TB, n *network, change func(*Config)) *owner {
	t.Helper()
	o := &owner{t: t, live: map[string]string{}, standbys: make(chan []string, 100), degraded: make(chan bool, 100),
		fenced: make(chan uint64, 100)}
	cfg := Config{Cluster: testCluster, Lineage: testLineage, Epoch: 1, Copies: 1, Credit: DefaultCredit, Dialer: n,
		Live: o.each, OnStandbys: func(m []string) { o.standbys <- m }, OnDegraded: func(d bool) { o.degraded <- d },
		Renewed:  func() time.Duration { return 0 },
		OnFenced: func(e uint64) { o.fenced <- e }, Log: testLog(t)}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	o.Shipper = s
	t.Cleanup(func() { _ = s.Close() })
	return o
}

func (o *owner) each(_ context.Context, f func(Op) error) error {
	o.mu.Lock()
	snapshot := maps.Clone(o.live)
	o.mu.Unlock()
	for k, v := range snapshot {
		if err := f(Op{Key: []byte(k), Value: []byte(v)}); err != nil {
			return err
		}
	}
	return nil
}

// commit ships and commits one batch.
func (o *owner) commit(outcomes int, ops ...Op) uint64 {
	n := o.Ship(ops, outcomes)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, op := range ops {
		if op.Delete {
			delete(o.live, string(op.Key))
		} else {
			o.live[string(op.Key)] = string(op.Value)
		}
	}
	return n
}

func set(k, v string) Op { return Op{Key: []byte(k), Value: []byte(v)} }
func del(k string) Op    { return Op{Delete: true, Key: []byte(k)} }

// held waits for frame n.
func (o *owner) held(n uint64) (exposed bool, err error) {
	o.t.Helper()
	ended := make(chan outcome, 1)
	o.WhenHeld(n, func(exposed bool, err error) { ended <- outcome{exposed, err} })
	end := after(o.t, ended)
	return end.exposed, end.err
}

func (o *owner) mustHold(n uint64) {
	o.t.Helper()
	ended := make(chan error, 1)
	o.WhenHeld(n, func(exposed bool, err error) {
		if exposed && err == nil {
			err = errors.New("exposed")
		}
		ended <- err
	})
	if err := after(o.t, ended); err != nil {
		o.t.Fatalf("frame %d: %v", n, err)
	}
}

func after[T any](t testing.TB, c <-chan T) (x T) {
	t.Helper()
	select {
	case x = <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
	return x
}

func content(t testing.TB, s *Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	alone := []Source{s.Local(testLineage, s.Epoch(testLineage))}
	if err := Union(t.Context(), alone, func(k, v []byte) error { out[string(k)] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func mustEqual(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			t.Errorf("%s: %q is %.20q, want %.20q", what, k, g, v)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: %q lives", what, k)
		}
	}
	t.FailNow()
}

func (o *owner) settled(n uint64) error {
	o.t.Helper()
	ended := make(chan error, 1)
	o.WhenSettled(n, func(err error) { ended <- err })
	return after(o.t, ended)
}

// nowhere is a connection whose other end hears nothing.
type nowhere struct{ net.Conn }

func (nowhere) Write(b []byte) (int, error)      { return len(b), nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }
func (nowhere) Close() error                     { return nil }
