package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/actors"
	"github.com/ekiden-mta/ekiden/actors/intake"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/admin/webhook"
	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/delivery"
	"github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/delivery/smtpc"
	"github.com/ekiden-mta/ekiden/delivery/standing"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/schedule"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/policy/shaping"
	"github.com/ekiden-mta/ekiden/storage/queue"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// engine is what exists only while the node has its keys: the store, and everything that takes work from it.
type engine struct {
	store   *queue.Store
	ring    *seal.Ring
	actors  *actors.System
	intake  *intake.Intake
	bounces *bouncer
	hooks   *webhook.Poster

	senders  *standing.Book // how those of mail stand in the DNS
	resolver *routing       // of probes as of the actors
	courier  *delivery.Courier

	notes   *notebook // what sources learned
	claims  claims    // sources that mail leaves by
	nightly nightly
	reports reports
	overdue overdue
	lists   lists // how clean those of tenants are
	lates   lates
	network networkLog

	shipping *shipping // nil where the queue is not copied
	lease    atomic.Pointer[cluster.Lease]
	owned    atomic.Bool              // claimed, and at work
	degraded atomic.Bool              // fewer standbys than asked for
	untold   atomic.Pointer[[]string] // standbys that the book has to be told of
	telling  sync.Mutex               // held while it is told
	named    []string                 // standbys that it names for certain; under telling
	outdated atomic.Pointer[string]   // why this queue waits although it is this node's: see compare
	accepted atomic.Bool              // an operator has this node go on all the same

	life context.Context // ends when the engine is closed
	end  context.CancelFunc
	done sync.WaitGroup
}

// metaCertificate is the name under which the SMTP certificate lies in the store.
const metaCertificate = "smtp-certificate"

// openEngine opens the store and claims it. Alone it returns when the work in it is found and goes out; a member of a
// cluster serves as soon as the others agree.
func (n *Node) openEngine() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.engine.Load() != nil || n.renewing {
		return nil
	}
	m := n.member.Load()
	e := &engine{}
	e.life, e.end = context.WithCancel(context.Background())
	cfg := n.storeConfig()
	e.ring = cfg.Ring
	cfg.OnFail, cfg.Carrier = n.storeFailed, n.carrier
	cfg.OnCommit = func(seconds float64, _ int) { n.metrics.StoreCommitSeconds.Observe(seconds) }
	if n.ships() {
		e.shipping = &shipping{observe: n.metrics.ShipSeconds.Observe}
		cfg.Ship = e.shipping
	}
	var err error
	if e.store, err = queue.Open(cfg); err != nil {
		return fmt.Errorf("node: open store: %w", err)
	}
	if err := n.assembleEngine(e); err != nil {
		return errors.Join(err, e.store.Close())
	}
	e.divide(m)
	e.done.Go(func() { e.remember(n, e.notes) })
	e.done.Go(func() { n.learn(e.life, e) })
	e.done.Go(func() { e.lists.mind(n, e) })
	e.every(progressEvery, func() { n.mindProgress(e) })
	e.every(lateEvery, func() { e.lates.judge(n, e) })
	e.every(networkEvery, func() { e.network.write(n, e) }) // close writes the rest
	n.engine.Store(e)
	if n.handed.Load() {
		e.hooks.Use(n.hooks()) // what it has to tell
		return nil
	}
	if n.wire == nil {
		if err := e.serve(e.life, m); err != nil {
			n.engine.Store(nil)
			return errors.Join(err, e.close(context.Background()))
		}
		n.mindDoor()
		return nil
	}
	e.done.Go(func() {
		err := e.serve(e.life, m)
		switch {
		case errors.Is(err, errTaken):
			n.reincarnate(e)
		case err != nil && e.life.Err() == nil:
			n.storeFailed(err)
		}
	})
	return nil
}

// serve claims the queue and puts it to work, with whatever was put aside.
func (e *engine) serve(ctx context.Context, m *member) error {
	if err := m.proposeSettings(ctx); err != nil && m.node.wire == nil {
		return err
	}
	m.node.gates.hear(ctx)
	if err := e.claim(ctx, m); err != nil {
		return err
	}
	m.useSettings()
	if m.node.inCluster() {
		e.claims.mind(m, e)
		e.every(claimEvery, func() { e.claims.mind(m, e) })
	}
	e.hooks.Use(m.node.hooks()) // not before: the file's settings may be of long ago
	m.poke()                    // follow looks at what an engine that owns its queue has to do
	m.node.mindDoor()
	if err := e.bringHome(ctx, m); err != nil {
		m.node.log.Error("a queue that was given up is not brought home yet; it is tried again at the next start", "error", err)
	}
	return nil
}

