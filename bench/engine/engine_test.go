package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const page = `# HELP ekiden_accepted_total x
# TYPE ekiden_accepted_total counter
ekiden_accepted_total 12
ekiden_outcomes_total{outcome="delivered",receiver="docomo"} 5
ekiden_outcomes_total{outcome="deferred",receiver="docomo"} 3
ekiden_outcomes_total{outcome="failed",receiver="au x}"} 2 1700000000000
ekiden_queue_deliveries{state="waiting"} 4
ekiden_queue_deliveries{state="active"} 1e0
nonsense
`

func TestMetrics(t *testing.T) {
	m := ParseMetrics(page)
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"ekiden_accepted_total", nil, 12},
		{"ekiden_outcomes_total", nil, 10},
		{"ekiden_outcomes_total", []string{`outcome="delivered"`}, 5},
		{"ekiden_outcomes_total", []string{`receiver="docomo"`, `outcome="deferred"`}, 3},
		{"ekiden_outcomes_total", []string{`receiver="doc"`}, 0},
		{"ekiden_outcomes", nil, 0},
	} {
		if got := m.Sum(tt.name, tt.labels...); got != tt.want {
			t.Errorf("sum of %s%v is %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	if m.Final() != 7 || m.Waiting() != 5 {
		t.Errorf("final %v waiting %v, want 7 and 5", m.Final(), m.Waiting())
	}
}

// mustScript writes a shell script that plays a binary which does not come to serve.
func mustScript(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ekiden")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartTellsWhyNot(t *testing.T) {
	for name, tt := range map[string]struct{ script, want string }{
		"dies":    {"echo 'port in use' >&2; exit 1\n", "port in use"},
		"sealed":  {"echo 'ekiden ready name=n smtp=127.0.0.1:1 http=127.0.0.1:2 state=sealed'; exec sleep 60\n", "sealed"},
		"unclear": {"echo 'ekiden ready name=n'; exec sleep 60\n", "names no addresses"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Start(t.Context(), Config{Path: mustScript(t, tt.script), Dir: t.TempDir()})
			if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want ErrNotReady with %q", err, tt.want)
			}
		})
	}
}

func TestFind(t *testing.T) {
	path := mustScript(t, "exit 0\n")
	if got, err := Find("", filepath.Join(filepath.Dir(path), "ekiden-bench")); err != nil || got != path {
		t.Errorf("beside the running one: %q, %v", got, err)
	}
	if _, err := Find(filepath.Join(t.TempDir(), "none"), ""); err == nil {
		t.Error("a binary that is not there was found")
	}
}
