package faults

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// What an emergency stop may take until `stopped` is answered (goals of the protocol), and how it is played.
const (
	stopWithin    = 250 * time.Millisecond // p99, all members healthy
	stopCutWithin = 12 * time.Second       // one member cut off: its lease and the margin
	stopLatency   = 2 * time.Millisecond   // of the receivers
	stopAfter     = time.Second            // the load goes on for so long behind the answer
	resumeWithin  = 60 * time.Second       // after the fault is over
)

// Kinds of an emergency stop's surroundings.
const (
	stopHealthy = "healthy"
	stopCut     = "cut"  // one member is cut off from the others; all reach receivers and clients
	stopDown    = "down" // two of three are killed
)

// halt is what one emergency stop came to.
type halt struct {
	kind, group string
	state       string
	took        time.Duration
	flight      int       // final dots that were sent and not answered, as the answer says
	answered    time.Time // when the caller had the answer
	resumed     time.Time // when it let the group go on
	speed, late int       // messages of the group that arrived in the second before the call, and between these two
}

// Stop stops delivery groups under load, cfg.Runs times in health, and for every ten of these once with a member cut off
// and once with two of three killed. cfg.Messages is the load at each member, in messages per second. No message of a
// group may be begun once `stopped` was answered; afterwards the group is resumed and nothing may be missing.
func Stop(ctx context.Context, cfg Config) (Report, error) {
	cfg.Runs, cfg.Messages = or(cfg.Runs, 50), or(cfg.Messages, 2000)
	return cfg.divided(ctx, "stop")
}

func (c Config) stops(ctx context.Context, net *network) (Report, error) {
	c.say("stop: %d stops from seed %d, %d messages/s at each member", c.Runs, c.Seed, c.Messages)
	var r Report
	rng := c.dice(0)
	// One key from outside, for two members that come back together have no majority that would let the third give it.
	t, err := c.dividedTrio(ctx, net, "stop", rng, true)
	if err != nil {
		return r, err
	}
	defer t.close()
	s, err := c.sinkWithin(ctx, net.within(sinkHost), hostAddr(sinkHost)+":2526", hostAddr(sinkHost)+":2580", t.record, "--latency", stopLatency.String())
	if err != nil {
		return r, err
	}
	defer s.Kill()
	kinds := slices.Repeat([]string{stopHealthy}, c.Runs)
	for range max(1, c.Runs/10) {
		kinds = append(kinds, stopCut, stopDown)
	}
	var all []*halt
	for i, kind := range kinds {
		h := &halt{kind: kind, group: fmt.Sprintf("g%d-%d", c.Seed, i)}
		if err := t.halt(ctx, net, s, rng, h, &r); err != nil {
			return r, fmt.Errorf("stop: run %d (%s) of seed %d: %w", i, kind, c.Seed, err)
		}
		c.say("stop run=%d kind=%s state=%s ms=%d in_flight=%d", i, kind, h.state, h.took.Milliseconds(), h.flight)
		all = append(all, h)
	}
	if err := s.Stop(); err != nil {
		return r, err
	}
	sum, err := check(t.ledger, t.record)
	if err != nil {
		return r, err
	}
	sum.judge(&r, "stop")
	list, err := t.arrivals()
	if err != nil {
		return r, err
	}
	late, slowest := judgeHalts(all, list, &r)
	ms := func(kind string, percent int) int64 { return percentile(slowest[kind], percent).Milliseconds() }
	slow := slices.MinFunc(all, func(a, b *halt) int { return cmp.Compare(a.speed, b.speed) })
	r.Line = fmt.Sprintf("faults stop stops=%d messages=%d lost=%d late=%d ms_p50=%d ms_p99=%d cut_ms_max=%d down_ms_max=%d rate_min=%d seed=%d",
		len(all), sum.Accepted, sum.Lost+sum.Refused, late, ms(stopHealthy, 50), ms(stopHealthy, 99), ms(stopCut, 100), ms(stopDown, 100), slow.speed, c.Seed)
	return r, nil
}

