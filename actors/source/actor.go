package source

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Sources are the source actors of a node, one per address, made when first asked.
type Sources struct {
	system   *actor.ActorSystem
	threads  actor.Dispatcher
	cfg      Config
	run      *Runner
	counters *Counters
	Hook     func(source netip.Addr, msg any) // tests: called before each step; set before the first Ask

	mu   sync.Mutex
	all  map[netip.Addr]*warden
	wait sync.WaitGroup // sessions with a goroutine
	stop bool
	halt bool // grant nothing any more

	plans map[netip.Addr]*shaping.Plan             // of warm-up
	past  map[netip.Addr]map[string]shaping.Memory // of sources that nobody has asked yet
}

// warden is a source: the book, which outlives a failing actor, and the actor.
type warden struct {
	all      *Sources
	book     *Book
	pid      *actor.PID
	restarts atomic.Int32
}

// NewSources returns no sources yet.
func NewSources(system *actor.ActorSystem, threads actor.Dispatcher, cfg Config, run *Runner, counters *Counters) *Sources {
	cfg.Defaults()
	if cfg.Hints == nil {
		cfg.Hints = NewHints()
	}
	return &Sources{system: system, threads: threads, cfg: cfg, run: run, counters: counters, all: map[netip.Addr]*warden{}}
}

// Ask hands an ask to a source.
func (x *Sources) Ask(source netip.Addr, a protocol.Ask) { x.system.Root.Send(x.warden(source).pid, a) }

// Relimit tells a source of a receiver's limits that may be new.
func (x *Sources) Relimit(source netip.Addr, l *shaping.Limits) {
	x.mu.Lock()
	w := x.all[source]
	x.mu.Unlock()
	if w != nil {
		x.system.Root.Send(w.pid, protocol.Relimited{Limits: l})
	}
}

func (x *Sources) warden(source netip.Addr) *warden {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w, ok := x.all[source]; ok {
		return w
	}
	w := &warden{all: x, book: NewBook(source, &x.cfg, x.counters)}
	w.book.stopping = x.stop || x.halt
	w.book.plan = x.plans[source]
	w.book.Remind(x.run.Clock.Now(), x.past[source])
	delete(x.past, source)
	x.all[source] = w
	id := "source-" + source.String()
	w.pid = x.system.NewLocalPID(id)
	props := actor.PropsFromProducer(func() actor.Actor { return (*voice)(w) },
		actor.WithGuardian(&revive{warden: w, log: x.run.Log}), actor.WithDispatcher(x.threads))
	if _, err := x.system.Root.SpawnNamed(props, id); err != nil {
		x.run.Log.Error("source could not be started", "source", source.String(), "error", err)
	}
	return w
}

// revive restarts a source that failed and counts it.
type revive struct {
	warden *warden
	log    *slog.Logger
}

// HandleFailure is protoactor's SupervisorStrategy: always restart. What the lost message said is found again in the
// book (recover), or asked again when its deadline passes.
func (s *revive) HandleFailure(_ *actor.ActorSystem, sup actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, msg any) {
	s.warden.restarts.Add(1)
	s.warden.all.counters.Restarts.Add(1)
	s.log.Error("source failed and is restarted", "source", s.warden.book.source.String(),
		"reason", fmt.Sprint(reason), "message", fmt.Sprintf("%T", msg))
	sup.RestartChildren(child)
}

// voice is the protoactor shell of one source's Book.
type voice warden

// Receive runs one step for each message of the dialogue.
func (v *voice) Receive(ctx actor.Context) {
	w := (*warden)(v)
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		if w.restarts.Load() > 0 {
			w.step(protocol.Restarted{})
		}
	case *actor.Stopping, *actor.Stopped, *actor.Restarting, *actor.Terminated:
	default:
		if w.all.Hook != nil {
			w.all.Hook(w.book.source, msg)
		}
		w.step(msg)
	}
}

func (w *warden) step(msg any) {
	w.act(w.book.Step(w.all.run.Clock.Now(), msg))
}

// act carries out effects, on whatever goroutine they came about.
func (w *warden) act(effects []Effect) {
	for i := range effects {
		e := &effects[i]
		switch e.Kind {
		case EffectStart:
			w.start(e.Session)
		case EffectWake:
			e.Session.Wake()
		case EffectRefuse:
			e.Outbox.Withdraw(e.Shelf, e.Want)
			e.Outbox.Tell(e.Refused)
		case EffectAlarm:
			w.all.run.Clock.At(e.At, func() { w.all.system.Root.Send(w.pid, protocol.Ticked{}) })
		case EffectLook:
			w.all.run.Clock.At(e.At, func() { w.all.system.Root.Send(w.pid, protocol.Looked{}) })
		}
	}
}

