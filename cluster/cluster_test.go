package cluster

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// testBox seals with one key that all members of a test have.
type testBox struct{ aead cipher.AEAD }

func newTestBox(t testing.TB) testBox {
	t.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return testBox{aead}
}

func (b testBox) Seal(dst, plain, aad []byte) []byte { return b.aead.Seal(dst, nil, plain, aad) }
func (b testBox) Open(dst, sealed, aad []byte) ([]byte, error) {
	return b.aead.Open(dst, nil, sealed, aad)
}
func (b testBox) Index(purpose string, v []byte) [16]byte {
	h := hmac.New(sha256.New, []byte(purpose))
	h.Write(v)
	return [16]byte(h.Sum(nil))
}

// testLog shows what members say when EKIDEN_CLUSTER_LOG is set.
func testLog(name string) *slog.Logger {
	switch os.Getenv("EKIDEN_CLUSTER_LOG") {
	case "":
		return slog.New(slog.DiscardHandler)
	case "debug":
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("member", name)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("member", name)
}

// house is a cluster in one process, over real connections.
type house struct {
	t       testing.TB
	certs   string
	members []*member
	marks   marks
	cuts    cuts
}

// member is one of its members, which may be stopped and started again.
type member struct {
	h       *house
	name    string
	dir     string
	address string
	role    Role
	boot    clock.Boot
	terms   Terms
	dead    time.Duration

	mu   sync.Mutex
	wire *wire.Wire
	book *ledger.Store
	c    *Cluster
	sick *sickDisk
	up   atomic.Bool

	regained atomic.Int32           // calls of Config.Regain
	regain   atomic.Pointer[func()] // what it does besides
}

// marks answers for standbys.
type marks struct {
	mu sync.Mutex
	of map[string]uint64
}

func (m *marks) set(member string, mark uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[string]uint64{}
	}
	m.of[member] = mark
}

func (m *marks) Best(_ context.Context, members []string, _ mail.Lineage) (best string, high uint64, found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range members {
		if mark, ok := m.of[name]; ok && (!found || mark > high) {
			best, high, found = name, mark, true
		}
	}
	return best, high, found
}

// cuts are the pairs of members that do not hear one another.
type cuts struct {
	mu  sync.Mutex
	off map[[2]string]bool
}

func (c *cuts) between(a, b string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.off[[2]string{a, b}]
}

// newHouse makes certificates for n members and starts none.
func newHouse(t testing.TB, n int) *house {
	t.Helper()
	h := &house{t: t, certs: filepath.Join(t.TempDir(), "certs")}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i+1)
	}
	if err := wire.Init(h.certs, names); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		h.members = append(h.members, &member{h: h, name: name, dir: t.TempDir(), role: RoleNode})
	}
	t.Cleanup(func() {
		for _, m := range h.members {
			m.stop()
		}
	})
	return h
}

// mustFound starts all members and has the first found the cluster with all of them as voters.
func (h *house) mustFound() {
	h.t.Helper()
	var peers []Peer
	for _, m := range h.members {
		m.mustStart()
		peers = append(peers, Peer{m.name, m.address, true})
	}
	if err := h.members[0].c.Bootstrap(peers); err != nil {
		h.t.Fatal(err)
	}
	h.mustLeader()
}

// alive is gossip that knows everything at once.
func (h *house) alive(self string) []Live {
	var all []Live
	for _, m := range h.members {
		if m.up.Load() && !h.cuts.between(self, m.name) {
			all = append(all, Live{m.name, m.address, m.role})
		}
	}
	return all
}

// mustStart opens everything a member has on disk and takes part.
func (m *member) mustStart() {
	m.h.t.Helper()
	if err := m.start(); err != nil {
		m.h.t.Fatalf("start %s: %v", m.name, err)
	}
}

func (m *member) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	log := testLog(m.name)
	address := m.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	cert := func(ext string) string { return filepath.Join(m.h.certs, m.name+ext) }
	w, err := wire.Listen(wire.Config{Name: m.name, Address: address, CA: filepath.Join(m.h.certs, "ca.crt"),
		Cert: cert(".crt"), Key: cert(".key"), Log: log})
	if err != nil {
		return err
	}
	m.address = w.Addr().String()
	w.Refuse(func(p wire.Peer) error {
		if m.h.cuts.between(m.name, p.Name) {
			return fmt.Errorf("cut off")
		}
		return nil
	})
	box := newTestBox(m.h.t)
	book, err := ledger.Open(ledger.Config{Dir: filepath.Join(m.dir, "ledger"), Box: box, Log: log})
	if err != nil {
		return err
	}
	c, err := Open(Config{Name: m.name, Address: m.address, Dir: filepath.Join(m.dir, "raft"), Wire: w, Ledger: book, Box: box,
		Role: m.role, Alive: func() []Live { return m.h.alive(m.name) }, Standbys: &m.h.marks, Terms: m.terms, Boot: &m.boot,
		DeadAfter: m.dead, Regain: m.regains, Log: log, stable: 100 * time.Millisecond,
		wrapDisk: func(d disk) disk { m.sick = &sickDisk{disk: d}; return m.sick }})
	if err != nil {
		return err
	}
	w.Start()
	if err := c.Start(context.Background()); err != nil {
		return err
	}
	m.wire, m.book, m.c = w, book, c
	m.up.Store(true)
	return nil
}

