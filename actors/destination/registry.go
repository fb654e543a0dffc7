package destination

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
)

// Registry knows the destinations that have work: the mail of a tenant to a domain each. It makes one on its first delivery and lets go of it when it has had
// none for a while.
type Registry struct {
	env     *Env
	shell   *Shell
	system  *actor.ActorSystem
	threads actor.Dispatcher
	seed    maphash.Seed
	shards  [64]shard
	nextID  atomic.Uint64
}

type shard struct {
	mu      sync.Mutex
	entries map[mail.Destination]*entry
}

// entry is a destination: the shared half and the actor. Both live and die together.
type entry struct {
	outbox   *Outbox
	pid      *actor.PID
	restarts atomic.Int32
}

// NewRegistry returns an empty registry whose actors live in system and run on threads.
func NewRegistry(system *actor.ActorSystem, threads actor.Dispatcher, env *Env, shell *Shell) *Registry {
	r := &Registry{env: env, shell: shell, system: system, threads: threads, seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].entries = map[mail.Destination]*entry{}
	}
	return r
}

func (r *Registry) props(e *entry) *actor.Props {
	root := r.system.Root
	return actor.PropsFromProducer(func() actor.Actor {
		v := &voice{entry: e, shell: r.shell, machine: NewMachine(e.outbox.domain, r.env)}
		v.send = func(msg any) { root.Send(e.pid, msg) }
		return v
	}, actor.WithGuardian(&revive{entry: e, env: r.env, log: r.shell.Log}), actor.WithDispatcher(r.threads))
}

// revive restarts a destination that failed and counts it.
type revive struct {
	entry *entry
	env   *Env
	log   *slog.Logger
}

// HandleFailure is protoactor's SupervisorStrategy: always restart. The message that failed is lost, which is why no
// message is ever the only copy of anything.
func (s *revive) HandleFailure(_ *actor.ActorSystem, sup actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, msg any) {
	s.entry.restarts.Add(1)
	s.env.Counters.Restarts.Add(1)
	s.log.Error("destination failed and is restarted from the store",
		"destination", s.entry.outbox.dest.String(), "reason", fmt.Sprint(reason), "message", fmt.Sprintf("%T", msg))
	sup.RestartChildren(child)
}

func (r *Registry) shard(d mail.Destination) *shard {
	return &r.shards[maphash.String(r.seed, string(d.Domain))%uint64(len(r.shards))]
}

// Offer hands over deliveries that were just stored. It never blocks, and keeps no reference to jobs itself; bodies
// are shared and must not change.
func (r *Registry) Offer(jobs []mail.Job) {
	now := r.shell.Clock.Now()
	for i := range jobs {
		d := jobs[i].Delivery.Destination()
		s := r.shard(d)
		s.mu.Lock()
		r.entry(s, d, now).outbox.Push(now, &jobs[i])
		s.mu.Unlock()
	}
}

// Recover makes a destination of what the store holds: at the start of a node, once for each. cleaning of the waiting
// deliveries are cleaning mail; due is when the first is due.
func (r *Registry) Recover(d mail.Destination, waiting, cleaning int, due time.Time) {
	now := r.shell.Clock.Now()
	s := r.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := r.entry(s, d, now)
	e.outbox.Recover(waiting, cleaning, due)
	r.system.Root.Send(e.pid, protocol.Restarted{})
}

// entry finds or makes the destination of d; s is locked.
func (r *Registry) entry(s *shard, d mail.Destination, now time.Time) *entry {
	if e, ok := s.entries[d]; ok {
		return e
	}
	e := &entry{}
	d.Domain, d.Tenant = mail.Domain(strings.Clone(string(d.Domain))), strings.Clone(d.Tenant) // not the memory of a whole record
	e.outbox = NewOutbox(d, r.env, func(msg any) { r.system.Root.Send(e.pid, msg) })
	e.outbox.touched = now
	// Named first: the actor may be told of work before Spawn returns.
	id := fmt.Sprintf("destination-%d", r.nextID.Add(1))
	e.pid = r.system.NewLocalPID(id)
	if _, err := r.system.Root.SpawnNamed(r.props(e), id); err != nil {
		r.shell.Log.Error("destination could not be started", "destination", d.String(), "error", err)
	}
	s.entries[d] = e
	return e
}

// Passivate lets go of destinations that have had nothing to do for a while, and tells how many. An Offer cannot slip
// in between: it needs the same lock.
func (r *Registry) Passivate(after time.Duration) int {
	now := r.shell.Clock.Now()
	n := 0
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for d, e := range s.entries {
			if e.outbox.idle(now, after) {
				delete(s.entries, d)
				r.system.Root.Poison(e.pid)
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}

// Look sends a tick to the destinations whose planned look is due. It is to be called about once a second.
func (r *Registry) Look() {
	now := r.shell.Clock.Now()
	r.each(func(e *entry) {
		if e.outbox.LookDue(now) {
			r.system.Root.Send(e.pid, protocol.Ticked{})
		}
	})
}

// Stop ends all destinations. What they hold is in the store.
func (r *Registry) Stop() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for d, e := range s.entries {
			delete(s.entries, d)
			r.system.Root.Poison(e.pid)
		}
		s.mu.Unlock()
	}
}

// Suspend puts a suspension in force for new asks and before every final dot from now on.
func (r *Registry) Suspend(s Suspension) {
	r.env.Suspensions.Add(s)
	r.Changed()
}

// Unsuspend lifts the suspension that matches the same mail.
func (r *Registry) Unsuspend(s Suspension) {
	r.env.Suspensions.Remove(s)
	r.Changed()
}

