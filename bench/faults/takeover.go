package faults

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/bench/members"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// What a takeover may take (goals of the protocol): from the kill to the first message of the dead member that arrives,
// and until all it had belongs to another.
const (
	firstWithin = 15 * time.Second
	ownedWithin = 45 * time.Second
	dueWithin   = 5 * time.Second // a reservation of the dead member fires, after its time
)

// Reservations of the member that dies: so many, for so long after they are made. By then another owns them.
const (
	reservations   = 20
	reservedPrefix = "r"
	reservedAhead  = 35 * time.Second
)

// takeoverRate is the load over all members, in messages per second.
const takeoverRate = 3000

// taken is what one run came to.
type taken struct {
	accepted, lost, wrong, copies, bound int
	waiting                              int           // of the dead member's messages, not delivered at the kill
	first, owned                         time.Duration // from the kill
	due                                  time.Duration // from the time of the reservations to the last of them that arrived
}

// Takeover kills one of three members under load and deletes its data directory, cfg.Runs times. cfg.Messages is the
// backlog of the member that dies: nothing acknowledged may be lost, copies may not pass the bound of the protocol.
func Takeover(ctx context.Context, cfg Config) (Report, error) {
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	defer remove()
	cfg.Runs, cfg.Messages = or(cfg.Runs, 20), or(cfg.Messages, 20_000)
	cfg.say("takeover: %d runs from seed %d, backlog %d", cfg.Runs, cfg.Seed, cfg.Messages)
	var r Report
	var sum taken
	var firsts, owneds, dues []time.Duration
	for run := range cfg.Runs {
		k, err := cfg.takeover(ctx, run, &r)
		if err != nil {
			return r, fmt.Errorf("takeover: run %d of seed %d: %w", run, cfg.Seed, err)
		}
		cfg.say("takeover run=%d accepted=%d waiting=%d lost=%d dup=%d bound=%d wrong=%d first_ms=%d owned_ms=%d due_ms=%d", run, k.accepted,
			k.waiting, k.lost, k.copies, k.bound, k.wrong, k.first.Milliseconds(), k.owned.Milliseconds(), k.due.Milliseconds())
		firsts, owneds, dues = append(firsts, k.first), append(owneds, k.owned), append(dues, k.due)
		sum.accepted, sum.lost, sum.wrong = sum.accepted+k.accepted, sum.lost+k.lost, sum.wrong+k.wrong
		sum.copies, sum.bound = max(sum.copies, k.copies), max(sum.bound, k.bound)
	}
	_, first := median(firsts)
	_, owned := median(owneds)
	_, due := median(dues)
	r.Line = fmt.Sprintf("faults takeover runs=%d messages=%d lost=%d dup_max=%d bound=%d wrong=%d first_ms_max=%d owned_ms_max=%d due_ms_max=%d seed=%d",
		cfg.Runs, sum.accepted, sum.lost, sum.copies, sum.bound, sum.wrong, first, owned, due, cfg.Seed)
	return r, nil
}

// takeover is one run: a backlog at the victim while the receivers are down, then receivers and load on all members
// together, then the kill.
func (c Config) takeover(ctx context.Context, run int, r *Report) (k taken, err error) {
	rng := c.dice(run)
	t, err := c.newTrio(ctx, fmt.Sprintf("trio%d", run), rng, nil)
	if err != nil {
		return k, err
	}
	defer t.close()
	victim := t.Members[rng.IntN(len(t.Members))]
	prefix := func(m *members.Member) string { return fmt.Sprintf("t%d-%d-%s-", c.Seed, run, m.Name) }
	backlog := t.load(ctx, victim, load.Config{Messages: c.Messages, Sessions: 50, Domains: 20, Pipeline: true,
		Prefix: prefix(victim) + "b", Timeout: quiet})
	defer backlog.stop()
	if err := backlog.wait(ctx); err != nil {
		return k, fmt.Errorf("backlog: %w", err)
	}
	due := clock.Wall().Add(reservedAhead).Truncate(time.Second)
	reserved := t.load(ctx, victim, load.Config{Messages: reservations, DomainList: []string{"reserved.example"}, Timeout: quiet,
		Prefix: prefix(victim) + reservedPrefix, Headers: []load.Header{{Name: "X-KAEDE-Appoint", Value: strconv.FormatInt(due.Unix(), 10)}}})
	defer reserved.stop()
	if err := reserved.wait(ctx); err != nil {
		return k, fmt.Errorf("reservations: %w", err)
	}
	s, err := c.sink(ctx, t.sinkAt, t.record, "--latency", "2ms")
	if err != nil {
		return k, err
	}
	defer s.Kill()
	var runs []*loading
	var hurt *loading
	for _, m := range t.Members {
		l := t.load(ctx, m, load.Config{Messages: takeoverRate / 3 * 8, Rate: takeoverRate / 3, Sessions: 20, Domains: 20,
			Prefix: prefix(m), Reconnect: 5 * time.Second, Timeout: quiet})
		defer l.stop()
		if m == victim {
			hurt = l
		} else {
			runs = append(runs, l)
		}
	}
	if err := rest(ctx, 500*time.Millisecond+time.Duration(rng.IntN(1500))*time.Millisecond); err != nil {
		return k, err
	}
	struck := clock.Wall()
	if err := victim.Destroy(); err != nil {
		return k, err
	}
	hurt.stop()
	if k.owned, err = t.owned(ctx, struck); err != nil {
		r.broke("run %d: %v", run, err)
	}
	for _, l := range runs {
		if err := l.wait(ctx); err != nil {
			r.broke("run %d: load on a survivor: %v", run, err)
		}
	}
	if err := t.emptied(ctx, s, 5*time.Minute); err != nil {
		r.broke("run %d: %v", run, err)
	}
	if err := c.judgeTakeover(ctx, t, s, run, prefix(victim), struck, &k, r); err != nil {
		return k, err
	}
	return k, t.judgeReserved(prefix(victim)+reservedPrefix, due, fmt.Sprintf("run %d", run), &k, r)
}

