package faults

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/bench/members"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// staleWithin is how long after the answer to a suppression the look-ups of all other members may miss it (p99; goal R13 of
// the protocol).
const staleWithin = time.Second

// stalePatience is when a look-up that still misses it counts as broken.
const stalePatience = 30 * time.Second

// Staleness puts cfg.Runs addresses on the block list, at each member in turn, while mail goes through all of them, and
// measures how long after the answer the look-ups of every other member see it: from the answer to the end of the first
// look-up that does, so that a look-up's own time is part of it. cfg.Messages is the load at each member, per second.
func Staleness(ctx context.Context, cfg Config) (Report, error) {
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	defer remove()
	cfg.Runs, cfg.Messages = or(cfg.Runs, 300), or(cfg.Messages, 300)
	cfg.say("staleness: %d suppressions, %d messages/s at each member", cfg.Runs, cfg.Messages)
	var r Report
	t, err := cfg.newTrio(ctx, "staleness", cfg.dice(0), nil)
	if err != nil {
		return r, err
	}
	defer t.close()
	s, err := cfg.sink(ctx, t.sinkAt, t.record, "--latency", "2ms")
	if err != nil {
		return r, err
	}
	defer s.Kill()
	var loads []*loading
	for _, m := range t.Members {
		l := t.load(ctx, m, load.Config{Messages: 1e8, Rate: float64(cfg.Messages), Sessions: 10, Domains: 20,
			Prefix: fmt.Sprintf("s%d-%s-", cfg.Seed, m.Name), Timeout: quiet})
		defer l.stop()
		loads = append(loads, l)
	}
	var lags, writes []time.Duration
	for run := range cfg.Runs {
		at := t.Members[run%len(t.Members)]
		wrote, seen, err := t.suppress(ctx, at, fmt.Sprintf("stale%d-%d@block.example", cfg.Seed, run))
		if err != nil {
			return r, fmt.Errorf("staleness: suppression %d at %s: %w", run, at.Name, err)
		}
		writes, lags = append(writes, wrote), append(lags, seen...)
	}
	for _, l := range loads {
		l.stop()
	}
	sum, err := t.verdict(ctx, s, &r, "staleness")
	if err != nil {
		return r, err
	}
	slices.Sort(lags)
	slices.Sort(writes)
	if p99 := percentile(lags, 99); p99 > staleWithin {
		r.broke("one look-up in a hundred misses a suppression %s after its answer; goal %s", p99, staleWithin)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	r.Line = fmt.Sprintf("faults staleness suppressions=%d lookups=%d p50_ms=%.1f p99_ms=%.1f max_ms=%.1f write_p50_ms=%.1f write_p99_ms=%.1f messages=%d lost=%d dup=%d seed=%d",
		cfg.Runs, len(lags), ms(percentile(lags, 50)), ms(percentile(lags, 99)), ms(percentile(lags, 100)),
		ms(percentile(writes, 50)), ms(percentile(writes, 99)), sum.Accepted, sum.Lost+sum.Refused, sum.Duplicates, cfg.Seed)
	return r, nil
}

// suppress blocks an address at one member, and returns how long that took and how long afterwards each other member's
// look-ups saw it.
func (t *trio) suppress(ctx context.Context, at *members.Member, address string) (wrote time.Duration, seen []time.Duration, err error) {
	begun := clock.Wall()
	if _, err := at.Post(ctx, "/v1/suppressions", fmt.Sprintf(`{"address":%q,"list":"blocklist","tenant":"default","reason":"staleness"}`, address)); err != nil {
		return 0, nil, err
	}
	answered := clock.Wall()
	wrote = answered.Sub(begun)
	path := "/v1/suppressions?" + url.Values{"address": {address}, "list": {"blocklist"}, "tenant": {"default"}, "limit": {"1"}}.Encode()
	var others []*members.Member
	for _, m := range t.Members {
		if m != at {
			others = append(others, m)
		}
	}
	seen = make([]time.Duration, len(others))
	failed := make([]error, len(others))
	var looking sync.WaitGroup
	for i, m := range others {
		looking.Go(func() { seen[i], failed[i] = sees(ctx, m, path, address, answered) })
	}
	looking.Wait()
	return wrote, seen, errors.Join(failed...)
}

// sees looks an address up until it is there: how long after since that was.
func sees(ctx context.Context, m *members.Member, path, address string, since time.Time) (time.Duration, error) {
	for {
		page, err := m.Get(ctx, path)
		after := clock.Since(since)
		switch {
		case err != nil:
			return after, err
		case strings.Contains(string(page), address):
			return after, nil
		case after > stalePatience:
			return after, fmt.Errorf("%s does not see %s after %s", m.Name, address, stalePatience)
		}
	}
}
