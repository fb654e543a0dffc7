package metrics

import (
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Counter only grows. Rooms keep it; an Inc costs a few nanoseconds.
type Counter struct{ c prometheus.Counter }

// Inc adds one.
func (c Counter) Inc() { c.c.Inc() }

// Add adds n, which must not be negative.
func (c Counter) Add(n int) { c.c.Add(float64(n)) }

// Gauge goes up and down. Rooms keep it.
type Gauge struct{ g prometheus.Gauge }

// Inc adds one.
func (g Gauge) Inc() { g.g.Inc() }

// Dec takes one away.
func (g Gauge) Dec() { g.g.Dec() }

// Add adds n, which may be negative.
func (g Gauge) Add(n int) { g.g.Add(float64(n)) }

// Histogram takes durations.
type Histogram struct{ h prometheus.Histogram }

// Observe records a duration in seconds.
func (h Histogram) Observe(seconds float64) { h.h.Observe(seconds) }

// Reading is a gauge whose value is asked for at each scrape. It has no series until From is called.
type Reading struct {
	read *atomic.Pointer[func() float64]
}

// From makes read the source of the value. It is called from any goroutine, must be quick and must not block.
func (r Reading) From(read func() float64) { r.read.Store(&read) }

// Readings is a labelled gauge whose values are asked for at each scrape. It has no series until From is called.
type Readings struct {
	read *atomic.Pointer[func(report func(label string, value float64))]
}

// From makes read the source of the values: it calls report once per label value. It is called from any goroutine,
// must be quick and must not block.
func (r Readings) From(read func(report func(label string, value float64))) { r.read.Store(&read) }

// maxName is the longest label value that is kept, in bytes; a domain name has at most 255.
const maxName = 260

// names bounds the values of a label: the first max of them keep their name.
type names struct {
	max  int
	mu   sync.RWMutex
	held map[string]struct{}
}

func newNames(max int) *names { return &names{max: max, held: make(map[string]struct{})} }

// bound returns name, or Other if the label already has its number of values.
func (n *names) bound(name string) string {
	n.mu.RLock()
	_, held := n.held[name]
	full := len(n.held) >= n.max
	n.mu.RUnlock()
	if held {
		return name
	}
	// The client panics at a value that is not UTF-8, and names may come from the DNS.
	if full || len(name) > maxName || !utf8.ValidString(name) {
		return Other
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, held := n.held[name]; !held {
		if len(n.held) >= n.max {
			return Other
		}
		n.held[name] = struct{}{}
	}
	return name
}

// Counters1 is a counter with one label.
type Counters1 struct {
	vec   *prometheus.CounterVec
	label *names
}

// With returns the counter of one value; keep it where the path is hot.
func (c *Counters1) With(value string) Counter {
	return Counter{c.vec.WithLabelValues(c.label.bound(value))}
}

// Counters2 is a counter with two labels.
type Counters2 struct {
	vec    *prometheus.CounterVec
	labels [2]*names
}

// With returns the counter of a pair of values; keep it where the path is hot.
func (c *Counters2) With(first, second string) Counter {
	return Counter{c.vec.WithLabelValues(c.labels[0].bound(first), c.labels[1].bound(second))}
}

// Gauges1 is a gauge with one label.
type Gauges1 struct {
	vec   *prometheus.GaugeVec
	label *names
}

// With returns the gauge of one value.
func (g *Gauges1) With(value string) Gauge { return Gauge{g.vec.WithLabelValues(g.label.bound(value))} }

// Gauges2 is a gauge with two labels.
type Gauges2 struct {
	vec    *prometheus.GaugeVec
	labels [2]*names
}

// With returns the gauge of a pair of values.
func (g *Gauges2) With(first, second string) Gauge {
	return Gauge{g.vec.WithLabelValues(g.labels[0].bound(first), g.labels[1].bound(second))}
}
