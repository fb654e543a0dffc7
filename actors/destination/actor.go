package destination

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Shell is what the actors need to carry out what their machines decide.
type Shell struct {
	Clock    *clock.Clock
	Log      *slog.Logger
	Resolver protocol.Resolver
	Rules    func() *shaping.Rules
	Ask      func(source netip.Addr, a protocol.Ask)    // hands an ask to a source
	Relimit  func(source netip.Addr, l *shaping.Limits) // tells a source of limits that may be new
	Context  context.Context                            // ends when the node gives up waiting
	Lookups  chan struct{}                              // one token per resolution that may be under way
	Hook     func(d mail.Domain, msg any)               // tests: called before each step; nil = none
}

// voice is the protoactor shell of one destination's Machine.
type voice struct {
	entry   *entry
	shell   *Shell
	machine *Machine
	send    func(any) // to itself
	view    View
	timer   *clock.Timer
	armed   time.Time // when timer goes off; zero = it does not
}

// Receive runs one step for each message of the dialogue.
func (v *voice) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		if v.entry.restarts.Load() == 0 {
			return
		}
		// What failed may fail again at once; every further time it waits a little longer.
		wait := min(10*time.Millisecond<<min(v.entry.restarts.Load(), 10), 10*time.Second)
		v.entry.outbox.Recover(0, 0, time.Time{})
		v.entry.outbox.Note(Plan{Quiet: true, Alarm: v.shell.Clock.Now().Add(wait)})
		v.timer = v.shell.Clock.At(v.shell.Clock.Now().Add(wait), func() { v.send(protocol.Restarted{}) })
	case *actor.Stopping, *actor.Restarting:
		v.timer.Stop()
	case *actor.Stopped, *actor.Terminated:
	default:
		v.step(msg)
	}
}

func (v *voice) step(msg any) {
	if v.shell.Hook != nil {
		v.shell.Hook(v.entry.outbox.domain, msg)
	}
	now := v.shell.Clock.Now()
	if _, ok := msg.(protocol.Ticked); ok {
		v.armed = time.Time{}
	}
	v.entry.outbox.Look(now, &v.view)
	effects, plan := v.machine.Step(now, msg, &v.view)
	for i := range effects {
		v.run(now, &effects[i])
	}
	v.arm(now, plan.Alarm)
	if v.entry.outbox.Note(plan) {
		v.send(protocol.Arrived{})
	}
}

// arm sees to a tick by at. An earlier alarm that is set already does as well: the machine will ask for a later one.
func (v *voice) arm(now, at time.Time) {
	if at.IsZero() || (!v.armed.IsZero() && !at.Before(v.armed)) {
		return
	}
	v.timer.Stop()
	v.armed = at
	v.timer = v.shell.Clock.At(later(at, now), func() { v.send(protocol.Ticked{}) })
}

func (v *voice) run(now time.Time, e *Effect) {
	b := v.entry.outbox
	switch e.Kind {
	case EffectResolve:
		go v.resolve()
	case EffectLoad:
		if l, ok := b.BeginLoad(now); ok {
			go v.load(l)
		}
	case EffectAsk:
		b.Asking(e.Shelf, e.Want)
		v.shell.Ask(e.Source, protocol.Ask{Outbox: b, Shelf: e.Shelf, Want: e.Want, Route: e.Route, Key: e.Key,
			Limits: e.Limits, Deadline: e.Deadline, Tenant: e.Tenant, Ahead: e.Ahead, Rides: e.Rides})
	case EffectRelimit:
		v.shell.Relimit(e.Source, e.Limits)
	case EffectForget:
		b.Forget()
	case EffectDismiss:
		b.Dismiss(now, e.Outcome, e.Receiver, e.N, e.Shelf)
	case EffectSweep:
		b.Sweep(now, v.machine.Receiver(), e.N)
	case EffectReopen:
		b.Reopen(false)
	case EffectSort:
		b.Sort(e.Route.Hosts)
		v.send(protocol.Arrived{}) // the machine has seen it as it was
	}
}

// resolve finds the route in a goroutine of its own; there are only so many at once.
func (v *voice) resolve() {
	v.shell.Lookups <- struct{}{}
	defer func() { <-v.shell.Lookups }()
	d := v.entry.outbox.domain
	route, outcome := v.shell.Resolver.Route(v.shell.Context, d)
	r := protocol.Resolved{Route: route, Outcome: outcome}
	if outcome.Result == 0 {
		limits := v.shell.Rules().ByRoute(d, route)
		r.Key, r.Limits = route.Key(), &limits
	}
	v.send(r)
}

// load scans the disk in a goroutine of its own.
func (v *voice) load(l Load) {
	b := v.entry.outbox
	ds, next, more, due, err := b.env.Queue.Scan(b.dest, l.Cursor, l.Until, l.N)
	if err != nil {
		v.shell.Log.Error("scan failed", "destination", b.dest.String(), "error", err)
		b.FailLoad()
	} else {
		b.Merge(v.shell.Clock.Now(), ds, next, more, due)
	}
	v.send(protocol.Loaded{Err: err})
}
