// Package node is one member, assembled: it opens the rooms in the order they need one another, passes what one says
// to the next, and closes them in the opposite order. It is the only room that knows them all.
//
// It must never decide about mail: decisions are in policy, effects in the rooms. Read Node first, then engine.go (what
// exists only while the node is unsealed).
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/admin"
	"github.com/ekiden-mta/ekiden/admin/gather"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/internal/metrics"
	"github.com/ekiden-mta/ekiden/smtpd"
	smtpwire "github.com/ekiden-mta/ekiden/smtpd/wire"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// Node is a member that runs. Its fronts listen from Start on; its engine exists from the moment it has its keys.
type Node struct {
	cfg     Config
	version string
	log     *slog.Logger
	clock   *clock.Clock
	started time.Time

	book    book
	gates   *gates
	metrics *metrics.Set
	numbers *numbers
	hits    hits // of rules about answers
	alarms  alarms
	alerts  alerts
	leavers leavers
	sentLog service.Log        // of all members
	counted service.Statistics // of all members
	vault   *seal.Vault
	smtpTLS certificate
	httpTLS certificate
	door    doorkeeper
	smtp    *smtpd.Server
	http    *admin.Server
	engine  atomic.Pointer[engine]

	wire         *wire.Wire // the cluster's port; nil alone
	forming      *formation // nil alone
	member       atomic.Pointer[member]
	firstMembers atomic.Pointer[firstMembers] // where this process founded a cluster
	takeovers    takeovers
	releases     releases
	senders      atomic.Int32           // nodes that have a queue, as the members know: they share the speed caps
	parting      atomic.Int64           // messages that only this node has, while it gives their queue up
	broken       atomic.Pointer[error]  // why the agreement has failed on this node
	removed      atomic.Pointer[string] // that the cluster has locked this node out
	handed       atomic.Bool            // its queue was handed over, and it takes no other
	restored     atomic.Pointer[string] // that this process gave the queue of an old data directory up
	code         func(string)
	adopting     func(ctx context.Context, read int) error
	routed       atomic.Pointer[DeliveryConfig] // since a reload; nil = that of cfg

	mu       sync.Mutex // guards opening and closing of member and engine
	renewing bool       // under mu: the store is between two queues
	draining atomic.Bool
	life     context.Context // ends with Stop
	end      context.CancelFunc
	stopped  chan struct{}
	watchers sync.WaitGroup
}

// Options are what a main may add to a Config.
type Options struct {
	Version string
	Log     *slog.Logger
	// Code is called once with the recovery code at the first start: alone, by Start as soon as everything listens; by the
	// member that founds a cluster, as soon as all of the first members are there.
	Code func(code string)
	// Adopting is called before each time that a takeover reads the queue, which waits for it and fails with it: read 1 is a
	// look, from read 2 on mail is taken. nil = nobody is. Tests slow, or break, a takeover with it.
	Adopting func(ctx context.Context, read int) error
}

// New checks cfg and prepares a node; nothing listens yet and nothing is opened but the keys, where there are any.
func New(ctx context.Context, cfg Config, o Options) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{cfg: cfg, version: o.Version, log: o.Log, clock: &clock.Clock{}, started: clock.Wall(),
		metrics: metrics.New(o.Version), stopped: make(chan struct{}), code: o.Code, adopting: o.Adopting}
	n.life, n.end = context.WithCancel(context.Background())
	n.numbers = &numbers{set: n.metrics}
	n.alarms.node = n
	n.door.holds = n.holds
	n.gates = newGates(n)
	if n.inCluster() {
		n.book.shared = true
		n.gates.peers, n.gates.ledger = gatePeers{n}, gateLedger{n}
	}
	for _, w := range cfg.Warnings() {
		n.log.Warn(w)
	}
	if err := n.book.load(cfg.Settings, cfg.Node.SourceIPs); err != nil {
		return nil, err
	}
	n.keepName()
	if err := os.MkdirAll(cfg.Node.Data, 0o700); err != nil {
		return nil, fmt.Errorf("node: make data directory: %w", err)
	}
	for _, err := range seal.Harden() {
		n.log.Warn("process could not be hardened", "error", err)
	}
	if err := n.openVault(ctx); err != nil {
		return nil, err
	}
	return n, n.assembleFronts()
}

