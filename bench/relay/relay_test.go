package relay

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/policy/settings"
)

func TestSettingsAreAccepted(t *testing.T) {
	for _, c := range []Config{{Connections: 20}, {Connections: 20, DKIM: true}} {
		s, err := settings.Decode([]byte(c.settings()), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Receivers.Rules) != 1 || s.Receivers.Rules[0].Rate != -1 {
			t.Errorf("rules %+v", s.Receivers.Rules)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"target without sink":      {Target: "127.0.0.1:1"},
		"unknown tool":             {Tool: "swaks"},
		"smtp-source has one rcpt": {Tool: "postfix", Domains: 2},
		"drain of nothing":         {Drain: true},
		"compare what":             {Compare: "speed"},
		"compare elsewhere":        {Compare: "bare", Target: "a", Sink: "b"},
		"suppressed without bare":  {Compare: "webhooks", Suppressed: 1},
		"backlog elsewhere":        {Backlog: 1, Target: "a", Sink: "b"},
	} {
		if _, err := c.withDefaults(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: error %v, want ErrConfig", name, err)
		}
	}
}

// TestLine holds the line to the form of contract 9.
func TestLine(t *testing.T) {
	r := Result{Size: 1024, Messages: 100000, Rate: 12000, EngineCPU: 81, Direct: 24000, Ratio: .5, P50: 12.25, P99: 99, RSS: 300}
	const want = `^relay size=1024 msgs=100000 rate=12000/s hour=43\.2M engine_cpu_us=81 direct=24000/s ratio=0\.50 lost=0 dup=0 ` +
		`p50_ms=12\.[23] p99_ms=99\.0 rss_mb=300 `
	if line := r.Line(); !regexp.MustCompile(want).MatchString(line) {
		t.Errorf("line %q", line)
	}
	if line := (Result{Size: 1}).Line(); !strings.Contains(line, "p50_ms=- ") {
		t.Errorf("what was not measured must be told so: %q", line)
	}
}

func TestLedgerTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	text := "t2 2026-11-22T10:00:02Z x\nt1 2026-11-22T10:00:01.5Z x\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	times, err := ledgerTimes(path)
	if err != nil || len(times) != 2 || times[1].Sub(times[0]) != 500*time.Millisecond {
		t.Errorf("times %v, %v", times, err)
	}
}

func TestPostfixCount(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0,
		"sess=    1 quit=    0 mesg=    7\rsess=    1 quit=    0 mesg=   12\r":  12,
		"sess=    1 quit=    0 mesg=   12\rsess=    1 quit=    0 mesg=   13345": 12,
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "counts"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if got, err := (&postfixSink{counts: f}).count(); err != nil || got != want {
			t.Errorf("%q counts %d (%v), want %d", text, got, err, want)
		}
	}
}

// TestCompared: medians, the goal and the verdict are those of the pairs.
func TestCompared(t *testing.T) {
	rates := func(all ...float64) (out []Result) {
		for _, r := range all {
			out = append(out, Result{Rate: r, EngineCPU: r / 100})
		}
		return out
	}
	r := ComparedResult{Compare: compareBare, Pairs: 3, Ratios: []float64{.5, .92, .95}}
	r.gather([2]*side{{results: rates(5000, 9200, 9500)}, {results: rates(10000, 10000, 10000)}})
	if r.Rate != 9200 || r.Other != 10000 || r.Ratio != .92 || r.CPU != 92 || !r.Met() || !r.OK() {
		t.Errorf("%+v", r)
	}
	if r.Ratio = .89; r.Met() {
		t.Error("89 % met a goal of 90 %")
	}
	if r.HookTwice = 1; r.OK() {
		t.Error("an event posted twice is a broken promise")
	}
	for all, want := range map[*[]float64]float64{{}: 0, {4}: 4, {3, 1}: 2, {9, 1, 5}: 5} {
		if got := middle(*all); got != want {
			t.Errorf("middle of %v is %v, want %v", *all, got, want)
		}
	}
}

func TestComparedSettingsAreAccepted(t *testing.T) {
	for _, what := range []string{compareBare, compareWebhooks} {
		c := Config{Compare: what, Connections: 20, Engine: os.Args[0], Self: os.Args[0]}
		sides, err := c.sides(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sides {
			if s.hooks != nil {
				s.hooks.Close()
			}
			if _, err := settings.Decode([]byte(s.cfg.Settings), nil); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// TestRateRows: a goal that is a rate stands beside what it comes to on a machine of another speed; met is the goal itself.
func TestRateRows(t *testing.T) {
	for _, row := range []struct {
		name   string
		source float64
		got    float64
		want   Figure
	}{
		{"speed not known", 0, 9999, Figure{"x", "10,000 msg/s", "9999", false}},
		{"half the speed", 86, 9999, Figure{"x", "10,000 msg/s (5,000 at this machine's speed)", "9999", false}},
		{"met on a slow machine", 4300, 10000, Figure{"x", "10,000 msg/s (100 at this machine's speed)", "10000", true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := figures{source: row.source}
			if f.rate("x", 10000, row.got, true, "%.0f", row.got); f.rows[0] != row.want {
				t.Errorf("%+v, want %+v", f.rows[0], row.want)
			}
		})
	}
}