func (m *member) regains(context.Context) {
	m.regained.Add(1)
	if f := m.regain.Load(); f != nil {
		(*f)()
	}
}

// stop ends a member as a shut-down would; its disk stays.
func (m *member) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return
	}
	m.up.Store(false)
	m.sick.heal()
	if err := m.wire.Close(); err != nil {
		m.h.t.Errorf("%s: wire: %v", m.name, err)
	}
	if err := m.c.Stop(); err != nil {
		m.h.t.Errorf("%s: cluster: %v", m.name, err)
	}
	if err := m.book.Close(); err != nil {
		m.h.t.Errorf("%s: ledger: %v", m.name, err)
	}
	m.c = nil
}

// wipe removes what a stopped member has on disk.
func (m *member) wipe() {
	for _, d := range []string{"ledger", "raft"} {
		if err := os.RemoveAll(filepath.Join(m.dir, d)); err != nil {
			m.h.t.Fatal(err)
		}
	}
}

// part cuts one member off from all others, in both directions, or joins it again.
func (h *house) part(m *member, off bool) {
	h.cuts.mu.Lock()
	if h.cuts.off == nil {
		h.cuts.off = map[[2]string]bool{}
	}
	for _, o := range h.members {
		if o != m {
			h.cuts.off[[2]string{m.name, o.name}] = off
			h.cuts.off[[2]string{o.name, m.name}] = off
		}
	}
	h.cuts.mu.Unlock()
	if off {
		for _, o := range h.members {
			if o != m && o.up.Load() {
				m.wire.Cut(o.name)
				o.wire.Cut(m.name)
			}
		}
	}
}

// mustLeader waits until one member leads whom those given (all that are up, where none are) agree on.
func (h *house) mustLeader(among ...*member) *member {
	h.t.Helper()
	var leader *member
	eventually(h.t, 20*time.Second, "a leader", func() bool {
		leader = nil
		name := ""
		for _, m := range h.members {
			if !m.up.Load() || len(among) > 0 && !contains(among, m) {
				continue
			}
			l := m.c.Leader()
			if l == "" || name != "" && l != name {
				return false
			}
			name = l
		}
		for _, m := range h.members {
			if m.name == name && m.up.Load() && m.c.Leads() {
				leader = m
			}
		}
		return leader != nil
	})
	return leader
}

func (h *house) others(m *member) []*member {
	var others []*member
	for _, o := range h.members {
		if o != m {
			others = append(others, o)
		}
	}
	return others
}

func contains(list []*member, m *member) bool {
	for _, x := range list {
		if x == m {
			return true
		}
	}
	return false
}

// eventually polls what has no event of its own, such as raft's idea of who leads.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
}

func (m *member) mustPropose(cmd ledger.Command) ledger.Result {
	m.h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := m.c.Propose(ctx, cmd)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		m.h.t.Fatalf("%s: %v", m.name, err)
	}
	return r
}

func putMeta(name, value string) *ledger.PutMeta {
	return &ledger.PutMeta{Name: name, Base: ledger.Any, Data: []byte(value)}
}

func (m *member) meta(name string) string {
	v, _ := m.book.State().Meta(name)
	return string(v.Data)
}

func randomLineage() mail.Lineage {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return mail.Lineage(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3])) | 1
}

func TestAlone(t *testing.T) {
	dir := t.TempDir()
	box := newTestBox(t)
	open := func() (*Cluster, *ledger.Store, time.Duration) {
		book, err := ledger.Open(ledger.Config{Dir: filepath.Join(dir, "ledger"), Box: box})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c, err := Open(Config{Name: "solo", Dir: filepath.Join(dir, "raft"), Ledger: book, Box: box, Log: testLog("solo")})
		if err == nil {
			err = c.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return c, book, time.Since(began)
	}
	var last uint64
	for round := range 3 {
		c, book, took := open()
		t.Logf("started in %v", took)
		if took > time.Second {
			t.Errorf("start took %v", took)
		}
		if c.Leader() != "solo" || !c.Leads() {
			t.Fatalf("leader is %q", c.Leader())
		}
		if round > 0 {
			if m, _ := book.State().Meta("round"); string(m.Data) != fmt.Sprint(round-1) {
				t.Fatalf("round %d finds %q", round, m.Data)
			}
		}
		r, err := c.Propose(t.Context(), putMeta("round", fmt.Sprint(round)))
		if err != nil || r.Err() != nil || r.Index <= last {
			t.Fatalf("%+v, %v", r, err)
		}
		last = r.Index
		l := c.Lease(ledger.LineageEpoch{Lineage: 7, Epoch: 1})
		if !l.Valid() {
			t.Fatal("a lone member's lease is not valid")
		}
		if contact, lag := c.Staleness(); contact != 0 || lag != 0 {
			t.Fatalf("stale: %v, %v", contact, lag)
		}
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		if l.Valid() {
			t.Fatal("the lease outlived the cluster")
		}
		if err := book.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
