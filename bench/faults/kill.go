package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/hooks"
	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// maxRunsOfLife is how many kills one data directory lives through before a fresh one is made.
const maxRunsOfLife = 8

// postsInFlight is how many posts of each of the three types the engine may not know to be taken: docs/settings.md.
const postsInFlight = 3 * 8

// killed is what one run came to.
type killed struct {
	accepted int
	lost     int
	wrong    int
	copies   int           // that this kill made
	open     int           // connections to the receivers at once before the kill: the bound on copies
	restart  time.Duration // from the kill to the ready line
	peace    time.Duration // of the graceful stop at the end
	posted   hooks.Verdict // what webhooks told; nothing without them
}

// Kill kills the engine with SIGKILL at random moments under full load and restarts it at once, cfg.Runs times
// (goal R1 of the protocol): nothing acknowledged may be lost or changed, copies may not pass the open transactions.
func Kill(ctx context.Context, cfg Config) (Report, error) {
	return kills(ctx, cfg, "kill", 100, false)
}

// Webhooks is Kill with a receiver of every event beside it (issue 5, requirement R141): of whatever was accepted it must
// hear each event, and hear it again only where the engine cannot know that it was taken, in the same post under the
// same name.
func Webhooks(ctx context.Context, cfg Config) (Report, error) {
	return kills(ctx, cfg, "webhooks", 20, true)
}

func kills(ctx context.Context, cfg Config, name string, often int, posts bool) (Report, error) {
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	defer remove()
	cfg.Runs = or(cfg.Runs, often)
	cfg.say(name+": %d runs from seed %d", cfg.Runs, cfg.Seed)
	var r Report
	var restarts []time.Duration
	var worst, bound, lost, wrong, messages, runs, events, again int
	var l *life
	var before tally
	defer func() {
		if l != nil {
			l.close()
		}
	}()
	for age := 0; runs < cfg.Runs; runs++ {
		rng := cfg.dice(runs)
		if l == nil || age >= maxRunsOfLife || rng.IntN(3) == 0 {
			if l != nil {
				l.close()
			}
			if l, err = cfg.newLife(fmt.Sprintf("life%d", runs), rng); err != nil {
				return r, err
			}
			if posts {
				if err := l.listen(); err != nil {
					return r, err
				}
			}
			age, before = 0, tally{}
		}
		age++
		k, after, err := l.kill(ctx, runs, rng, before, &r)
		if err != nil {
			return r, fmt.Errorf("kill: run %d of seed %d: %w", runs, cfg.Seed, err)
		}
		cfg.say(name+" run=%d age=%d accepted=%d lost=%d dup=%d bound=%d wrong=%d restart_ms=%d stop_ms=%d",
			runs, age, k.accepted, k.lost, k.copies, k.open, k.wrong, k.restart.Milliseconds(), k.peace.Milliseconds())
		before = after
		restarts = append(restarts, k.restart)
		messages += k.accepted
		events, again = events+k.posted.Events, again+k.posted.Again
		lost, wrong = lost+k.lost, wrong+k.wrong
		worst, bound = max(worst, k.copies), max(bound, k.open)
	}
	middle, largest := median(restarts)
	r.Line = fmt.Sprintf("faults "+name+" runs=%d messages=%d lost=%d dup_max=%d bound=%d wrong=%d restart_ms_p50=%d restart_ms_max=%d seed=%d",
		runs, messages, lost, worst, bound, wrong, middle, largest, cfg.Seed)
	if posts {
		r.Line += fmt.Sprintf(" hook_events=%d hook_posts_again=%d", events, again)
	}
	return r, nil
}

