package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/load"
)

// Dot lets receivers misbehave behind the final dot (goal R10, rule D7): one resets, one answers late, one (cfg.Hang)
// never. A late answer is an answer: one copy. What was never answered is in doubt, is counted so, and is sent again.
func Dot(ctx context.Context, cfg Config) (Report, error) {
	var r Report
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return r, err
	}
	defer remove()
	if cfg.Late <= 0 {
		cfg.Late = 5 * time.Second
	}
	cfg.say("dot: late by %s", cfg.Late)
	l, err := cfg.newLife("dot", cfg.dice(0))
	if err != nil {
		return r, err
	}
	defer l.close()
	model, err := cfg.dotModel()
	if err != nil {
		return r, err
	}
	s, err := l.sink(ctx, "--model", model)
	if err != nil {
		return r, err
	}
	defer s.Kill()
	e, err := l.start(ctx)
	if err != nil {
		return r, err
	}
	defer e.Crash()
	doubts, err := l.doubt(ctx, e, s, &r)
	if err != nil {
		return r, fmt.Errorf("dot: %w", err)
	}
	if err := e.Stop(); err != nil {
		r.broke("graceful stop: %v", err)
	}
	if err := s.Stop(); err != nil {
		return r, err
	}
	t, err := check(l.ledger, l.record)
	if err != nil {
		return r, err
	}
	t.judge(&r, "dot")
	late := 0
	for key, n := range t.dupes {
		if strings.Contains(key, " late") {
			late += n
		}
	}
	if t.copies > 0 { // an unanswered dot is recorded as such, not as an arrival
		r.broke("%d messages that were answered came again, %d of them answered late: %.300q", t.copies, late, t.Examples)
	}
	if int(doubts) != t.silent || t.silent == 0 {
		r.broke("%d dots were left without an answer, the engine counted %.0f in doubt", t.silent, doubts)
	}
	r.Line = fmt.Sprintf("faults dot accepted=%d lost=%d unanswered=%d in_doubt=%.0f late_s=%.0f late_copies=%d copies=%d wrong=%d",
		t.Accepted, t.Lost+t.Refused, t.silent, doubts, cfg.Late.Seconds(), late, t.copies, t.Wrong)
	return r, nil
}

// dotModel writes the receivers down.
func (c Config) dotModel() (string, error) {
	hang := ""
	if c.Hang {
		hang = "\n      - {stage: dot, local: mute, times: 1, do: hang}"
	}
	path := filepath.Join(c.Dir, "dot.yaml")
	err := os.WriteFile(path, fmt.Appendf(nil, `receivers:
  - name: any
    domains: ["*"]
    rules:
      - {stage: dot, local: cut, times: 1, do: reset}
      - {stage: dot, local: late, times: 1, do: delay, delay: %s}%s
`, c.Late, hang), 0o600)
	if err != nil {
		return "", fmt.Errorf("faults: %w", err)
	}
	return path, nil
}

// doubt sends through these receivers and returns how many deliveries the engine counted in doubt.
func (l *life) doubt(ctx context.Context, e *engine.Engine, s *sinkProcess, r *Report) (float64, error) {
	locals := []string{"cut", "late", "u", "u"}
	if l.cfg.Hang {
		locals = []string{"cut", "late", "mute", "u"}
	}
	run := l.load(ctx, load.Config{Messages: 80, Sessions: 4, Domains: 3, LocalParts: locals, Prefix: "dot", Timeout: quiet})
	if err := run.wait(ctx); err != nil {
		return 0, err
	}
	// The queue is not empty before the last late answer: the wait for the drain has to outlast it.
	if err := until(ctx, e, 20*time.Minute, "the last answer", func() bool {
		m, err := e.Metrics(ctx)
		c, cerr := s.counters(ctx)
		return err == nil && cerr == nil && m.Waiting() == 0 && c.Deliveries >= 80
	}); err != nil {
		return 0, err
	}
	if err := drained(ctx, e, s); err != nil {
		r.broke("%v", err)
	}
	m, err := e.Metrics(ctx)
	return m.Sum("ekiden_in_doubt_total"), err
}
