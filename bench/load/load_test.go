package load_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/bench/sink"
	"github.com/ekiden-mta/ekiden/bench/verdict"
)

func mustSink(t *testing.T, cfg sink.Config, model string) *sink.Server {
	t.Helper()
	cfg.Listen = []string{"127.0.0.1:0"}
	if model != "" {
		var err error
		if cfg.Model, err = sink.Parse([]byte(model)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := sink.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

func TestLoadAgainstSink(t *testing.T) {
	tests := []struct {
		name string
		cfg  load.Config
	}{
		{"one by one", load.Config{Messages: 20}},
		{"pipelined over sessions", load.Config{Messages: 500, Sessions: 7, Pipeline: true}},
		{"one per connection", load.Config{Messages: 20, Sessions: 4, PerConnection: 1}},
		{"one per connection, pipelined", load.Config{Messages: 20, Sessions: 4, PerConnection: 1, Pipeline: true}},
		{"many recipients and domains", load.Config{Messages: 20, Recipients: 5, Domains: 7, Pipeline: true}},
		{"under TLS", load.Config{Messages: 20, Sessions: 2, TLS: true}},
		{"sizes", load.Config{Messages: 20, Size: 100_003, Pipeline: true}},
		{"smaller than its header", load.Config{Messages: 5, Size: 1}},
		{"paced", load.Config{Messages: 20, Sessions: 2, Rate: 1000, Pipeline: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			record := filepath.Join(dir, "record")
			s := mustSink(t, sink.Config{Record: record, StartTLS: true}, "")
			cfg := tt.cfg
			cfg.Target, cfg.Ledger = s.Addrs()[0], filepath.Join(dir, "ledger")
			res, err := load.Run(t.Context(), cfg)
			if err != nil || res.Accepted != cfg.Messages {
				t.Fatalf("accepted %d: %v", res.Accepted, err)
			}
			v, err := verdict.Check(cfg.Ledger, record)
			if err != nil {
				t.Fatal(err)
			}
			want := cfg.Messages * max(1, cfg.Recipients)
			if !v.OK() || v.Messages != cfg.Messages || v.Delivered != want || v.Duplicates != 0 || v.Unledgered != 0 {
				t.Errorf("verdict %s, want %d delivered; %q", v, want, v.Examples)
			}
			if c := s.Counters(); c.Violated() != 0 {
				t.Errorf("violations %v", c.Violations)
			}
		})
	}
}

func TestPaceIsKept(t *testing.T) {
	s := mustSink(t, sink.Config{}, "")
	res, err := load.Run(t.Context(), load.Config{Target: s.Addrs()[0], Messages: 21, Sessions: 3, Rate: 100})
	if err != nil || res.Elapsed < 190*time.Millisecond {
		t.Errorf("21 messages at 100/s took %s, want at least 0.2 s (%v)", res.Elapsed, err)
	}
}

func TestRefusalsAreNoPromise(t *testing.T) {
	for _, pipeline := range []bool{false, true} {
		s := mustSink(t, sink.Config{}, "receivers: [{name: a, domains: ['*'], rules: [{stage: dot, times: 1, reply: '451 later'}]}]")
		ledger := filepath.Join(t.TempDir(), "ledger")
		res, err := load.Run(t.Context(), load.Config{
			Target: s.Addrs()[0], Messages: 4, LocalParts: []string{"unknown-", "u"}, Pipeline: pipeline, Ledger: ledger,
		})
		if err != nil {
			t.Fatal(err)
		}
		// A 451 is answered by a fresh message, so the 451s of every fresh recipient end only with the unknown ones,
		// which are refused for good: no message is ever accepted here.
		raw, _ := os.ReadFile(ledger)
		if res.Accepted != 0 || res.Refused != 4 || res.Deferred == 0 || len(raw) != 0 {
			t.Errorf("pipeline %v: %+v, ledger %q", pipeline, res, raw)
		}
	}
}

func TestSteeringHeadersAreLeftOutOfTheContent(t *testing.T) {
	s := mustSink(t, sink.Config{}, "")
	ledger := filepath.Join(t.TempDir(), "ledger")
	_, err := load.Run(t.Context(), load.Config{Target: s.Addrs()[0], Messages: 1, Ledger: ledger, Headers: []load.Header{
		{Name: "X-Relay-Group", Value: "g"}, {Name: "X-Kept", Value: "k"}, {Name: "x-kaede-cleaning", Value: "true"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(ledger)
	f := strings.Fields(string(raw))
	if len(f) != 7 || f[2] == f[5] {
		t.Errorf("ledger %q: sums with and without steering headers must differ", raw)
	}
}

func TestReconnects(t *testing.T) {
	dir := t.TempDir()
	record, ledger := filepath.Join(dir, "record"), filepath.Join(dir, "ledger")
	const model = "receivers: [{name: a, domains: ['*'], rules: [{stage: dot, probability: 0.2, do: reset}]}]"
	s := mustSink(t, sink.Config{Record: record, Seed: 7}, model)
	res, err := load.Run(t.Context(), load.Config{
		Target: s.Addrs()[0], Messages: 30, Sessions: 3, Ledger: ledger, Reconnect: 20 * time.Second,
	})
	if err != nil || res.Accepted != 30 || res.Cut == 0 || res.Reconnects < res.Cut {
		t.Fatalf("%+v, %v", res, err)
	}
	if v, err := verdict.Check(ledger, record); err != nil || !v.OK() || v.Delivered != 30 || v.Duplicates != 0 {
		t.Errorf("verdict %s, %v", v, err)
	}
}

func TestGivesUp(t *testing.T) {
	s := mustSink(t, sink.Config{}, "receivers: [{name: a, domains: ['*'], rules: [{stage: dot, do: reset}]}]")
	res, err := load.Run(t.Context(), load.Config{Target: s.Addrs()[0], Messages: 3, Sessions: 2})
	if err == nil || res.Accepted != 0 || res.Cut == 0 {
		t.Errorf("%+v, %v; want a failure", res, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := load.Run(ctx, load.Config{Target: s.Addrs()[0], Messages: 3}); err == nil {
		t.Error("a cancelled run succeeded")
	}
	for name, cfg := range map[string]load.Config{"no target": {Messages: 1}, "no messages": {Target: "x"}, "sessions": {Target: "x", Messages: 1, Sessions: 1e6}} {
		if _, err := load.Run(t.Context(), cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