// judgeHalts holds the stops against the record, counts what arrived late and, for each stop, how fast its group had been,
// and returns how long the stops of each kind took, the quickest first.
func judgeHalts(all []*halt, arrivals []arrival, r *Report) (late int, took map[string][]time.Duration) {
	by := map[string][]*halt{}
	for _, h := range all {
		by[h.group] = append(by[h.group], h)
	}
	for _, a := range arrivals {
		group, _, _ := strings.Cut(a.token, "_")
		for _, h := range by[group] {
			called := h.answered.Add(-h.took)
			switch {
			case a.at.After(h.answered) && a.at.Before(h.resumed):
				h.late++
			case a.at.Before(called) && a.at.After(called.Add(-time.Second)):
				h.speed++
			}
		}
	}
	took = map[string][]time.Duration{}
	for _, h := range all {
		// What was on its way when the answer was given may be written down by the receiver afterwards.
		beyond := max(0, h.late-h.flight)
		if late += beyond; beyond > 0 {
			r.broke("group %s (%s): %d messages arrived after the answer, %d were on their way", h.group, h.kind, h.late, h.flight)
		}
		if h.state != "stopped" {
			r.broke("group %s (%s): the answer was %q after %s", h.group, h.kind, h.state, h.took.Round(time.Millisecond))
		}
		took[h.kind] = append(took[h.kind], h.took)
	}
	for kind, ds := range took {
		slices.Sort(ds)
		bound := map[string]time.Duration{stopHealthy: stopWithin, stopCut: stopCutWithin, stopDown: stopCutWithin}[kind]
		if p99 := percentile(ds, 99); p99 > bound {
			r.broke("%s: the answer took %s, want %s", kind, p99.Round(time.Millisecond), bound)
		}
	}
	return late, took
}

// percentile is the least of sorted that percent of them do not pass.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

// halt plays one stop: load of one group at all members, the fault, the call, the fault's end, and the group goes on.
func (t *trio) halt(ctx context.Context, net *network, s *sinkProcess, rng *rand.Rand, h *halt, r *Report) error {
	var runs []*loading
	for _, m := range t.Members {
		l := t.load(ctx, m, load.Config{Messages: 1e8, Rate: float64(t.cfg.Messages), Sessions: 20, Domains: 20, Pipeline: true,
			Prefix: h.group + "_" + m.Name + "-", Headers: []load.Header{{Name: "X-Relay-Group", Value: h.group}}, Reconnect: quiet, Timeout: quiet})
		defer l.stop()
		runs = append(runs, l)
	}
	if err := rest(ctx, 1500*time.Millisecond+time.Duration(rng.IntN(500))*time.Millisecond); err != nil {
		return err
	}
	asked := rng.IntN(3)
	undo, err := t.strike(ctx, net, h.kind, asked)
	if err != nil {
		return err
	}
	begun := clock.Wall()
	raw, err := t.Members[asked].Post(ctx, adminService+"StopGroup", fmt.Sprintf(`{"group":%q}`, h.group))
	h.answered = clock.Wall()
	h.took = h.answered.Sub(begun)
	if err != nil {
		return errors.Join(err, undo())
	}
	var answer struct {
		State    string
		InFlight int `json:"in_flight"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return errors.Join(err, undo())
	}
	h.state, h.flight = answer.State, answer.InFlight
	err = errors.Join(rest(ctx, stopAfter), undo())
	for _, l := range runs {
		l.stop()
	}
	if err != nil {
		return err
	}
	return t.goOn(ctx, s, h, r)
}

// strike brings about what kind says around the member that will be asked, and returns how to undo it.
func (t *trio) strike(ctx context.Context, net *network, kind string, asked int) (undo func() error, err error) {
	one, two := (asked+1)%3, (asked+2)%3
	switch kind {
	case stopCut:
		ways := []way{{one, asked}, {asked, one}, {one, two}, {two, one}}
		return func() error { return net.heal(context.WithoutCancel(ctx), ways) }, net.cut(ctx, ways)
	case stopDown:
		t.Members[one].Crash()
		t.Members[two].Crash()
		return func() error {
			return errors.Join(t.Members[one].Start(ctx), t.Members[two].Start(ctx))
		}, nil
	}
	return func() error { return nil }, nil
}

// goOn resumes the group as soon as the members agree again, and waits until all of it has arrived.
func (t *trio) goOn(ctx context.Context, s *sinkProcess, h *halt, r *Report) error {
	// A member that was away comes back now, with mail of the group: nothing of it may go before the group is resumed.
	for _, m := range t.Members {
		if err := m.Ready(ctx, resumeWithin); err != nil {
			return err
		}
	}
	h.resumed = clock.Wall()
	for begun := clock.Wall(); ; {
		_, err := t.Members[0].Post(ctx, adminService+"ResumeGroup", fmt.Sprintf(`{"group":%q}`, h.group))
		if err == nil {
			break
		}
		if clock.Since(begun) > resumeWithin {
			return err
		}
		if err := rest(ctx, poll); err != nil {
			return err
		}
	}
	if err := t.emptied(ctx, s, 3*time.Minute); err != nil {
		r.broke("group %s (%s): %v", h.group, h.kind, err)
	}
	return nil
}
