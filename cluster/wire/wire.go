package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The protocols of this release, newest versions. Another version of one is another name: both may be served at once.
const (
	Raft   = "ekiden-raft/1"   // agreement
	Gossip = "ekiden-gossip/1" // who is here
	Ship   = "ekiden-ship/1"   // queue shipping to standbys
	Ledger = "ekiden-ledger/1" // proposals forwarded to the leader, snapshots
	Unseal = "ekiden-unseal/1" // keys between members
	RPC    = "ekiden-rpc/1"    // the operator's questions, passed on
)

const (
	// DefaultHandshakeTimeout is Config.HandshakeTimeout where it is zero.
	DefaultHandshakeTimeout = 5 * time.Second
	// DefaultMaxHandshakes is Config.MaxHandshakes where it is zero. A handshake may make TLS hold 256 KiB.
	DefaultMaxHandshakes = 128
	// acceptPause is waited after a failed accept: out of descriptors, mostly, and they come back.
	acceptPause = 50 * time.Millisecond
)

// Config says who this member is, where it listens, and what it proves itself with.
type Config struct {
	Name    string // this member, as its certificate names it
	Address string // host:port to listen at; port 0 takes any

	CA, Cert, Key string // paths of PEM files: the authority's certificate, this member's, and its key

	HandshakeTimeout time.Duration // how long a connection may take to prove who it is; 0: DefaultHandshakeTimeout
	// MaxHandshakes is how many incoming connections may be proving who they are at a time, and a quarter of it how
	// many from one address; what comes on top is closed unread. 0: DefaultMaxHandshakes.
	MaxHandshakes int

	Log *slog.Logger
}

// Peer is the member at the other end.
type Peer struct {
	Name string         // from its certificate, which was verified
	Addr netip.AddrPort // where its end of the connection is; of an incoming one not where it listens
}

// ErrClosed is returned after Close.
var ErrClosed = net.ErrClosed

// Wire is a member's port. Safe for concurrent use.
type Wire struct {
	cfg   Config
	ln    net.Listener
	creds atomic.Pointer[credentials]
	gate  *gate // incoming connections that have not proved who they are

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the accept loop and handshakes; not what handlers do

	mu       sync.Mutex
	handlers map[string]func(Peer, net.Conn)
	refuse   func(Peer) error
	barred   func(Peer)
	conns    map[*Conn]struct{} // open connections of either direction
	started  bool
	closed   bool

	quiet quiet // thins out what strangers can make us log
}

// Listen reads and checks the certificates and binds the port. Nothing is accepted before Start; Dial works at once.
func Listen(cfg Config) (*Wire, error) {
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if cfg.MaxHandshakes <= 0 {
		cfg.MaxHandshakes = DefaultMaxHandshakes
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	creds, err := load(cfg)
	if err != nil {
		return nil, fmt.Errorf("cluster certificates: %w", err)
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive()}
	ln, err := lc.Listen(context.Background(), "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for members: %w", err)
	}
	w := &Wire{
		cfg: cfg, ln: ln,
		gate:     newGate(cfg.MaxHandshakes),
		handlers: map[string]func(Peer, net.Conn){},
		conns:    map[*Conn]struct{}{},
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.creds.Store(creds)
	return w, nil
}

// keepAlive finds a peer whose machine is gone within half a minute, also on connections that only wait to read.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
}

// Name returns this member's name.
func (w *Wire) Name() string { return w.cfg.Name }

// Addr returns where the port is bound.
func (w *Wire) Addr() netip.AddrPort { return addrPort(w.ln.Addr()) }

// ClusterID returns 32 hexadecimal digits that tell this cluster from every other: the beginning of the SHA-256 of its
// authority's certificate, the first one of the file.
func (w *Wire) ClusterID() string { return w.creds.Load().clusterID }

// Expires returns when this member's certificate ends: from then on no other member speaks with it.
func (w *Wire) Expires() time.Time { return w.creds.Load().cert.Leaf.NotAfter }

// Reload reads the certificate files again. New connections use them, open ones stay. After an error the former ones
// remain in force. It refuses files of another cluster, and of another name.
func (w *Wire) Reload() error {
	creds, err := load(w.cfg)
	if err == nil && creds.clusterID != w.ClusterID() {
		err = fmt.Errorf("%s: %w", w.cfg.CA, ErrOtherCluster)
	}
	if err != nil {
		return fmt.Errorf("cluster certificates: %w", err)
	}
	w.creds.Store(creds)
	return nil
}

// Handle serves a protocol, from now on, with f, which gets every connection in a goroutine of its own and closes it.
// A protocol may come and go while the port is open: a sealed member serves less. It panics where the protocol is
// served already.
func (w *Wire) Handle(proto string, f func(Peer, net.Conn)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.handlers[proto] != nil || proto == "" || len(proto) > maxProto || proto == protoNone {
		panic(fmt.Sprintf("wire: protocol %q is served already, or is no name", proto))
	}
	w.handlers[proto] = f
}

// Unhandle ends what Handle began; open connections stay.
func (w *Wire) Unhandle(proto string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.handlers, proto)
}

// Served returns the protocols served now, sorted.
func (w *Wire) Served() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	served := make([]string, 0, len(w.handlers))
	for proto := range w.handlers {
		served = append(served, proto)
	}
	slices.Sort(served)
	return served
}

// Refuse has f asked about every peer whose certificate is in order, in both directions: members that were removed
// still hold one. What f returns is for our log; the peer only learns that it was refused. f must be quick. Open
// connections are not asked about again: see Cut.
func (w *Wire) Refuse(f func(Peer) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = f
}

// Barred has f told about every peer that refuses us by our name, as Refuse has it refuse others. f must be quick.
func (w *Wire) Barred(f func(by Peer)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.barred = f
}

func (w *Wire) tellBarred(by Peer) {
	w.mu.Lock()
	f := w.barred
	w.mu.Unlock()
	if f != nil {
		f(by)
	}
}

func (w *Wire) refusal(p Peer) error {
	w.mu.Lock()
	f := w.refuse
	w.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(p)
}

// Cut closes every open connection with the member of that name, at once and without good-bye.
func (w *Wire) Cut(name string) {
	w.cut(func(c *Conn) bool { return c.peer.Name == name })
}

func (w *Wire) cut(which func(*Conn) bool) {
	w.mu.Lock()
	var gone []*Conn
	for c := range w.conns {
		if which(c) {
			gone = append(gone, c)
		}
	}
	w.mu.Unlock()
	for _, c := range gone {
		c.abort()
	}
}

// Start begins to accept.
func (w *Wire) Start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started || w.closed {
		return
	}
	w.started = true
	w.wg.Go(w.accept)
}

// Close unbinds the port, closes every connection of either direction, and waits for handshakes to end. It does not
// wait for handlers: their reads and writes fail from now on.
func (w *Wire) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.cancel()
	err := w.ln.Close()
	w.cut(func(*Conn) bool { return true })
	w.wg.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the members' port: %w", err)
	}
	return nil
}

// keep books an open connection; not after Close.
func (w *Wire) keep(c *Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.conns[c] = struct{}{}
	return true
}

func (w *Wire) forget(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
