package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/process"
)

const (
	perConnection = 32 << 10    // octets of the engine's memory that one slow client may cost (goal S5)
	promptness    = time.Second // within which an honest client is served meanwhile
)

// Slow lets a crowd of slow clients sit in the engine in every stage of a dialogue (threat T7, goal S5): each may cost
// 32 KiB at most, an honest client has to be served within a second meanwhile, and who sends a body slower than the
// least rate is cut.
func Slow(ctx context.Context, cfg Config) (Report, error) {
	var r Report
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return r, err
	}
	defer remove()
	cfg.Connections = or(cfg.Connections, 10000)
	if cfg.Hold <= 0 {
		cfg.Hold = 75 * time.Second
	}
	cfg.say("slow: %d connections", cfg.Connections)
	l, err := cfg.newLife("slow", cfg.dice(0))
	if err != nil {
		return r, err
	}
	defer l.close()
	l.settings = settings(relays(cfg.Connections)...)
	s, err := l.sink(ctx)
	if err != nil {
		return r, err
	}
	defer s.Kill()
	e, err := l.start(ctx)
	if err != nil {
		return r, err
	}
	defer e.Crash()
	if err := l.siege(ctx, e, &r); err != nil {
		return r, fmt.Errorf("slow: %w", err)
	}
	if err := drained(ctx, e, s); err != nil {
		r.broke("after the siege: %v", err)
	}
	if err := e.Stop(); err != nil {
		r.broke("graceful stop: %v", err)
	}
	return r, s.Stop()
}

// siege measures the engine with and without the crowd.
func (l *life) siege(ctx context.Context, e *engine.Engine, r *Report) error {
	honest := func(n int) (time.Duration, error) {
		a, err := offer(ctx, l.smtp, fmt.Sprintf("honest%d", n), 20*time.Second)
		if err == nil && a.code != 250 {
			err = fmt.Errorf("answered %s", a)
		}
		return a.took, err
	}
	for n := range 20 { // warm
		if _, err := honest(n); err != nil {
			return err
		}
	}
	before, err := process.MemoryOf(e.PID())
	if err != nil {
		return err
	}
	p, err := process.Start("slow clients", l.cfg.Self, []string{"faults", "crowd", "--target", l.smtp,
		"--connections", strconv.Itoa(l.cfg.Connections), "--hold", l.cfg.Hold.String()}, os.Stderr)
	if err != nil {
		return err
	}
	defer p.Kill()
	var peak process.Memory
	var worst time.Duration
	var served, refused int
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	over := make(chan error, 1)
	go func() { over <- p.Wait(ctx) }()
	for n, going := 100, true; going; n++ {
		m, err := process.MemoryOf(e.PID())
		if err != nil {
			return fmt.Errorf("%w: %w", errDied, err)
		}
		peak.RSS, peak.Anon = max(peak.RSS, m.RSS), max(peak.Anon, m.Anon)
		took, err := honest(n)
		if err != nil {
			if refused++; refused < 5 {
				r.broke("honest client: %v", err)
			}
		} else {
			served++
		}
		worst = max(worst, took)
		select {
		case err := <-over:
			if err != nil {
				return err
			}
			going = false
		case <-tick.C:
		}
	}
	var res SlowResult
	for _, line := range p.Rest() {
		if strings.HasPrefix(line, "{") {
			if err := json.Unmarshal([]byte(line), &res); err != nil {
				return err
			}
		}
	}
	each := (peak.RSS - before.RSS) / int64(max(res.Open, 1))
	r.Line = fmt.Sprintf("faults slow connections=%d open=%d rss_kib_each=%.1f anon_kib_each=%.1f honest_served=%d honest_max_ms=%d cut_data=%d cut_bdat=%d cut_all=%v",
		l.cfg.Connections, res.Open, float64(each)/1024, float64(peak.Anon-before.Anon)/1024/float64(max(res.Open, 1)), served, worst.Milliseconds(),
		res.Cut["data"], res.Cut["bdat"], res.Cut)
	if res.Open < l.cfg.Connections*99/100 {
		r.broke("only %d of %d slow clients were there at once; %d failed, as: %s", res.Open, l.cfg.Connections, res.Failed, res.Why)
	}
	if each > perConnection {
		r.broke("a slow client cost %d octets, more than %d", each, perConnection)
	}
	if worst > promptness {
		r.broke("an honest client was served in %s only", worst)
	}
	if want := l.cfg.Connections / len(stages()) * 9 / 10; l.cfg.Hold > 40*time.Second && (res.Cut["data"] < want || res.Cut["bdat"] < want) {
		r.broke("of %d slow bodies each way only %d (DATA) and %d (BDAT) were cut", want, res.Cut["data"], res.Cut["bdat"])
	}
	return nil
}
