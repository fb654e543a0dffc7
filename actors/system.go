// Package actors is the negotiation: destinations, one per recipient domain with work, obtain sending slots from
// sources, one per source IP, and couriers carry the mail.
//
// It decides who sends what when, and must never open a socket, a file or a database: stores, couriers and resolvers
// are handed in. Read DESIGN.md first, then package protocol for the dialogue.
package actors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/ekiden-mta/ekiden/actors/destination"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/gate"
	"github.com/ekiden-mta/ekiden/policy/schedule"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// DefaultPool is the pool of deliveries that name none, or one that does not exist.
const DefaultPool = "default"

// Config is what the negotiation needs. Queue, Courier, Resolver and Rules are required.
type Config struct {
	Name     string // of this node: suspensions say who put them in force
	Queue    protocol.Queue
	Courier  protocol.Courier
	Resolver protocol.Resolver
	Rules    func() *shaping.Rules
	Sources  map[string][]netip.Addr // by pool; an invalid address, or no pool at all: the system chooses
	Gates    *gate.Table             // which delivery groups are stopped; nil = none; see Destinations().Gated
	// Suppressed tells why an address gets no mail of a tenant, or of one of its lists; nil = every address does.
	Suppressed func(tenant, list string, to mail.Address) (mail.Suppression, bool)
	// Doubt is what becomes of mail whose final dot was never answered; nil = it is sent again.
	Doubt func(tenant, group string) mail.Doubt
	// QuietHours is when nothing is sent to a domain; nil = never.
	QuietHours func(mail.Domain) schedule.Hours
	// Traffic is what tenants want of the way their mail is sent, at the moment; nil = nothing, ever.
	Traffic func() *filter.Traffic
	Share   func() int            // how many nodes speed caps are divided among; nil = this one alone
	Lease   func() bool           // whether this node may send at all, asked before every final dot; nil = always
	Holds   func(netip.Addr) bool // whether this node may send from an address; nil = always; see source.Config
	Settled func(*mail.Settlement, error)
	// Cleans tells whether a tenant's bulk mail to a receiver goes as cleaning mail for now; nil = never.
	Cleans func(tenant, receiver string) bool
	Held   func() // hears that a rule put a suspension in force; must not block; nil = nobody
	Clock  *clock.Clock
	Rand   func() float64 // in [0,1), safe for concurrent use
	Log    *slog.Logger

	Window     int           // deliveries in memory per destination, pool and kind of mail; sources that greylisted mail waits for share it; default 1024
	BodyBudget int64         // octets of bodies in memory over all destinations; default 64 MiB
	Quantum    int           // messages of one destination's turn on a shared connection; default 100
	Lookups    int           // resolutions at once; default 256
	Passivate  time.Duration // how long a destination without work is remembered; default 30 s
	Controller func(shaping.Limits) source.Controller

	OnDestination func(mail.Domain, any) // tests: called before each step of a destination
	OnSource      func(netip.Addr, any)  // tests: called before each step of a source
}

// Validate reports what is missing.
func (c *Config) Validate() error {
	if c.Queue == nil || c.Courier == nil || c.Resolver == nil || c.Rules == nil {
		return errors.New("actors: queue, courier, resolver and rules are required")
	}
	if c.Window < 0 || c.Quantum < 0 || c.BodyBudget < 0 || c.Lookups < 0 {
		return errors.New("actors: a bound is negative")
	}
	return nil
}

func (c *Config) defaults() {
	if c.Clock == nil {
		c.Clock = &clock.Clock{}
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.BodyBudget == 0 {
		c.BodyBudget = 64 << 20
	}
	if c.Lookups == 0 {
		c.Lookups = 256
	}
	if c.Passivate == 0 {
		c.Passivate = 30 * time.Second
	}
}

// Counters are what happened since the node started, for metrics. All fields are atomic.
type Counters struct {
	Destination destination.Counters
	Source      source.Counters
}

// System is the running negotiation of one node.
type System struct {
	cfg          Config
	counters     Counters
	actors       *actor.ActorSystem
	destinations *destination.Registry
	sources      *source.Sources
	env          *destination.Env
	pools        atomic.Pointer[map[string][]netip.Addr]
	cancel       context.CancelFunc
	dispatch     *dispatcher
	stop         chan struct{}
	once         sync.Once
	swept        sync.WaitGroup
}

// New builds a system that does nothing before Start and Offer.
func New(cfg Config) (*System, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.defaults()
	s := &System{cfg: cfg, stop: make(chan struct{})}
	s.SetSources(cfg.Sources)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.dispatch = newDispatcher()
	quiet := slog.New(level{cfg.Log.Handler(), slog.LevelError})
	s.actors = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }))
	run := &source.Runner{Courier: cfg.Courier, Clock: cfg.Clock, Log: cfg.Log, Context: ctx}
	s.sources = source.NewSources(s.actors, s.dispatch, source.Config{Quantum: cfg.Quantum, Controller: cfg.Controller, Holds: cfg.Holds}, run, &s.counters.Source)
	s.sources.Hook = cfg.OnSource
	s.env = &destination.Env{
		Queue: cfg.Queue, Gates: cfg.Gates, Lease: cfg.Lease, Suppressed: cfg.Suppressed, Doubt: cfg.Doubt, QuietHours: cfg.QuietHours, Traffic: cfg.Traffic, Share: cfg.Share, Suspensions: &destination.Suspensions{Self: cfg.Name}, Sources: s.candidates, Rand: cfg.Rand,
		Budget: &destination.Budget{Limit: cfg.BodyBudget}, Counters: &s.counters.Destination, Window: cfg.Window, Settled: cfg.Settled,
		Held: cfg.Held, Cleans: cfg.Cleans,
	}
	s.env.Halted = func(why error) {
		if why != nil {
			cfg.Log.Error("an outcome may not be kept: nothing is sent any more", "error", why)
		}
		s.sources.Halt()
	}
	s.env.Defaults()
	s.destinations = destination.NewRegistry(s.actors, s.dispatch, s.env, &destination.Shell{
		Clock: cfg.Clock, Log: cfg.Log, Resolver: cfg.Resolver, Rules: cfg.Rules, Ask: s.sources.Ask, Relimit: s.sources.Relimit, Context: ctx,
		Lookups: make(chan struct{}, cfg.Lookups), Hook: cfg.OnDestination,
	})
	return s, nil
}

