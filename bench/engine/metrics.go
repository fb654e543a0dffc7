package engine

import (
	"context"
	"strconv"
	"strings"
)

// Metrics is one reading of /metrics: series as they are written, "name{label=\"value\"}", to values.
type Metrics map[string]float64

// Metrics reads the engine's counters.
func (e *Engine) Metrics(ctx context.Context) (Metrics, error) {
	raw, err := e.Get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	return ParseMetrics(string(raw)), nil
}

// ParseMetrics reads the Prometheus text form. Lines it cannot read are left out.
func ParseMetrics(text string) Metrics {
	m := Metrics{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		// A label value may hold blanks: the value stands behind the closing brace.
		cut := strings.LastIndexByte(line, '}') + 1
		if cut == 0 {
			cut = max(strings.IndexByte(line, ' '), 0)
		}
		value, _, _ := strings.Cut(strings.TrimSpace(line[cut:]), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil && cut > 0 {
			m[line[:cut]] = v
		}
	}
	return m
}

// Sum adds the series of a name whose labels hold every one of the pairs given as `label="value"`.
func (m Metrics) Sum(name string, labels ...string) float64 {
	var sum float64
next:
	for series, v := range m {
		base, rest, _ := strings.Cut(series, "{")
		if base != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains("{"+rest, "{"+l) && !strings.Contains(rest, ","+l) {
				continue next
			}
		}
		sum += v
	}
	return sum
}

// Final tells how many deliveries have a final outcome.
func (m Metrics) Final() float64 {
	return m.Sum("ekiden_outcomes_total") - m.Sum("ekiden_outcomes_total", `outcome="deferred"`)
}

// Waiting tells how many deliveries the queue holds, in every state.
func (m Metrics) Waiting() float64 { return m.Sum("ekiden_queue_deliveries") }
