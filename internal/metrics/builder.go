package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// prefix of every metric of ekiden's own.
const prefix = "ekiden_"

// builder makes and registers metrics. Receiver and source names are bounded over all metrics together, so that one
// receiver has a name either everywhere or nowhere.
type builder struct {
	reg                *prometheus.Registry
	receivers, sources *names
}

func (b builder) names(label string) *names {
	switch label {
	case "receiver":
		return b.receivers
	case "source":
		return b.sources
	}
	if label == "rule" {
		return newNames(maxRules)
	}
	return newNames(maxWords)
}

func (b builder) counter(name, help string) Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	b.reg.MustRegister(c)
	return Counter{c}
}

func (b builder) counters1(name, help, label string) *Counters1 {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{label})
	b.reg.MustRegister(vec)
	return &Counters1{vec, b.names(label)}
}

func (b builder) counters2(name, help, first, second string) *Counters2 {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{first, second})
	b.reg.MustRegister(vec)
	return &Counters2{vec, [2]*names{b.names(first), b.names(second)}}
}

func (b builder) gauges1(name, help, label string) *Gauges1 {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, []string{label})
	b.reg.MustRegister(vec)
	return &Gauges1{vec, b.names(label)}
}

func (b builder) gauges2(name, help, first, second string) *Gauges2 {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, []string{first, second})
	b.reg.MustRegister(vec)
	return &Gauges2{vec, [2]*names{b.names(first), b.names(second)}}
}

func (b builder) histogram(name, help string) Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: commitBuckets()})
	b.reg.MustRegister(h)
	return Histogram{h}
}

func (b builder) reading(name, help string) Reading {
	r := Reading{new(atomic.Pointer[func() float64])}
	b.reg.MustRegister(&taken{
		desc: prometheus.NewDesc(prefix+name, help, nil, nil),
		take: func(report func(float64, ...string)) {
			if read := r.read.Load(); read != nil {
				report((*read)())
			}
		},
	})
	return r
}

func (b builder) readings(name, help, label string) Readings {
	r := Readings{new(atomic.Pointer[func(func(string, float64))])}
	names := b.names(label)
	b.reg.MustRegister(&taken{
		desc: prometheus.NewDesc(prefix+name, help, []string{label}, nil),
		take: func(report func(float64, ...string)) {
			read := r.read.Load()
			if read == nil {
				return
			}
			// Several values may fall together under Other, and a series may be reported only once.
			sums := map[string]float64{}
			(*read)(func(value string, v float64) { sums[names.bound(value)] += v })
			for value, v := range sums {
				report(v, value)
			}
		},
	})
	return r
}

// taken is a gauge whose values are asked for at each scrape.
type taken struct {
	desc *prometheus.Desc
	take func(report func(value float64, labels ...string))
}

// Describe implements prometheus.Collector.
func (t *taken) Describe(out chan<- *prometheus.Desc) { out <- t.desc }

// Collect implements prometheus.Collector.
func (t *taken) Collect(out chan<- prometheus.Metric) {
	t.take(func(value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(t.desc, prometheus.GaugeValue, value, labels...)
	})
}
