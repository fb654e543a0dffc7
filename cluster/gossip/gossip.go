package gossip

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/ekiden-mta/ekiden/cluster/wire"
)

const (
	// MaxMeta is the longest Config.Meta, in octets (memberlist.MetaMaxSize).
	MaxMeta = memberlist.MetaMaxSize
	// reclaimAfter is how long a member must be dead before its name may come back with another address. memberlist's
	// default, never, keeps a machine out that came back with a new address.
	reclaimAfter = 30 * time.Second
	// rejoinEvery is how often members that are known, but not seen, are tried. memberlist forgets the dead, so after a
	// partition neither half would look for the other.
	rejoinEvery = 10 * time.Second
	// joinEvery is the same while nobody is seen at all: members of a new cluster start one after the other.
	joinEvery = time.Second
	// rejoinFor is how long who is gone is looked for. memberlist does not tell who died from who left. A member that
	// comes back later looks for the others itself.
	rejoinFor = 24 * time.Hour
	// waitUpdate bounds how long new meta waits for somebody to tell it to; it spreads afterwards all the same.
	waitUpdate = time.Second
)

// Config says who this member is and what it tells and hears. Callbacks run in goroutines of this package, one call of
// each at a time, never in memberlist's.
type Config struct {
	Name string
	Wire *wire.Wire
	// Advertise is where the others reach the port; default Wire.Addr. It must be one address: others cannot dial 0.0.0.0.
	Advertise netip.AddrPort
	Join      []string // host:port of members, tried until they are seen; this member's own is passed over
	Secret    [32]byte // the cluster's gossip key (AES-256-GCM)
	Label     string   // the cluster's id: packets and streams of another are dropped

	// Meta is what the others see in Member.Meta, at most MaxMeta octets; asked at Start and at Update. Nil: nothing.
	Meta func() []byte
	// Refuse says which names are not members any more, though they hold key and certificate. It is called under
	// memberlist's lock: it must be quick and must not call this package. Nil: none.
	Refuse func(name string) bool

	OnChange   func()         // Alive has changed; several changes may be told as one
	OnMessage  func([]byte)   // a message of another member's Broadcast
	OnConflict func(Conflict) // two members of one name

	Log *slog.Logger
}

// Member is one that seems alive.
type Member struct {
	Name string
	Addr netip.AddrPort // of its port
	Meta []byte         // read only
}

// Conflict is a second member that goes by a name in use. Certificates name members, so its files were copied: a
// restored or a cloned machine. It is not taken in.
type Conflict struct {
	Name        string
	Known, Seen netip.AddrPort
}

// sighting is where a member was seen, and since when it is gone: zero while it is here.
type sighting struct {
	addr netip.AddrPort
	gone time.Time
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("gossip is closed")

// Gossip is a member's ear and mouth. Safe for concurrent use.
type Gossip struct {
	cfg       Config
	list      *memberlist.Memberlist
	keys      *memberlist.Keyring
	transport *transport
	rumours   *memberlist.TransmitLimitedQueue
	heard     *heard
	sends     chan struct{} // one per reliable send in flight

	changed   chan struct{} // something for OnChange; holds one
	update    chan struct{} // meta is to be told anew; holds one
	messages  chan []byte
	conflicts chan Conflict

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	alive map[string]Member
	known map[string]sighting // other members, here or gone
	meta  []byte              // the last that was not too long
	lost  uint64              // messages that OnMessage was too slow for
	shut  bool                // nothing new begins

	life sync.Mutex // of Leave and Close, which memberlist does not bear at once
	over bool       // closed; under life
}

// Start begins to speak and listen. It returns at once; who is in Join is found in the background.
func Start(cfg Config) (*Gossip, error) { return start(cfg, nil) }

// start lets tests change memberlist's timing.
func start(cfg Config, timing func(*memberlist.Config)) (*Gossip, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if !cfg.Advertise.IsValid() {
		cfg.Advertise = cfg.Wire.Addr()
	}
	if a := cfg.Advertise; a.Addr().IsUnspecified() || a.Port() == 0 {
		return nil, fmt.Errorf("gossip: %v is no address that others can reach: give cluster.address one address and port", a)
	}
	if cfg.Label == "" || len(cfg.Label) > memberlist.LabelMaxSize {
		return nil, fmt.Errorf("gossip: label of %d octets, must be 1-%d", len(cfg.Label), memberlist.LabelMaxSize)
	}
	g := &Gossip{cfg: cfg, heard: newHeard(), sends: make(chan struct{}, maxSends),
		changed: make(chan struct{}, 1), update: make(chan struct{}, 1),
		messages: make(chan []byte, maxWaiting), conflicts: make(chan Conflict, 16),
		alive: map[string]Member{}, known: map[string]sighting{}}
	g.rumours = &memberlist.TransmitLimitedQueue{NumNodes: g.count, RetransmitMult: rumourMult}
	if cfg.Meta != nil {
		if n := len(cfg.Meta()); n > MaxMeta {
			return nil, fmt.Errorf("gossip: meta of %d octets, at most %d fit", n, MaxMeta)
		}
	}
	keys, err := memberlist.NewKeyring(nil, cfg.Secret[:])
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	g.keys = keys
	if g.transport, err = newTransport(cfg.Wire, cfg.Advertise, cfg.Log); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	mc := memberlist.DefaultLANConfig()
	mc.Name = cfg.Name
	mc.Transport = g.transport
	mc.BindAddr, mc.BindPort = cfg.Advertise.Addr().String(), int(cfg.Advertise.Port())
	mc.AdvertiseAddr, mc.AdvertisePort = mc.BindAddr, mc.BindPort
	mc.Keyring = keys
	mc.Label = cfg.Label
	mc.DeadNodeReclaimTime = reclaimAfter
	mc.EnableCompression = false // what is sent is small, and nothing is to unfold in memory
	mc.Delegate, mc.Events, mc.Conflict, mc.Alive = (*delegate)(g), (*delegate)(g), (*delegate)(g), (*delegate)(g)
	mc.Logger = log.New(newLogWriter(cfg.Log), "", 0)
	if timing != nil {
		timing(mc)
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if g.list, err = memberlist.Create(mc); err != nil {
		g.cancel()
		_ = g.transport.Shutdown()
		return nil, fmt.Errorf("gossip: %w", err)
	}
	g.wg.Go(g.tell)
	g.wg.Go(g.deliver)
	g.wg.Go(g.join)
	return g, nil
}

// Alive returns who seems to be here, this member included, by name.
func (g *Gossip) Alive() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Member, 0, len(g.alive))
	for _, m := range g.alive {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Lost returns how many messages were dropped because OnMessage did not keep up.
func (g *Gossip) Lost() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost
}

// Update has Meta asked again and told to the others, in the background.
func (g *Gossip) Update() { nudge(g.update) }

// Forget stops looking for a member that was removed or has left.
func (g *Gossip) Forget(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.known, name)
}

