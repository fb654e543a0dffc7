package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/cluster/wire/wiretest"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// quick is memberlist's timing for tests that wait for a death: about a second instead of seven.
func quick(c *memberlist.Config) {
	c.ProbeInterval, c.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
	c.GossipInterval = 50 * time.Millisecond
	c.PushPullInterval = time.Second
}

// peer is a member under test with what it was told.
type peer struct {
	*Gossip
	wire      *wire.Wire
	changed   chan struct{}
	messages  chan string
	conflicts chan Conflict
}

// mustStart starts a member; change may alter its configuration.
func mustStart(t *testing.T, w *wire.Wire, join []string, change func(*Config)) *peer {
	t.Helper()
	p := &peer{wire: w, changed: make(chan struct{}, 1), messages: make(chan string, 100), conflicts: make(chan Conflict, 100)}
	cfg := Config{Name: w.Name(), Wire: w, Join: join, Secret: [32]byte{1, 2, 3}, Label: w.ClusterID(),
		Meta:     func() []byte { return []byte("meta of " + w.Name()) },
		OnChange: func() { nudge(p.changed) }, OnMessage: func(m []byte) { p.messages <- string(m) },
		OnConflict: func(c Conflict) {
			select {
			case p.conflicts <- c:
			default:
			}
		}}
	if change != nil {
		change(&cfg)
	}
	g, err := start(cfg, quick)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	p.Gossip = g
	return p
}

// names lists who seems to be here.
func (p *peer) names() string {
	var names []string
	for _, m := range p.Alive() {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

// mustSee waits until a member sees exactly these.
func (p *peer) mustSee(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(patience)
	for p.names() != want {
		select {
		case <-p.changed:
		case <-deadline:
			t.Fatalf("%s sees %q, want %q", p.cfg.Name, p.names(), want)
		}
	}
}

func mustHear(t *testing.T, p *peer, want string) {
	t.Helper()
	select {
	case got := <-p.messages:
		if got != want {
			t.Fatalf("%s hears %q, want %q", p.cfg.Name, got, want)
		}
	case <-time.After(patience):
		t.Fatalf("%s hears nothing, want %q", p.cfg.Name, want)
	}
}

// mustTrio starts three members that know the first one's address only.
func mustTrio(t *testing.T) []*peer {
	t.Helper()
	wires := wiretest.Members(t, "n1", "n2", "n3")
	var trio []*peer
	for _, w := range wires {
		trio = append(trio, mustStart(t, w, []string{wires[0].Addr().String()}, nil))
	}
	for _, p := range trio {
		p.mustSee(t, "n1 n2 n3")
	}
	return trio
}

// Three find one another through one address; messages reach all but the sender, once; one dies and is missed, comes
// back and is found, leaves and is gone.
func TestThreeMembers(t *testing.T) {
	t.Parallel()
	trio := mustTrio(t)
	for _, m := range trio[2].Alive() {
		if m.Name == "n1" && (m.Addr != trio[0].wire.Addr() || string(m.Meta) != "meta of n1") {
			t.Fatalf("n3 knows of n1: %v %q", m.Addr, m.Meta)
		}
	}

	long := strings.Repeat("stop ", 2000) // goes by stream only
	for _, msg := range []string{"stop g1", "", long} {
		if err := trio[1].Broadcast([]byte(msg)); err != nil {
			t.Fatal(err)
		}
		mustHear(t, trio[0], msg)
		mustHear(t, trio[2], msg)
	}
	if err := trio[1].Broadcast(make([]byte, MaxMessage+1)); !errors.Is(err, ErrTooLong) {
		t.Fatalf("too long: %v", err)
	}
	// What came by packet, by stream and as a rumour came once; and not back to the sender.
	if err := trio[1].Broadcast([]byte("last")); err != nil {
		t.Fatal(err)
	}
	mustHear(t, trio[0], "last")
	mustHear(t, trio[2], "last")
	for _, p := range trio {
		if n := len(p.messages); n != 0 {
			t.Fatalf("%s heard %d messages more: %q", p.cfg.Name, n, <-p.messages)
		}
	}

	// n3 dies without a word, and its port with it.
	if err := trio[2].Close(); err != nil {
		t.Fatal(err)
	}
	trio[0].mustSee(t, "n1 n2")
	trio[1].mustSee(t, "n1 n2")
	if err := trio[2].Broadcast(nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("broadcast after close: %v", err)
	}
	// It comes back at the same place, knowing nobody: those who knew it look for it.
	again := mustStart(t, trio[2].wire, nil, nil)
	again.mustSee(t, "n1 n2 n3")
	trio[0].mustSee(t, "n1 n2 n3")
	// Then it leaves of its own accord.
	if err := again.Leave(patience); err != nil {
		t.Fatal(err)
	}
	trio[0].mustSee(t, "n1 n2")
	trio[1].mustSee(t, "n1 n2")
	// It is looked for until it is forgotten.
	at := again.wire.Addr()
	if !trio[0].missing()[at] {
		t.Fatal("n1 does not look for who is gone")
	}
	trio[0].Forget("n3")
	if trio[0].missing()[at] {
		t.Fatal("n1 looks for who is forgotten")
	}
}

// New meta reaches the others.
func TestUpdate(t *testing.T) {
	t.Parallel()
	wires := wiretest.Members(t, "n1", "n2")
	var mu sync.Mutex
	meta := []byte("old")
	a := mustStart(t, wires[0], nil, func(c *Config) {
		c.Meta = func() []byte { mu.Lock(); defer mu.Unlock(); return meta }
	})
	b := mustStart(t, wires[1], []string{wires[0].Addr().String()}, nil)
	b.mustSee(t, "n1 n2")
	set := func(m []byte) { mu.Lock(); meta = m; mu.Unlock(); a.Update() }
	set(bytes.Repeat([]byte("x"), MaxMeta+1)) // not told, and nobody panics
	set([]byte("new"))
	deadline := time.After(patience)
	for {
		if m := b.Alive()[0]; string(m.Meta) == "new" {
			return
		} else if string(m.Meta) != "old" {
			t.Fatalf("meta %q", m.Meta)
		}
		select {
		case <-b.changed:
		case <-deadline:
			t.Fatal("new meta did not arrive")
		}
	}
}

// Who holds a certificate of the cluster but not its key, or belongs to another one, is not taken in, and changes nothing
// (threat T22).
func TestStrangersAreNotHeard(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name   string
		change func(*Config)
	}{
		{"wrong key", func(c *Config) { c.Secret = [32]byte{9} }},
		{"foreign label", func(c *Config) { c.Label = "another cluster" }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			wires := wiretest.Members(t, "n1", "n2", "n3")
			at := []string{wires[0].Addr().String()}
			a, b := mustStart(t, wires[0], nil, nil), mustStart(t, wires[1], at, nil)
			a.mustSee(t, "n1 n2")
			stranger := mustStart(t, wires[2], nil, row.change)
			if n, err := stranger.list.Join(at); err == nil || n != 0 {
				t.Fatalf("joined %d: %v", n, err)
			}
			// Directly by packet and by stream.
			node := &memberlist.Node{Name: "n1", Addr: net.IP(wires[0].Addr().Addr().AsSlice()), Port: wires[0].Addr().Port()}
			_, msg := pack([]byte("forged"))
			_ = stranger.list.SendReliable(node, msg)
			if err := stranger.list.SendToAddress(node.FullAddress(), msg); err != nil {
				t.Fatal(err)
			}
			// What n2 says afterwards is what n1 hears first.
			if err := b.Broadcast([]byte("genuine")); err != nil {
				t.Fatal(err)
			}
			mustHear(t, a, "genuine")
			if a.names() != "n1 n2" || stranger.names() != "n3" {
				t.Fatalf("n1 sees %q, the stranger %q", a.names(), stranger.names())
			}
		})
	}
}