func (n *Node) storeFailed(err error) {
	n.log.Error("the store has failed for good: nothing is taken or sent any more; mend the disk and restart", "error", err)
	if e := n.engine.Load(); e != nil {
		e.actors.Halt()
	}
	n.mindDoor()
}

// assembleEngine builds everything above the open store.
func (n *Node) assembleEngine(e *engine) error {
	resolver, courier, err := n.assembleDelivery(e)
	if err != nil {
		return err
	}
	e.bounces = &bouncer{node: n, store: e.store}
	e.lists.poked = make(chan struct{}, 1)
	e.resolver, e.courier = resolver, courier
	if err := n.assembleStanding(e); err != nil {
		return err
	}
	e.claims.alone = !n.inCluster()
	e.actors, err = actors.New(actors.Config{
		Name:  n.cfg.Node.Name,
		Queue: actorStore{e.store, e.bounces}, Courier: courierAdapter{courier}, Resolver: resolver,
		Rules:   func() *shaping.Rules { return n.book.now.Load().rules },
		Gates:   &n.gates.table,
		Sources: n.pools(), Clock: n.clock, Log: n.log, Lease: e.holds, Holds: e.claims.holds, Suppressed: n.suppressed,
		QuietHours: func(d mail.Domain) schedule.Hours { return n.book.now.Load().index.QuietHours(d) },
		Share:      func() int { return int(n.senders.Load()) },
		Doubt:      n.book.doubt,
		Traffic:    func() *filter.Traffic { return n.book.now.Load().index.Traffic() },
		Settled: func(s *mail.Settlement, err error) {
			if err == nil {
				n.numbers.settled(s)
				if s.Event.InDoubt {
					n.log.Warn("delivery in doubt", "message", s.Event.Message, "receiver", s.Event.Receiver, "detail", s.Event.Detail)
				}
				e.lists.settled(n, s)
			}
		},
		Held: n.pokeMember, Cleans: e.lists.cleans,
	})
	if err != nil {
		return fmt.Errorf("node: assemble actors: %w", err)
	}
	e.bounces.offer = e.actors.Offer
	e.intake, err = intake.New(intake.Config{Store: intakeStore{e.store, n.numbers, e.holds, e.bounces, n.keysOfClients()},
		Settings: func() *settings.Index { return n.book.now.Load().index }, Suppressed: n.suppressed,
		Key:      e.ring.Index,
		Stopped:  n.gates.table.Refuses,
		Standing: n.standsAs(e.senders),
		Faulty: func(rule string, refused bool) {
			n.metrics.Compliance.With(rule, map[bool]string{false: "warned", true: "refused"}[refused]).Inc()
		},
		Offer: e.actors.Offer, Hostname: n.cfg.Node.Hostname, Clock: n.clock, Log: n.log})
	if err != nil {
		return fmt.Errorf("node: assemble intake: %w", err)
	}
	e.hooks = n.assembleHooks(e)
	if err := e.lates.restore(n, e); err != nil {
		return err
	}
	if m := n.member.Load(); m != nil {
		m.held.forget()
		m.held.use(m, e)
		e.lists.use(m, e)
	}
	if err := e.restoreNightly(); err != nil {
		return err
	}
	if err := n.gates.restore(e); err != nil {
		return err
	}
	e.actors.SetPlans(n.plans())
	if e.notes, err = newNotebook(n, e); err != nil {
		return err
	}
	return n.keepCertificate(e)
}

func (n *Node) assembleDelivery(e *engine) (*routing, *delivery.Courier, error) {
	file := n.deliveryConfig()
	routes, err := file.routes()
	if err != nil {
		return nil, nil, fmt.Errorf("node: delivery.%w", err)
	}
	names, err := n.cfg.resolver(dns.Config{Log: n.log, Notify: n.looked(&e.network)})
	if err != nil {
		return nil, nil, err
	}
	courier := delivery.New(delivery.Config{DNS: names, Clock: n.clock, Log: n.log, Notify: n.connected(&e.network),
		Guard:   delivery.NewGuard(n.cfg.Delivery.AllowPrivate, n.ownAddresses()),
		Session: smtpc.Config{Helo: n.cfg.Helo(), Clock: n.clock, Classify: n.classify, Sender: n.sender(e.ring.Index)}})
	where := &routing{}
	where.now.Store(&delivery.Resolver{Routes: routes, DNS: names, Port: uint16(file.Port), Clock: n.clock})
	return where, courier, nil
}

// ownAddresses are the SMTP listeners with a fixed address: mail must not be handed to ourselves (threat T14).
func (n *Node) ownAddresses() []netip.AddrPort {
	var own []netip.AddrPort
	for _, l := range n.cfg.SMTP.Listeners {
		if a, err := netip.ParseAddrPort(l.Address); err == nil && a.Port() != 0 {
			own = append(own, a)
		}
	}
	return own
}

