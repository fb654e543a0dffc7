package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/bench/progress"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// TestPaceFor: a run plays a week, and a hundred together take ten minutes rather than hours.
func TestPaceFor(t *testing.T) {
	for runs, want := range map[int]time.Duration{0: 168 * time.Hour, 1: 168 * time.Hour, 7: 168 * time.Hour, 10: 120 * time.Hour,
		100: 12 * time.Hour, 200: 6 * time.Hour, 1000: 6 * time.Hour} {
		if got := paceFor(runs); got != want {
			t.Errorf("%d runs: %s each, want %s", runs, got, want)
		}
	}
}

// TestSeriesShown: a series tells how far it is, in place on a terminal and in a line elsewhere, and what its length was.
func TestSeriesShown(t *testing.T) {
	rules, err := bounce.New()
	if err != nil {
		t.Fatal(err)
	}
	s := newSeries(1, 2, 4*time.Hour, false, rules)
	for i := range s.plays[:len(s.models)] {
		s.plays[i].played.Store(int64(4 * time.Hour))
	}
	s.plays[len(s.models)].played.Store(int64(2 * time.Hour))
	var out strings.Builder
	s.draw(&progress.Display{Out: &out}, time.Minute)
	if line := out.String(); !strings.HasPrefix(line, "1m0s ") || !strings.Contains(line, " runs of 2: docomo 1.5 au 1.0 ") || strings.Count(line, "\n") != 1 {
		t.Errorf("a line of progress: %q", line)
	}
	out.Reset()
	d := &progress.Display{Out: &out, Terminal: true}
	s.draw(d, time.Minute)
	s.draw(d, 2*time.Minute)
	if text := out.String(); strings.Count(text, "docomo") != 2 || !strings.Contains(text, "1.5 of 2 runs of 4h") || !strings.Contains(text, "\x1b[9A") {
		t.Errorf("drawn: %q", text)
	}
}

// TestSimReport: the report names the fake time that each run had, and progress is no part of it.
func TestSimReport(t *testing.T) {
	var out, errs bytes.Buffer
	code := run([]string{"sim", "--runs", "1", "--messages", "20", "--pace", "90m"}, &out, &errs)
	if !strings.Contains(out.String(), "pace seeds=1..1 runs=1 fake_time=1h30m0s for each receiver and run\n") || !strings.Contains(out.String(), "\ndocomo ") {
		t.Errorf("ends with %d: %s%s", code, out.String(), errs.String())
	}
}
