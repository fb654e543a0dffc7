package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/bench/progress"
	"github.com/ekiden-mta/ekiden/bench/sim"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// errGoals ends a series that does not use the receivers' quotas as well as it should.
var errGoals = errors.New("a goal was missed")

// Figures of a series of runs with the receivers that hide a quota.
const (
	// paceBudget is the fake time of all runs together with one receiver where nothing else is asked for: two cores play it
	// with all seven in five to ten minutes.
	paceBudget = 50 * 24 * time.Hour
	paceMost   = 7 * 24 * time.Hour // of one run
	paceLeast  = 6 * time.Hour      // of one run: the first hour does not count

	// paceGC is how much garbage there may be, percent of what lives: a few megabytes do, so that all of it takes about a
	// hundred, and collecting it next to no time.
	paceGC = 1000

	paceLine = 10 * time.Second // between two lines of progress that is not drawn
)

// paceFor is the fake time with each receiver in each of so many runs, where nothing else is asked for.
func paceFor(runs int) time.Duration {
	return min(max((paceBudget/time.Duration(max(runs, 1))).Truncate(time.Hour), paceLeast), paceMost)
}

// series is runs with the receivers that hide a quota.
type series struct {
	models []sim.Model
	length time.Duration
	plays  []play
	whole  float64 // effort of all plays
	began  time.Time
}

// play is one run with one receiver.
type play struct {
	seed   int64
	model  int
	effort float64
	played atomic.Int64 // fake time
	result sim.PaceResult
}

// newSeries is all runs, by seed and receiver.
func newSeries(seed int64, runs int, length time.Duration, kinds bool, rules *bounce.Rules) *series {
	s := &series{models: sim.Models(), length: length}
	for i := range s.models {
		s.models[i].Kinds = kinds
	}
	s.plays = make([]play, runs*len(s.models))
	for i := range s.plays {
		p := &s.plays[i]
		p.seed, p.model = seed+int64(i/len(s.models)), i%len(s.models)
		p.effort = sim.Effort(p.seed, &s.models[p.model], rules, length)
		s.whole += p.effort
	}
	return s
}

// run plays them, one on each core at a time, those that take longest first: no core is idle at the end.
func (s *series) run(ctx context.Context, rules *bounce.Rules) {
	order := make([]*play, len(s.plays))
	for i := range s.plays {
		order[i] = &s.plays[i]
	}
	slices.SortStableFunc(order, func(a, b *play) int { return cmp.Compare(b.effort, a.effort) })
	defer debug.SetGCPercent(debug.SetGCPercent(paceGC))
	var next atomic.Int64
	var cores sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		cores.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(order) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				p := order[i]
				p.result = sim.Pace(p.seed, &s.models[p.model], rules, s.length, func(played time.Duration) bool {
					p.played.Store(int64(played))
					return ctx.Err() == nil
				})
				p.played.Store(int64(s.length))
			}
		})
	}
	cores.Wait()
}

// show draws how far it is until done.
func (s *series) show(d *progress.Display, done <-chan struct{}) {
	tick := time.NewTicker(d.Every())
	defer tick.Stop()
	for {
		select {
		case <-done:
			if d.Terminal {
				s.draw(d, clock.Since(s.began))
			}
			return
		case <-tick.C:
			s.draw(d, clock.Since(s.began))
		}
	}
}

// draw shows how far it is after so long.
func (s *series) draw(d *progress.Display, took time.Duration) {
	played, done := make([]time.Duration, len(s.models)), 0.0
	for i := range s.plays {
		p := &s.plays[i]
		at := time.Duration(p.played.Load())
		played[p.model] += at
		done += p.effort * at.Seconds() / s.length.Seconds()
	}
	part := min(done/max(s.whole, 1), 1)
	head := fmt.Sprintf("%4s  %3.0f %%", took.Round(time.Second), 100*part)
	if part > 0.01 {
		head += fmt.Sprintf("  about %s left", time.Duration(float64(took)*(1-part)/part).Round(time.Second))
	}
	runs := len(s.plays) / len(s.models)
	if !d.Terminal {
		var b strings.Builder
		for i := range s.models {
			fmt.Fprintf(&b, " %s %.1f", s.models[i].Name, played[i].Seconds()/s.length.Seconds())
		}
		fmt.Fprintf(d.Out, "%s  runs of %d:%s\n", head, runs, b.String())
		return
	}
	lines := []string{head, progress.Bar(part, 1, d.Columns()-2)}
	for i := range s.models {
		n := played[i].Seconds() / s.length.Seconds()
		lines = append(lines, fmt.Sprintf("%-9s %s %5.1f of %d runs of %s", s.models[i].Name, progress.Bar(n, float64(runs), 20), n, runs, hours(s.length)))
	}
	d.Draw(lines...)
}

// hours is a time as --pace takes it, without what is nothing.
func hours(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}

// pace plays the receivers that hide a quota and reports. Progress goes where errors go, so that the report can be kept.
func (c *simCommand) pace(ctx context.Context, io *streams, length time.Duration) error {
	rules, err := bounce.New()
	if err != nil {
		return err
	}
	s := newSeries(c.Seed, c.Runs, length, c.Kinds, rules)
	d := &progress.Display{Out: io.err, Plain: paceLine}
	d.Terminal, d.Width = terminal(io.err)
	s.began = clock.Wall()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx, rules)
	}()
	s.show(d, done)
	if err := ctx.Err(); err != nil {
		return err
	}
	runs := make([]sim.PaceResult, len(s.plays))
	for i := range s.plays {
		runs[i] = s.plays[i].result
		if r := &runs[i]; r.Err != nil {
			fmt.Fprintf(io.err, "seed %d, %s: %v\n", r.Seed, r.Receiver, r.Err)
			return errSim
		}
	}
	if c.JSON {
		return io.json(runs)
	}
	fmt.Fprintf(io.out, "pace seeds=%d..%d runs=%d fake_time=%s for each receiver and run\n", c.Seed, c.Seed+int64(c.Runs)-1, c.Runs, hours(length))
	missed, err := sim.Report(io.out, runs)
	if err != nil || missed == nil {
		return err
	}
	return fmt.Errorf("%w: %s", errGoals, strings.Join(missed, "; "))
}