// keepName has a lone node go on under the name that its data directory knows it by, whatever it or its host is called now:
// the agreement, the queue and all that was noted about sources are that name's.
func (n *Node) keepName() {
	if n.inCluster() {
		return
	}
	name, err := cluster.SeatAlone(n.raftDir())
	switch {
	case err != nil: // told again, and in full, when it is opened
		n.log.Warn("the data directory does not tell the node's name", "error", err)
	case name != "" && name != n.cfg.Node.Name:
		n.log.Warn(fmt.Sprintf("this data directory is that of the node %s: it goes on under that name, not as %s", name, n.cfg.Node.Name),
			"data", n.cfg.Node.Data)
		n.cfg.Node.Name = name
	}
}

func (n *Node) raftDir() string { return filepath.Join(n.cfg.Node.Data, "raft") }

// tell shows the recovery code, once.
func (n *Node) tell(code string) {
	if n.code != nil {
		n.code(code)
	}
}

// providers are where the root key may come from.
func (n *Node) providers() []seal.Provider {
	var providers []seal.Provider
	for _, u := range n.cfg.Keys.Unseal {
		p := seal.Provider{Kind: u.Kind}
		switch u.Kind {
		case UnsealExec:
			p.Command = u.Arg
		case UnsealFile:
			p.Path = u.Arg
		}
		providers = append(providers, p)
	}
	return providers
}

// openVault opens the keys. At the first start there are none: see makeKeys and, in a cluster, formation.
func (n *Node) openVault(ctx context.Context) error {
	v, err := seal.OpenVault(n.cfg.Node.Data, seal.Config{Providers: n.providers(), Loopback: n.cfg.OnLoopback(), Log: n.log})
	if err != nil {
		return fmt.Errorf("node: open keys: %w", err)
	}
	n.vault = v
	if v.State() == seal.New {
		return nil
	}
	by, err := v.AutoUnseal(ctx)
	switch {
	case err == nil:
		n.log.Info("unsealed", "by", by)
	case errors.Is(err, seal.ErrSealed):
		n.log.Warn("sealed: waiting for unseal")
	default:
		n.log.Warn("sealed: waiting for unseal", "error", err)
	}
	return nil
}

// makeKeys makes the keys of a lone node at its first start.
func (n *Node) makeKeys(ctx context.Context) error {
	code, err := n.vault.Init(ctx)
	var form *seal.ProviderError
	switch {
	case errors.As(err, &form):
		return n.cfg.badKey(form.Index, form.Err)
	case err != nil:
		return fmt.Errorf("node: make keys: %w", err)
	}
	n.tell(code)
	return nil
}

// smtpListeners is what a node file says of listeners in smtpd's words.
func smtpListeners(configured []ListenerConfig) []smtpd.Listener {
	listeners := make([]smtpd.Listener, len(configured))
	for i, l := range configured {
		listeners[i] = smtpd.Listener{Address: l.Address, Role: roles[l.Role], TLS: tlsModes[l.TLS], Normalize: l.Normalize,
			Sessions: l.Sessions, Interval: l.Interval, SizeKB: l.SizeKB}
	}
	return listeners
}

// assembleFronts builds the listeners without opening them.
func (n *Node) assembleFronts() error {
	if err := n.loadCertificates(); err != nil {
		return err
	}
	var err error
	n.smtp, err = smtpd.New(smtpd.Config{Hostname: n.cfg.Node.Hostname, Listeners: smtpListeners(n.cfg.SMTP.Listeners),
		ProxyFrom: n.cfg.SMTP.ProxyProtocolFrom, TLS: n.smtpTLS.config(), Log: n.log, Clock: n.clock,
	}, &n.book, submitter{n}, &n.door)
	if err != nil {
		return fmt.Errorf("node: assemble smtp: %w", err)
	}
	token, err := admin.Token(n.cfg.Node.Data)
	if err != nil {
		return fmt.Errorf("node: admin token: %w", err)
	}
	c := admin.Config{Address: n.cfg.HTTP.Address, Token: token, Metrics: n.scrape(),
		Testing: n.cfg.Testing.Enabled, Services: n.services(), Clock: n.clock, Log: n.log}
	if n.inCluster() {
		own := c.Services
		c.Local, c.Services = &own, gather.Services(gather.Config{Name: n.cfg.Node.Name, Local: own, Peers: gathered{n}, Log: n.log})
	}
	n.sentLog, n.counted = c.Services.Log, c.Services.Statistics
	if n.cfg.HTTP.TLS.Cert != "" {
		c.TLS = n.httpTLS.config()
	}
	if n.http, err = admin.New(c); err != nil {
		return fmt.Errorf("node: assemble http: %w", err)
	}
	n.exportNumbers()
	return nil
}