// Resort puts what waits in memory where it belongs now, and makes every destination look again.
func (r *Registry) Resort() {
	r.each(func(e *entry) { e.outbox.Sort(nil) })
	r.Changed()
}

// Resuspend is Suspend and Unsuspend for what the members agreed on.
func (r *Registry) Resuspend(put, drop []Suspension) {
	r.env.Suspensions.Update(r.shell.Clock.Now(), put, drop)
	r.Changed()
}

// Binds tells what holds d back by itself, whatever its destination does: a suspension, or quiet hours until their end. It
// knows no source: what concerns one is the destination's to tell.
func (r *Registry) Binds(d *mail.Delivery, receiver string) (s *Suspension, until time.Time, quiet bool) {
	now := r.shell.Clock.Now()
	if s = r.env.Suspensions.match(now, d.Domain, receiver, noSource, d); s != nil {
		return s, s.Until, false
	}
	if s = r.env.Suspensions.probing(now, d, receiver); s != nil {
		return s, time.Time{}, false
	}
	until, quiet = r.env.quiet(now, d)
	return nil, until, quiet
}

// Capped tells which speed cap lets nothing of d's mail begin at the moment, and until when; nil = none does. See filter.Cap.
func (r *Registry) Capped(d *mail.Delivery) (of *filter.Cap, until time.Time) {
	return r.env.capped(r.shell.Clock.Now(), d)
}

// Carries tells whether a session has d, or its outcome is about to be durable. It looks at d's own destination alone:
// whoever asks this of much mail must not hold up the rest.
func (r *Registry) Carries(d *mail.Delivery) bool {
	s := r.shard(mail.Destination{Domain: d.Domain})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, to := range [...]mail.Destination{{Domain: d.Domain}, {Domain: d.Domain, Tenant: d.Tenant}} {
		if e, ok := s.entries[to]; ok && e.outbox.carries(d) {
			return true
		}
	}
	return false
}

// Ends is when d's lifetime ends; the zero time = never, or not while its group is stopped.
func (r *Registry) Ends(d *mail.Delivery) time.Time { return r.env.ends(d) }

// Forbids finds the suspension that keeps a question as from a sender from being put to a receiver, whatever its phase:
// who asks is no probe for mail that waits.
func (r *Registry) Forbids(domain mail.Domain, receiver string, source netip.Addr, from mail.Address) (Suspension, bool) {
	d := &mail.Delivery{From: from, Domain: domain}
	for _, s := range r.Suspended() {
		if s.names(domain, receiver, source) && s.concerns(d) {
			return s, true
		}
	}
	return Suspension{}, false
}

// Suspended lists what is in force.
func (r *Registry) Suspended() []Suspension { return r.env.Suspensions.List(r.shell.Clock.Now()) }

// Changed makes every destination look again: a gate, a suspension, the rules or the sources are not what they were.
func (r *Registry) Changed() {
	r.each(func(e *entry) {
		if e.outbox.Reopen(true); r.env.traffic() != nil || e.outbox.filtered() {
			e.outbox.Sort(nil)
		}
		r.system.Root.Send(e.pid, protocol.Changed{})
	})
}

func (r *Registry) each(f func(*entry)) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for _, e := range s.entries {
			f(e)
		}
		s.mu.Unlock()
	}
}

// Len is how many destinations are in memory.
func (r *Registry) Len() int {
	n := 0
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		n += len(s.entries)
		s.mu.Unlock()
	}
	return n
}

// Standing is what an operator sees of a destination.
type Standing struct {
	Domain   mail.Domain
	Tenant   string // "" = of all, see mail.Destination
	Status          // and what binds it
	Cleaning int    // cleaning mail of Waiting and Flight
	Slowed   int    // of InMemory, such as goes as cleaning mail because its tenant's lists are unclean
	Urgent   int    // of InMemory, such as was raised above bulk mail
	Waiting  int    // deliveries without a final outcome that are not in delivery, memory and disk
	InMemory int    // of these, such as are in the window
	Flight   int    // in delivery, or waiting for their outcome to be durable
	Sessions int
	Asked    int
	NextDue  time.Time // of what lies ahead on disk; zero = nothing or unknown
}

// Snapshot tells how each destination in memory stands, those with work only. d narrows it to one domain.
func (r *Registry) Snapshot(d mail.Domain) []Standing {
	var out []Standing
	r.each(func(e *entry) {
		if d != "" && e.outbox.domain != d {
			return
		}
		if s := e.outbox.Standing(); s.Waiting+s.Flight > 0 || d != "" {
			out = append(out, s)
		}
	})
	return out
}

// Standing tells how the destination stands.
func (b *Outbox) Standing() Standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Standing{Domain: b.domain, Tenant: b.dest.Tenant, Status: b.status, Flight: len(b.flight), Cleaning: b.clean, NextDue: b.nextDue}
	for _, f := range b.shelves {
		s.InMemory += len(f.waiting)
		slowed, urgent := f.kinds()
		s.Slowed, s.Urgent = s.Slowed+slowed, s.Urgent+urgent
		s.Sessions += f.sessions
		s.Asked += f.asked
	}
	s.Waiting = max(s.InMemory, b.total-s.Flight)
	return s
}

// kinds counts what waits as cleaning mail without having asked for it, and what was raised above bulk mail.
func (s *shelf) kinds() (slowed, urgent int) {
	for i := range s.waiting {
		r := &s.waiting[i]
		if s.cleaning && !r.p.Job.Delivery.Cleaning {
			slowed++
		}
		if r.rank < 255-bulk {
			urgent++
		}
	}
	return slowed, urgent
}
