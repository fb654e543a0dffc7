package faults

import (
	"context"
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

const adminService = "/ekiden.admin.v1.AdminService/"

// Rolling restarts every member of a cluster of three in turn under load, as an upgrade does: drain, stop, start. Nothing is
// lost and nothing is sent twice, because what a member had is handed over by its own consent.
func Rolling(ctx context.Context, cfg Config) (Report, error) {
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	defer remove()
	cfg.Runs, cfg.Messages = or(cfg.Runs, 3), or(cfg.Messages, 500)
	cfg.say("rolling: %d rounds from seed %d, %d messages/s at each member", cfg.Runs, cfg.Seed, cfg.Messages)
	var r Report
	t, err := cfg.newTrio(ctx, "rolling", cfg.dice(0), nil)
	if err != nil {
		return r, err
	}
	defer t.close()
	s, err := cfg.sink(ctx, t.sinkAt, t.record, "--latency", "2ms")
	if err != nil {
		return r, err
	}
	defer s.Kill()
	var longest time.Duration
	for round := range cfg.Runs {
		var runs []*loading
		for _, m := range t.Members {
			l := t.load(ctx, m, load.Config{Messages: 1e8, Rate: float64(cfg.Messages), Sessions: 10, Domains: 20,
				Prefix: fmt.Sprintf("r%d-%d-%s-", cfg.Seed, round, m.Name), Reconnect: quiet, Timeout: quiet})
			defer l.stop()
			runs = append(runs, l)
		}
		for _, m := range t.Members {
			if err := rest(ctx, time.Second); err != nil {
				return r, err
			}
			begun := clock.Wall()
			if _, err := m.Post(ctx, adminService+"Drain", `{}`); err != nil {
				return r, fmt.Errorf("rolling: drain %s: %w", m.Name, err)
			}
			if err := m.Stop(); err != nil {
				return r, fmt.Errorf("rolling: stop %s: %w", m.Name, err)
			}
			if err := m.Start(ctx); err != nil {
				return r, err
			}
			if err := m.Ready(ctx, 40*time.Second); err != nil {
				return r, err
			}
			down := clock.Since(begun)
			longest = max(longest, down)
			cfg.say("rolling round=%d member=%s down_ms=%d", round, m.Name, down.Milliseconds())
		}
		for _, l := range runs {
			l.stop()
		}
	}
	sum, err := t.verdict(ctx, s, &r, "rolling")
	if err != nil {
		return r, err
	}
	if sum.Duplicates > 0 {
		r.broke("%d messages were sent twice: %v", sum.Duplicates, sum.Examples)
	}
	r.Line = fmt.Sprintf("faults rolling rounds=%d messages=%d lost=%d dup=%d wrong=%d down_ms_max=%d seed=%d",
		cfg.Runs, sum.Accepted, sum.Lost+sum.Refused, sum.Duplicates, sum.Wrong+sum.altered, longest.Milliseconds(), cfg.Seed)
	return r, nil
}