// loadCertificates reads the operator's files. Without files SMTP serves a pair that is made now and replaced by the
// one kept in the store as soon as that can be read.
func (n *Node) loadCertificates() error {
	if f := n.cfg.HTTP.TLS; f.Cert != "" {
		if err := n.httpTLS.load(f); err != nil {
			return err
		}
	}
	if f := n.cfg.SMTP.TLS; f.Cert != "" {
		return n.smtpTLS.load(f)
	}
	if n.smtpTLS.pair.Load() != nil {
		return nil
	}
	pair, err := selfSigned(n.cfg.Node.Hostname)
	if err != nil {
		return err
	}
	return n.smtpTLS.use(pair)
}

// Start opens the listeners and, where the node has its keys, the engine. A sealed node listens as well: it says so. A
// member of a cluster does not wait for the others. Keys are made only where everything listens: a start that fails because an
// address is taken uses up no recovery code.
func (n *Node) Start(ctx context.Context) error {
	n.door.shut(replySealed)
	if err := n.http.Start(); err != nil {
		return fmt.Errorf("node: listen for http: %w", err)
	}
	if n.inCluster() {
		if err := n.openWire(); err != nil {
			return err
		}
	}
	early := n.vault.State() != seal.Unsealed
	if early {
		if err := n.listenSMTP(); err != nil {
			return err
		}
	}
	if n.vault.State() == seal.New && !n.inCluster() {
		if err := n.makeKeys(ctx); err != nil {
			return err
		}
	}
	if n.vault.State() == seal.Unsealed {
		if err := n.open(ctx); err != nil {
			return err
		}
	} else if n.inCluster() {
		n.watchers.Go(func() { n.search(n.life) })
	}
	if !early {
		if err := n.listenSMTP(); err != nil {
			return err
		}
	}
	n.watchers.Go(n.watch)
	return nil
}

func (n *Node) listenSMTP() error {
	if err := n.smtp.Start(); err != nil {
		return fmt.Errorf("node: listen for smtp: %w", err)
	}
	return nil
}

// search looks for the root key among the members, and opens the node with it.
func (n *Node) search(ctx context.Context) {
	err := n.forming.run(ctx)
	if err == nil {
		err = n.open(ctx)
	}
	if err != nil && ctx.Err() == nil {
		n.log.Error("the node does not come to serve; restart it", "error", err)
	}
}

// open begins everything that needs the keys. Calling it again does nothing.
func (n *Node) open(ctx context.Context) error {
	n.mu.Lock()
	if n.member.Load() == nil {
		err := error(nil)
		if n.forming != nil {
			err = n.forming.catchUp(ctx)
		}
		if err == nil {
			err = n.openMember(ctx)
		}
		if err != nil {
			n.mu.Unlock()
			return err
		}
	}
	n.mu.Unlock()
	if n.isWitness() {
		return nil
	}
	return n.openEngine()
}

// holds tells whether the lease of this node's queue lasts.
func (n *Node) holds() bool {
	e := n.engine.Load()
	return e != nil && e.holds()
}

// inCluster tells whether the node has others.
func (n *Node) inCluster() bool { return n.cfg.Cluster.Address != "" }

// isWitness tells whether the node has a vote and no queue.
func (n *Node) isWitness() bool { return n.inCluster() && n.cfg.Cluster.Role == roleWitness }

// Ready is the line that "ekiden serve" prints when it serves.
type Ready struct {
	Name, HTTP, State string
	SMTP              []string
}

// Ready tells where the node listens.
func (n *Node) Ready() Ready {
	s := n.status()
	state := s.State
	if state != StateSealed {
		state = StateUnsealed
	}
	return Ready{Name: s.Name, SMTP: s.SMTP, HTTP: s.HTTP, State: state}
}

// settingsChanged lets the engine act on new settings.
func (n *Node) settingsChanged() {
	n.hits.keep(n.book.now.Load().replies)
	if e := n.engine.Load(); e != nil {
		e.actors.SetSources(n.pools())
		e.actors.SetPlans(n.plans())
		e.actors.Destinations().Changed()
		if e.owned.Load() {
			e.hooks.Use(n.hooks())
		}
	}
}

