package faults

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// asleepFor is how long a member is stopped: longer than its lease and a takeover.
const asleepFor = 30 * time.Second

// Asleep stops one of three members with SIGSTOP under load and lets it go on after 30 seconds, cfg.Runs times. Its queue is
// taken over meanwhile; when it wakes it may finish one message per connection that was past its last check, and no more.
func Asleep(ctx context.Context, cfg Config) (Report, error) {
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	defer remove()
	cfg.Runs, cfg.Messages = or(cfg.Runs, 3), or(cfg.Messages, 10_000)
	cfg.say("asleep: %d runs from seed %d, backlog %d", cfg.Runs, cfg.Seed, cfg.Messages)
	var r Report
	var worst, bound, lost, accepted int
	for run := range cfg.Runs {
		sum, open, err := cfg.asleep(ctx, run, &r)
		if err != nil {
			return r, fmt.Errorf("asleep: run %d of seed %d: %w", run, cfg.Seed, err)
		}
		cfg.say("asleep run=%d accepted=%d lost=%d dup=%d open=%d", run, sum.Accepted, sum.Lost, sum.copies, open)
		if sum.copies > open {
			r.broke("run %d: %d copies, but only %d connections were open", run, sum.copies, open)
		}
		worst, bound, lost, accepted = max(worst, sum.copies), max(bound, open), lost+sum.Lost+sum.Refused, accepted+sum.Accepted
	}
	r.Line = fmt.Sprintf("faults asleep runs=%d messages=%d lost=%d dup_max=%d open_max=%d seed=%d", cfg.Runs, accepted, lost, worst, bound, cfg.Seed)
	return r, nil
}

func (c Config) asleep(ctx context.Context, run int, r *Report) (sum tally, open int, err error) {
	rng := c.dice(run)
	t, err := c.newTrio(ctx, fmt.Sprintf("asleep%d", run), rng, nil)
	if err != nil {
		return sum, 0, err
	}
	defer t.close()
	victim := t.Members[rng.IntN(len(t.Members))]
	// Slow enough that the member is stopped in the middle of its work.
	s, err := c.sink(ctx, t.sinkAt, t.record, "--latency", "100ms")
	if err != nil {
		return sum, 0, err
	}
	defer s.Kill()
	backlog := t.load(ctx, victim, load.Config{Messages: c.Messages, Sessions: 50, Domains: 20, Pipeline: true,
		Prefix: fmt.Sprintf("a%d-%d-", c.Seed, run), Timeout: quiet})
	defer backlog.stop()
	if err := backlog.wait(ctx); err != nil {
		return sum, 0, fmt.Errorf("backlog: %w", err)
	}
	if err := rest(ctx, 100*time.Millisecond+time.Duration(rng.IntN(2000))*time.Millisecond); err != nil {
		return sum, 0, err
	}
	victim.Signal(syscall.SIGSTOP)
	stopped := clock.Wall()
	before, err := s.counters(ctx)
	if err != nil {
		return sum, 0, err
	}
	if err := rest(ctx, asleepFor-clock.Since(stopped)); err != nil {
		return sum, 0, err
	}
	victim.Signal(syscall.SIGCONT)
	if sum, err = t.verdict(ctx, s, r, fmt.Sprintf("run %d", run)); err != nil {
		return sum, 0, err
	}
	// One per connection may be past its last check when the member is stopped, and one per connection was in doubt then.
	return sum, 2 * int(before.MaxOpen), nil
}