// judgeReserved looks when the reservations of the dead member arrived: none before its time, all soon after.
func (t *trio) judgeReserved(prefix string, due time.Time, where string, k *taken, r *Report) error {
	list, err := t.arrivals()
	if err != nil {
		return err
	}
	came := 0
	for _, a := range list {
		if !strings.HasPrefix(a.token, prefix) {
			continue
		}
		came++
		if a.at.Before(due) {
			r.broke("%s: a reservation went %s before its time", where, due.Sub(a.at).Round(time.Millisecond))
		}
		k.due = max(k.due, a.at.Sub(due))
	}
	if came == 0 || k.due > dueWithin {
		r.broke("%s: of %d reservations %d arrived, the last %s after its time, want %s", where, reservations, came, k.due.Round(time.Millisecond), dueWithin)
	}
	return nil
}

// owned waits until a survivor has taken over what the dead member had.
func (t *trio) owned(ctx context.Context, struck time.Time) (time.Duration, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var done, open float64
		for _, m := range t.Up() {
			if v, err := m.Metrics(ctx); err == nil {
				done += v.Sum("ekiden_takeovers_total")
				open += v.Sum("ekiden_takeovers_open")
			}
		}
		took := clock.Since(struck)
		if done > 0 && open == 0 {
			return took, nil
		}
		if took > 2*ownedWithin {
			return took, fmt.Errorf("%s after the kill nobody owns what the dead member had", took.Round(time.Second))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return took, ctx.Err()
		}
	}
}

func (c Config) judgeTakeover(ctx context.Context, t *trio, s *sinkProcess, run int, prefix string, struck time.Time, k *taken, r *Report) error {
	counters, err := s.counters(ctx)
	if err != nil {
		return err
	}
	if err := s.Stop(); err != nil {
		return err
	}
	sum, err := check(t.ledger, t.record)
	if err != nil {
		return err
	}
	where := fmt.Sprintf("run %d", run)
	sum.judge(r, where)
	k.accepted, k.lost, k.wrong = sum.Accepted, sum.Lost+sum.Refused, sum.Wrong+sum.altered
	k.copies, k.bound = sum.copies, int(counters.MaxOpen)+creditWindow
	if k.copies > k.bound {
		r.broke("%s: %d copies, the bound is %d", where, k.copies, k.bound)
	}
	return c.judgeTimes(t, where, prefix, struck, k, r)
}

// judgeTimes looks for the first arrival of the dead member's mail after its death. What was in the receivers' sockets
// at the kill arrives within moments and is no redelivery.
func (c Config) judgeTimes(t *trio, where, prefix string, struck time.Time, k *taken, r *Report) error {
	promised, err := t.promised(prefix)
	if err != nil {
		return err
	}
	maps.DeleteFunc(promised, func(token string, _ bool) bool { return strings.HasPrefix(token, prefix+reservedPrefix) }) // not due yet
	list, err := t.arrivals()
	if err != nil {
		return err
	}
	for _, a := range list {
		if !promised[a.token] {
			continue
		}
		switch {
		case a.at.Before(struck.Add(time.Second)):
			delete(promised, a.token)
		case k.first == 0:
			k.first = a.at.Sub(struck)
		}
	}
	if k.waiting = len(promised); k.waiting > 0 && k.first == 0 {
		r.broke("%s: none of %d messages that waited arrived", where, k.waiting)
	}
	if k.first > firstWithin {
		r.broke("%s: the first message arrived %s after the kill, want %s", where, k.first.Round(time.Millisecond), firstWithin)
	}
	if k.owned > ownedWithin {
		r.broke("%s: all was owned %s after the kill, want %s", where, k.owned.Round(time.Millisecond), ownedWithin)
	}
	return nil
}