// kill is one run. before is what the life had come to when it began.
func (l *life) kill(ctx context.Context, run int, rng *rand.Rand, before tally, r *Report) (k killed, after tally, err error) {
	s, err := l.sink(ctx, "--latency", fmt.Sprint(time.Duration(rng.IntN(20))*time.Millisecond))
	if err != nil {
		return k, after, err
	}
	defer s.Kill()
	e, err := l.start(ctx)
	if err != nil {
		return k, after, err
	}
	defer func() { e.Crash() }()
	messages := 3000 + rng.IntN(17001)
	if l.cfg.Messages > 0 {
		messages = l.cfg.Messages/2 + rng.IntN(l.cfg.Messages)
	}
	moment, delay := messages/50+rng.IntN(messages*9/10), time.Duration(rng.IntN(20000))*time.Microsecond
	run1 := l.load(ctx, load.Config{
		Messages: messages, Sessions: 50 + rng.IntN(51), Size: 500 + rng.IntN(4000), Domains: 1 + rng.IntN(20), Pipeline: rng.IntN(2) == 0,
		Prefix: fmt.Sprintf("k%d-%d", l.cfg.Seed, run), Reconnect: quiet, Timeout: quiet,
	})
	defer run1.stop()
	if err := l.strike(ctx, e, run1, moment, delay); err != nil {
		return k, after, err
	}
	struck := clock.Wall()
	e.Crash()
	// Asked now: a connection may have come up to the last moment, and the next engine has none yet.
	c, err := s.counters(ctx)
	if err != nil {
		return k, after, err
	}
	k.open = int(c.MaxOpen)
	again, err := l.start(ctx)
	if err != nil {
		return k, after, fmt.Errorf("restart: %w", err)
	}
	e = again
	k.restart = clock.Since(struck)
	if err := run1.wait(ctx); err != nil {
		return k, after, fmt.Errorf("load: %w", err)
	}
	if err := drained(ctx, e, s); err != nil {
		r.broke("run %d: %v", run, err)
	}
	if err := l.posted(ctx, e, &k, r, run); err != nil {
		return k, after, err
	}
	begin := clock.Wall()
	if err := e.Stop(); err != nil {
		r.broke("run %d: graceful stop: %v", run, err)
	}
	if k.peace = clock.Since(begin); k.peace > 10*time.Second {
		r.broke("run %d: graceful stop took %s", run, k.peace)
	}
	if err := s.Stop(); err != nil {
		return k, after, err
	}
	if after, err = check(l.ledger, l.record); err != nil {
		return k, after, err
	}
	after.judge(r, fmt.Sprintf("run %d", run))
	k.accepted, k.lost, k.wrong = after.Accepted-before.Accepted, after.Lost+after.Refused-before.Lost-before.Refused, after.Wrong+after.altered-before.Wrong-before.altered
	if k.copies = after.copies - before.copies; k.copies > k.open {
		r.broke("run %d: %d copies, but only %d transactions can have been open", run, k.copies, k.open)
	}
	return k, after, nil
}

// posted waits until the webhooks say no more, and holds what they said against the ledger.
func (l *life) posted(ctx context.Context, e *engine.Engine, k *killed, r *Report, run int) error {
	if l.hooks == nil {
		return nil
	}
	err := until(ctx, e, quiet, "the webhooks", func() bool {
		m, err := e.Metrics(ctx)
		return err == nil && m.Sum("ekiden_webhook_lag_seconds") == 0 && clock.Since(l.hooks.Last()) > still
	})
	if err != nil {
		r.broke("run %d: %v", run, err)
	}
	all, err := l.hooks.Check(l.ledger) // of every run of this life
	if err != nil {
		return err
	}
	if !all.OK() {
		r.broke("run %d: webhooks: %d events lost, %d in two posts, %d posts again in other words: %.300q", run, all.Lost,
			all.Repeated, all.Changed, all.Examples)
	}
	k.posted = hooks.Verdict{Events: all.Events - l.told.Events, Again: all.Again - l.told.Again}
	l.told = all
	if k.posted.Again > postsInFlight {
		r.broke("run %d: %d posts came again, but only %d can have been in flight", run, k.posted.Again, postsInFlight)
	}
	return nil
}

// strike waits for the moment to kill: so many 250s, and a delay that falls anywhere in what follows.
func (l *life) strike(ctx context.Context, e *engine.Engine, run *loading, moment int, delay time.Duration) error {
	book := tail{path: l.ledger}
	if err := book.look(); err != nil {
		return err
	}
	target := book.lines + moment
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for book.lines < target {
		select {
		case <-tick.C:
		case <-run.done:
			return fmt.Errorf("load ended before the moment to strike: %w", run.err)
		case <-e.Ended():
			return fmt.Errorf("before it was struck: %w", errDied)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := book.look(); err != nil {
			return err
		}
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