// start gives a session its goroutine, once.
func (w *warden) start(s *Session) {
	if !s.Begin() {
		return
	}
	w.all.mu.Lock()
	if !w.all.stop {
		w.all.wait.Add(1)
	} else {
		s.quit.Store(true)
	}
	counted := !w.all.stop
	w.all.mu.Unlock()
	go func() {
		if counted {
			defer w.all.wait.Done()
		}
		w.all.run.carry(w.book, s, w.act, func(m protocol.Reported) { w.all.system.Root.Send(w.pid, m) })
	}()
}

// Halt grants nothing any more, and has every session end with its present transaction. It does not wait.
func (x *Sources) Halt() {
	x.stopBooks(&x.halt)
}

// stopBooks sets one of the flags and stops every book there is; those that come stop at once.
func (x *Sources) stopBooks(flag *bool) []*warden {
	x.mu.Lock()
	*flag = true
	wardens := slices.Collect(maps.Values(x.all))
	x.mu.Unlock()
	for _, w := range wardens {
		w.act(w.book.Stop(x.run.Clock.Now()))
	}
	return wardens
}

// Stop starts no more sessions, ends the idle ones, and returns a channel that closes when the last one has ended.
func (x *Sources) Stop() <-chan struct{} {
	wardens := x.stopBooks(&x.stop)
	done := make(chan struct{})
	go func() {
		x.wait.Wait()
		for _, w := range wardens {
			x.system.Root.Poison(w.pid)
		}
		close(done)
	}()
	return done
}

// Forget drops what nobody has used for a while.
func (x *Sources) Forget(after time.Duration) {
	now := x.run.Clock.Now()
	x.each(func(w *warden) { w.book.Forget(now, after) })
}

// Hints is what sources tell one another about receivers.
func (x *Sources) Hints() *Hints { return x.cfg.Hints }

// Totals is what the sources have together of receivers' limits.
func (x *Sources) Totals() *Totals { return x.cfg.Totals }

// Reshare has the sources keep to what Totals says they may have now: what is too much ends, what waits begins.
func (x *Sources) Reshare() {
	x.each(func(w *warden) { x.system.Root.Send(w.pid, protocol.Reshared{}) })
}

// SetPlans says which sources are new, and how they are warmed up; it replaces what was set before.
func (x *Sources) SetPlans(plans map[netip.Addr]*shaping.Plan) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.plans = plans
	for addr, w := range x.all {
		w.book.mu.Lock()
		w.book.plan = plans[addr]
		w.book.mu.Unlock()
	}
}

// Memories returns what all sources learned about their receivers.
func (x *Sources) Memories() map[netip.Addr]map[string]shaping.Memory {
	now := x.run.Clock.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	out := maps.Clone(x.past)
	if out == nil {
		out = map[netip.Addr]map[string]shaping.Memory{}
	}
	for addr, w := range x.all {
		if all := w.book.Memories(now); len(all) > 0 {
			out[addr] = all
		}
	}
	return out
}

// Remind gives back what Memories returned, before the first ask.
func (x *Sources) Remind(all map[netip.Addr]map[string]shaping.Memory) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.past = all
}

// Lift ends the block of a receiver at a source before its time; it tells whether there was one.
func (x *Sources) Lift(source netip.Addr, receiver string) bool {
	x.mu.Lock()
	w := x.all[source]
	x.mu.Unlock()
	if w == nil {
		return false
	}
	found, effects := w.book.Lift(x.run.Clock.Now(), receiver)
	w.act(effects)
	return found
}

// Report is how one source stands to its receivers.
type Report struct {
	Source    netip.Addr
	Receivers []Standing
}

// Snapshot lists the sources.
func (x *Sources) Snapshot() []Report {
	var out []Report
	now := x.run.Clock.Now()
	x.each(func(w *warden) { out = append(out, Report{Source: w.book.source, Receivers: w.book.Snapshot(now)}) })
	return out
}

func (x *Sources) each(f func(*warden)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, w := range x.all {
		f(w)
	}
}