// A packet without the key that declares a member dead, and noise, are dropped; what strangers send fills no log.
func TestForgedPackets(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var text bytes.Buffer
	wires := wiretest.Members(t, "n1", "n2")
	a := mustStart(t, wires[0], nil, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &text}, nil)) })
	b := mustStart(t, wires[1], []string{wires[0].Addr().String()}, nil)
	a.mustSee(t, "n1 n2")

	c, err := net.Dial("udp", wires[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// memberlist's dead message (type 5) in MessagePack, with and without the cluster's label (type 244).
	dead := "\x05\x83\xabIncarnation\x7f\xa4Node\xa2n2\xa4From\xa2n1"
	label := fmt.Sprintf("\xf4%c%s", len(wires[0].ClusterID()), wires[0].ClusterID())
	for range 200 {
		for _, p := range []string{dead, label + dead, "noise", label, "\x00", label + "\x01" + strings.Repeat("x", 60)} {
			_, _ = c.Write([]byte(p))
		}
	}
	if err := b.Broadcast([]byte("alive")); err != nil {
		t.Fatal(err)
	}
	mustHear(t, a, "alive")
	if a.names() != "n1 n2" {
		t.Fatalf("n1 sees %q", a.names())
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(text.String(), "\n"); n == 0 || n > 100 {
		t.Fatalf("%d lines logged for 1,200 packets", n)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// A clone of a member, at another address with the same certificate, is told and not taken in.
func TestNameConflict(t *testing.T) {
	t.Parallel()
	dir := wiretest.Dir(t, "n1", "n2")
	open := func(name string) *wire.Wire {
		w := wiretest.Listen(t, wiretest.Config(dir, name))
		w.Start()
		return w
	}
	w1, w2, clone := open("n1"), open("n2"), open("n2")
	at := []string{w1.Addr().String()}
	a, b := mustStart(t, w1, nil, nil), mustStart(t, w2, at, nil)
	a.mustSee(t, "n1 n2")
	b.mustSee(t, "n1 n2")
	for _, p := range []*peer{a, mustStart(t, clone, at, nil)} {
		select {
		case c := <-p.conflicts:
			if c.Name != "n2" || !slices.Contains([]netip.AddrPort{c.Known, c.Seen}, clone.Addr()) {
				t.Fatalf("conflict %+v", c)
			}
		case <-time.After(patience):
			t.Fatalf("%s notices no conflict", p.cfg.Name)
		}
	}
	if m := a.Alive(); len(m) != 2 || m[1].Addr != w2.Addr() {
		t.Fatalf("n1 sees %v, want n2 at %v", m, w2.Addr())
	}
}

// A removed member is not taken in although it holds key and certificate.
func TestRefuse(t *testing.T) {
	t.Parallel()
	wires := wiretest.Members(t, "n1", "n2", "n3")
	at := []string{wires[0].Addr().String()}
	a := mustStart(t, wires[0], nil, func(c *Config) { c.Refuse = func(name string) bool { return name == "n2" } })
	removed, c := mustStart(t, wires[1], at, nil), mustStart(t, wires[2], at, nil)
	removed.mustSee(t, "n1 n2 n3")
	c.mustSee(t, "n1 n2 n3") // which was not told to refuse it
	a.mustSee(t, "n1 n3")
}

// The key is changed while the members speak, and the old one is refused afterwards.
func TestRotateKey(t *testing.T) {
	t.Parallel()
	trio := mustTrio(t)
	old, fresh := trio[0].cfg.Secret, [32]byte{7}
	for _, step := range []func(*peer) error{
		func(p *peer) error { return p.AddKey(fresh) },
		func(p *peer) error { return p.UseKey(fresh) },
		func(p *peer) error { return p.RemoveKey(old) },
	} {
		for _, p := range trio {
			if err := step(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := trio[0].Broadcast([]byte("step")); err != nil {
			t.Fatal(err)
		}
		mustHear(t, trio[1], "step")
		mustHear(t, trio[2], "step")
	}
	if err := trio[2].Close(); err != nil {
		t.Fatal(err)
	}
	late := mustStart(t, trio[2].wire, nil, nil) // with the old key
	if _, err := late.list.Join([]string{trio[0].wire.Addr().String()}); err == nil {
		t.Fatal("joined with the old key")
	}
}

// OnMessage that does not return costs messages, never memberlist's ear: others are still seen to come.
func TestSlowListenerBlocksNobody(t *testing.T) {
	t.Parallel()
	wires := wiretest.Members(t, "n1", "n2", "n3")
	hold := make(chan struct{})
	defer close(hold)
	a := mustStart(t, wires[0], nil, func(c *Config) { c.OnMessage = func([]byte) { <-hold } })
	for i := range 2 * maxWaiting {
		_, msg := pack(fmt.Append(nil, i))
		a.receive(msg)
	}
	if a.Lost() == 0 {
		t.Fatal("nothing lost, but nothing was taken either")
	}
	mustStart(t, wires[1], []string{wires[0].Addr().String()}, nil)
	a.mustSee(t, "n1 n2")
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	dir := wiretest.Dir(t, "n1")
	rows := []struct {
		name, address string
		change        func(*Config)
	}{
		{"an address that nobody can dial", "0.0.0.0:0", nil},
		{"no label", "127.0.0.1:0", func(c *Config) { c.Label = "" }},
		{"a label too long", "127.0.0.1:0", func(c *Config) { c.Label = strings.Repeat("x", 256) }},
		{"meta too long", "127.0.0.1:0", func(c *Config) { c.Meta = func() []byte { return make([]byte, MaxMeta+1) } }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			cfg := wire.Config{Name: "n1", Address: row.address, CA: filepath.Join(dir, wire.CAFile),
				Cert: filepath.Join(dir, "n1.crt"), Key: filepath.Join(dir, "n1.key")}
			w := wiretest.Listen(t, cfg)
			gc := Config{Name: "n1", Wire: w, Label: w.ClusterID()}
			if row.change != nil {
				row.change(&gc)
			}
			if g, err := Start(gc); err == nil {
				_ = g.Close()
				t.Fatal("started")
			}
		})
	}
}