// pools lists the sources by pool, as the settings name them; pools without sources use the node's.
func (n *Node) pools() map[string][]netip.Addr {
	pools := map[string][]netip.Addr{actors.DefaultPool: n.book.sources(actors.DefaultPool)}
	for _, p := range n.book.now.Load().index.Settings.Pools {
		pools[p.Name] = n.book.sources(p.Name)
	}
	return pools
}

// allSources lists every source of every pool, once.
func (n *Node) allSources() (all []netip.Addr) {
	for _, pool := range n.pools() {
		all = append(all, pool...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// namedSources lists the sources of this node, and those that pools name for any member.
func (n *Node) namedSources() []netip.Addr {
	all, index := n.allSources(), n.book.now.Load().index
	for _, p := range index.Settings.Pools {
		pool, _ := index.Pool(p.Name)
		all = append(all, pool...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// recover makes destinations of what the store holds.
func (e *engine) recover() error {
	err := e.store.Destinations(func(d mail.Destination, waiting int, due time.Time) error {
		e.actors.Recover(d, waiting, e.store.CleaningAtOpen(d), due)
		return nil
	})
	if err != nil {
		return fmt.Errorf("node: look through the queue: %w", err)
	}
	return nil
}

// every does something each time a pause is over until the engine ends; close waits for it.
func (e *engine) every(pause time.Duration, do func()) {
	e.done.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-e.life.Done():
				return
			case <-tick.C:
				do()
			}
		}
	})
}

// close ends delivery, then the store. What was not finished stays queued.
func (e *engine) close(ctx context.Context) error {
	e.end()
	err := e.actors.Stop(ctx)
	e.done.Wait()
	if e.store.Err() == nil {
		e.network.write(e.bounces.node, e)
		e.lates.sampleAll(e.bounces.node)
		last, cancel := context.WithTimeout(context.Background(), lastNotes)
		e.lates.keep(last, e.bounces.node, e)
		err = errors.Join(err, e.notes.write(last))
		e.notes.tell(last, e.bounces.node)
		cancel()
	}
	e.hooks.Close()
	e.senders.Close()
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // sessions were cut: their mail stays queued
	}
	err = errors.Join(err, e.closeStore())
	if e.shipping != nil {
		if to := e.shipping.to.Load(); to != nil {
			err = errors.Join(err, to.Close())
		}
	}
	return err
}

// lastNotes is how long the last look at what sources learned may take to be written.
const lastNotes = 2 * time.Second

// failedClose is how long a database may take to close on a disk that fails.
const failedClose = time.Second

// closeStore closes the store.
func (e *engine) closeStore() error {
	if e.store.Err() == nil {
		return e.store.Close()
	}
	abandon(e.store.Close)
	return nil
}

// abandon closes what lies on a disk that has failed, and leaves it behind where it does not close in time: a database
// tries to write what it holds in memory until the disk takes it. Its log has all of it that was ever acknowledged. What
// close says is known: the disk has failed.
func abandon(close func() error) {
	closed := make(chan struct{}, 1)
	go func() {
		_ = close()
		closed <- struct{}{}
	}()
	patience := time.NewTimer(failedClose)
	defer patience.Stop()
	select {
	case <-closed:
	case <-patience.C:
	}
}

// keepCertificate serves the pair made at the first start, which lies sealed in the store, unless the operator gave one.
func (n *Node) keepCertificate(e *engine) error {
	if n.cfg.SMTP.TLS.Cert != "" {
		return nil
	}
	pair, err := e.store.Meta(metaCertificate)
	if err != nil {
		return fmt.Errorf("node: read certificate: %w", err)
	}
	if pair == nil {
		if pair, err = selfSigned(n.cfg.Node.Hostname); err != nil {
			return err
		}
		if err := e.keep(context.Background(), metaCertificate, pair); err != nil {
			return err
		}
	}
	return n.smtpTLS.use(pair)
}

// keep stores a small value and waits until it is durable.
func (e *engine) keep(ctx context.Context, name string, value []byte) error {
	done := make(chan error, 1)
	e.store.SetMeta(name, value, func(err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("node: keep %s: %w", name, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("node: keep %s: %w", name, ctx.Err())
	}
}

// courierAdapter is delivery's courier as the actors know it.
type courierAdapter struct{ c *delivery.Courier }

// Run implements protocol.Courier.
func (a courierAdapter) Run(ctx context.Context, t protocol.Trip, w protocol.Work) protocol.Report {
	r := a.c.Run(ctx, delivery.Trip{Source: t.Source, Route: t.Route, Receiver: t.Receiver,
		PerConnection: t.PerConnection, SessionTime: t.SessionTime, Interval: t.Interval, TLS: t.TLS, Domain: t.Domain}, w)
	return protocol.Report{Connected: r.Connected, Outcome: r.Outcome, Messages: r.Messages}
}
