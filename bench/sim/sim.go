// Package sim runs the negotiation in fake time on one thread: the destinations' machines and outboxes, the sources'
// books and policy/shaping exactly as the engine runs them, against scripted receivers, with faults, under a seed.
//
// It must never read a clock, start a goroutine or draw from anything but its seed: a run is a function of its seed, so
// that a failure can be replayed. Read sim.go for the run, world.go for the machinery, receiver.go for the other side,
// check.go for what must hold.
package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ekiden-mta/ekiden/actors/actorstest"
	"github.com/ekiden-mta/ekiden/mail"
)

// Config is the size of a run. The zero value is a small run with every fault.
type Config struct {
	Domains   int           // default 12
	Receivers int           // default 5
	Sources   int           // default 3
	Messages  int           // default 400
	Script    time.Duration // how long messages arrive and faults happen; default 20 min
	Lifetime  time.Duration // of a message; default 2 h
	Limit     time.Duration // how long after the script everything must be settled; default 48 h
	NoFaults  bool
}

func (c *Config) defaults() {
	set(&c.Domains, 12)
	set(&c.Receivers, 5)
	set(&c.Sources, 3)
	set(&c.Messages, 400)
	set(&c.Script, 20*time.Minute)
	set(&c.Lifetime, 2*time.Hour)
	set(&c.Limit, 48*time.Hour)
}

func set[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Result is what a run came to.
type Result struct {
	Seed                              int64
	Steps                             int
	Took                              time.Duration // fake time until everything was settled
	Accepted, Delivered, Failed       int
	Sessions, Restarts, Blocks, Doubt int
	Err                               error
}

// Replay is the command that runs the same again.
func (r Result) Replay() string { return fmt.Sprintf("ekiden-bench sim --seed %d --runs 1", r.Seed) }

func (r Result) String() string {
	if r.Err != nil {
		return fmt.Sprintf("sim seed=%d steps=%d FAILED: %v (replay: %s)", r.Seed, r.Steps, r.Err, r.Replay())
	}
	return fmt.Sprintf("sim seed=%d steps=%d took=%s accepted=%d delivered=%d failed=%d sessions=%d restarts=%d blocks=%d in_doubt=%d",
		r.Seed, r.Steps, r.Took.Round(time.Second), r.Accepted, r.Delivered, r.Failed, r.Sessions, r.Restarts, r.Blocks, r.Doubt)
}

// maxSteps ends a run that does not.
const maxSteps = 20_000_000

// Run plays one seed.
func Run(seed int64, cfg Config) Result {
	cfg.defaults()
	w := newWorld(seed, cfg)
	w.script()
	for w.fault == nil && w.step() {
		if w.steps > maxSteps {
			w.fail(errors.New("the run does not come to an end"))
		}
		if w.accepted == cfg.Messages && w.queue.Finals() == w.accepted {
			break
		}
	}
	w.checkEnd()
	return w.result()
}

// script schedules what happens from outside: arrivals, moods of receivers, faults.
func (w *world) script() {
	span := w.cfg.Script
	for range w.cfg.Messages {
		w.after(w.upTo(span), w.arrive)
	}
	for _, r := range w.receivers {
		for range 6 {
			w.after(w.upTo(span), func() { r.mood = mood(w.rng.IntN(int(moods))) })
		}
		w.after(span, func() { r.mood = well })
	}
	if w.cfg.NoFaults {
		return
	}
	for range 6 {
		w.after(w.upTo(span), w.crashDestination)
		w.after(w.upTo(span), w.crashSource)
		w.after(w.upTo(span), w.loseCourier)
	}
	for range 2 {
		w.after(w.upTo(span), w.crashNode)
		w.after(w.upTo(span), w.suspend)
	}
}

func (w *world) arrive() {
	w.seq++
	w.accepted++
	d := mail.Delivery{Seq: w.seq, Message: mail.MessageID{Lineage: 1, Seq: w.seq}, Tenant: []string{"a", "b"}[w.rng.IntN(2)],
		Pool: "default", Domain: w.domains[w.rng.IntN(len(w.domains))], Due: w.now, Expires: w.now.Add(w.cfg.Lifetime),
		RetryEvery: time.Minute, Priority: []uint8{50, 50, 50, 10, 90}[w.rng.IntN(5)], Size: 3}
	if w.rng.IntN(10) == 0 { // a reservation
		d.Due = w.now.Add(w.upTo(10 * time.Minute)).Truncate(time.Millisecond)
		d.Expires = d.Due.Add(w.cfg.Lifetime)
	}
	w.queue.Put([]byte("x\r\n"), d)
	node := w.node
	delay := 20 * time.Millisecond
	if w.rng.IntN(10) == 0 {
		delay = 5 * time.Second
	}
	w.after(w.upTo(delay), func() { // the offer comes later than the commit, or never
		if w.node == node {
			w.dest(d.Domain).box.Push(w.now, &mail.Job{Delivery: d, Body: []byte("x\r\n")})
		}
	})
}

// newRand gives the source of all chance.
func newRand(seed int64) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 0x656b6964656e)) }

func newQueue() *actorstest.Queue {
	q := actorstest.NewQueue(false)
	q.Manual = true
	return q
}