// Stop ends the node: accepts no more, finishes open transactions both ways while ctx lasts, closes the store.
func (n *Node) Stop(ctx context.Context) error {
	n.draining.Store(true)
	n.door.shut(replyDraining)
	err := n.smtp.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		n.log.Warn("some clients did not finish in time")
		err = nil
	}
	close(n.stopped)
	n.end()
	n.mu.Lock()
	//lint:ignore SA2001 who began before draining was set has its watcher by the time the lock is free
	n.mu.Unlock()
	n.watchers.Wait()
	n.mu.Lock()
	failed := false
	if e := n.engine.Swap(nil); e != nil {
		err = errors.Join(err, e.close(ctx))
		failed = e.store.Err() != nil
	}
	if m := n.member.Swap(nil); m != nil && failed { // its ledger lies on the same disk
		abandon(m.close)
	} else if m != nil {
		err = errors.Join(err, m.close())
	}
	n.mu.Unlock()
	err = errors.Join(err, n.http.Stop(ctx))
	if n.wire != nil {
		err = errors.Join(err, n.wire.Close())
	}
	err = errors.Join(err, n.vault.Close())
	if err != nil {
		return fmt.Errorf("node: stop: %w", err)
	}
	return nil
}

// watch keeps the door and the daily work up to date.
func (n *Node) watch() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var purged, stopped time.Time
	for {
		select {
		case <-n.stopped:
			return
		case <-tick.C:
		}
		n.mindDoor()
		n.gates.remind()
		if e := n.engine.Load(); e != nil {
			n.mindNight(e, n.clock.Now())
			n.mindReports(e, n.clock.Now())
		}
		if now := n.clock.Now(); now.Sub(purged) > time.Hour {
			purged = now
			if e := n.engine.Load(); e != nil {
				n.purge(e)
			}
		}
		if now := n.clock.Now(); now.Sub(stopped) > time.Minute || now.Before(stopped) {
			go n.keepHouse(stopped, now) // it may have to wait for a majority
			stopped = now
		}
	}
}

// houseWait bounds each work of the house but releases: it may have to wait for a majority.
const houseWait = time.Minute

// keepHouse runs the delivery stops whose time came, and releases what is over, where this member does it for all; and the
// batch of unsubscriptions at 00:00. The first look after a start runs none.
func (n *Node) keepHouse(before, now time.Time) {
	m := n.member.Load()
	if before.IsZero() || n.engine.Load() == nil || m == nil {
		return
	}
	if m.keepsHouse() {
		if err := n.stopDue(m, before, now); err != nil {
			n.log.Warn("delivery stop did not run to its end", "error", err)
		}
	}
	if runsBetween(0, before, now) {
		ctx, cancel := context.WithTimeout(n.life, houseWait)
		if err := n.reflectLeaving(ctx); err != nil {
			n.log.Warn("requests to be unsubscribed wait for the next batch", "error", err)
		}
		cancel()
	}
	if m.keepsHouse() {
		n.releases.run(n) // last: it may take minutes
	}
}

// stopDue runs the delivery stops whose time came.
func (n *Node) stopDue(m *member, before, now time.Time) error {
	ctx, cancel := context.WithTimeout(n.life, houseWait)
	defer cancel()
	if err := m.seeStops(ctx, before); err != nil {
		return err
	}
	due, err := m.dueStops(before, now)
	if err != nil {
		return err
	}
	return n.stopDeliveries(ctx, due)
}

// mindDoor opens or closes intake by how the node is.
func (n *Node) mindDoor() {
	reasons := slices.DeleteFunc(n.reasons(), func(r service.Reason) bool { return r.Code == "lease" && n.engine.Load() != nil })
	if len(reasons) == 0 { // the lease is the door's own business: see doorkeeper
		n.door.open()
		return
	}
	switch reasons[0].Code {
	case "sealed":
		n.door.shut(replySealed)
	case "draining":
		n.door.shut(replyDraining)
	case "disk":
		n.door.shut(replyFull)
	case "lease", "degraded":
		n.door.shut(replyNoLease)
	default:
		n.door.shut(replyFailed)
	}
}

func addresses(list []net.Addr) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}

var roles = map[string]smtpd.Role{"": smtpd.RoleRelay, "relay": smtpd.RoleRelay,
	"submission": smtpd.RoleSubmission, "bounce": smtpd.RoleBounce}

var tlsModes = map[string]smtpwire.TLSMode{"none": smtpwire.TLSNone, "": smtpwire.TLSOptional, "optional": smtpwire.TLSOptional,
	"required": smtpwire.TLSRequired, "implicit": smtpwire.TLSImplicit}