// lookEvery is how late a destination's look at what is with sessions may be.
const lookEvery = time.Second

// Start begins to let destinations look at what is with sessions, and to let go of those that have nothing to do.
func (s *System) Start() {
	s.swept.Add(1)
	go func() {
		defer s.swept.Done()
		t := time.NewTicker(max(s.cfg.Passivate/4, time.Millisecond))
		defer t.Stop()
		due := make(chan struct{}, 1)
		arm := func() *clock.Timer {
			return s.cfg.Clock.At(s.cfg.Clock.Now().Add(lookEvery), func() { due <- struct{}{} })
		}
		look := arm()
		for {
			select {
			case <-due:
				s.destinations.Look()
				look = arm()
			case <-t.C:
				s.destinations.Passivate(s.cfg.Passivate)
				s.sources.Forget(10 * time.Minute)
			case <-s.stop:
				look.Stop()
				return
			}
		}
	}()
}

// Offer hands over deliveries that were just stored; it never blocks.
func (s *System) Offer(jobs []mail.Job) { s.destinations.Offer(jobs) }

// Recover tells of a destination that the store holds work for: at start, once each. cleaning of the waiting ones are
// cleaning mail; due is when the first is due.
func (s *System) Recover(d mail.Destination, waiting, cleaning int, due time.Time) {
	s.destinations.Recover(d, waiting, cleaning, due)
}

// Destinations is where operators look and suspend.
func (s *System) Destinations() *destination.Registry { return s.destinations }

// Sources is where operators see connections and blocks.
func (s *System) Sources() *source.Sources { return s.sources }

// Counters is what happened so far.
func (s *System) Counters() *Counters { return &s.counters }

// BodiesHeld is how many octets of bodies wait in memory.
func (s *System) BodiesHeld() int64 { return s.env.Budget.Used() }

// SetSources replaces the pools. Destinations look at them with their next step; call Destinations().Changed() to
// hurry them.
func (s *System) SetSources(pools map[string][]netip.Addr) {
	p := make(map[string][]netip.Addr, len(pools)+1)
	for name, addrs := range pools {
		if len(addrs) > 0 {
			p[name] = append([]netip.Addr(nil), addrs...)
		}
	}
	if _, ok := p[DefaultPool]; !ok {
		p[DefaultPool] = []netip.Addr{{}}
	}
	s.pools.Store(&p)
}

// Totals is what the node's sources have together of limits that concern all of them; Reshare has them keep to it.
func (s *System) Totals() *source.Totals { return s.sources.Totals() }

// Reshare has sources look at what Totals lets them have: what is too much ends, what waits begins.
func (s *System) Reshare() { s.sources.Reshare() }

// SetPlans says which sources are new and how each is warmed up; it replaces what was set before.
func (s *System) SetPlans(plans map[netip.Addr]*shaping.Plan) { s.sources.SetPlans(plans) }

func (s *System) candidates(pool string) []netip.Addr {
	p := *s.pools.Load()
	if a, ok := p[pool]; ok {
		return a
	}
	return p[DefaultPool]
}

// Halt is for when the store has failed: no final dot is sent from now on, no session begun, and those there are end.
// It may be called more than once, and does not wait. A settlement that the store does not take halts by itself.
func (s *System) Halt() { s.env.Halt(nil) }

// Halted tells whether nothing is sent any more, for good.
func (s *System) Halted() bool { return s.env.IsHalted() }

// haltedWait is how long Stop waits for sessions whose outcomes nobody can keep: no more than they need to hang up.
const haltedWait = time.Second

// Stop lets every session finish its transaction and ends. When ctx ends first, sessions are cut: what they had not
// begun stays queued, what they had is recorded as in doubt. After Halt nothing is waited for that could not be kept.
func (s *System) Stop(ctx context.Context) error {
	var err error
	s.once.Do(func() {
		close(s.stop)
		s.swept.Wait()
		if s.env.IsHalted() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, haltedWait)
			defer cancel()
			s.cancel()
		}
		done := s.sources.Stop()
		select {
		case <-done:
		case <-ctx.Done():
			s.cancel()
			err = fmt.Errorf("stop sessions: %w", ctx.Err())
		}
		s.destinations.Stop()
		s.cancel()
		s.actors.Shutdown()
		s.dispatch.close()
	})
	return err
}

// level passes on what is at least as grave as its floor: the actor library tells more than anybody wants to know.
type level struct {
	slog.Handler
	floor slog.Level
}

// Enabled implements slog.Handler.
func (l level) Enabled(ctx context.Context, v slog.Level) bool {
	return v >= l.floor && l.Handler.Enabled(ctx, v)
}

// WithAttrs implements slog.Handler.
func (l level) WithAttrs(a []slog.Attr) slog.Handler { return level{l.Handler.WithAttrs(a), l.floor} }

// WithGroup implements slog.Handler.
func (l level) WithGroup(n string) slog.Handler { return level{l.Handler.WithGroup(n), l.floor} }