// AddKey accepts packets under another key as well. To change the cluster's key: AddKey on all, then UseKey on all, then
// RemoveKey of the old one on all.
func (g *Gossip) AddKey(key [32]byte) error { return g.keys.AddKey(key[:]) }

// UseKey sends under a key that was added.
func (g *Gossip) UseKey(key [32]byte) error { return g.keys.UseKey(key[:]) }

// RemoveKey refuses packets under a key; not under the one in use.
func (g *Gossip) RemoveKey(key [32]byte) error { return g.keys.RemoveKey(key[:]) }

// Leave tells the others that this member goes of its own accord, and waits at most timeout until one has heard.
func (g *Gossip) Leave(timeout time.Duration) error {
	g.life.Lock()
	defer g.life.Unlock()
	if g.over {
		return ErrClosed
	}
	if err := g.list.Leave(timeout); err != nil {
		return fmt.Errorf("gossip: leave: %w", err)
	}
	return nil
}

// Close stops speaking and listening, and waits for callbacks that run: no callback may call it. Without Leave before it,
// the others find out by themselves, in about 7 s.
func (g *Gossip) Close() error {
	g.life.Lock()
	defer g.life.Unlock()
	if g.over {
		return nil
	}
	g.over = true
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
	g.cancel()
	err := g.list.Shutdown()
	g.wg.Wait()
	if err != nil {
		return fmt.Errorf("gossip: close: %w", err)
	}
	return nil
}

// begin books work that Close waits for; not after Close.
func (g *Gossip) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.wg.Add(1)
	return true
}

// tell runs OnChange and OnConflict, and spreads new meta.
func (g *Gossip) tell() {
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-g.changed:
			if g.cfg.OnChange != nil {
				g.cfg.OnChange()
			}
		case c := <-g.conflicts:
			if g.cfg.OnConflict != nil {
				g.cfg.OnConflict(c)
			}
		case <-g.update:
			if err := g.list.UpdateNode(waitUpdate); err != nil && g.ctx.Err() == nil {
				g.cfg.Log.Debug("gossip: nobody took the new meta yet", "error", err)
			}
		}
	}
}

// askMeta returns what Meta says now; where it is too long, what it said before.
func (g *Gossip) askMeta() []byte {
	if g.cfg.Meta == nil {
		return nil
	}
	meta := bytes.Clone(g.cfg.Meta())
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(meta) > MaxMeta {
		g.cfg.Log.Error("gossip: meta is too long and is not told", "octets", len(meta), "most", MaxMeta)
		return g.meta
	}
	g.meta = meta
	return meta
}

// count is how many are here.
func (g *Gossip) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.alive)
}

// nudge leaves a note in a channel that holds one.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
