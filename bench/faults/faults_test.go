package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/bench/faults"
)

// rig is what the tests share: the binaries, and a turn for those that need the machine for themselves.
type rig struct {
	dir  string
	turn chan struct{}
	full bool // EKIDEN_FAULTS=full: the sizes of the goals instead of small ones
}

var shared rig

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ekiden-faults-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	const cmd = "github.com/ekiden-mta/ekiden/cmd/"
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", cmd+"ekiden", cmd+"ekiden-bench")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	shared = rig{dir: dir, turn: make(chan struct{}, 1), full: os.Getenv("EKIDEN_FAULTS") == "full"}
	return m.Run()
}

// play plays a fault in its small form, or with the fault's own sizes where the full ones are asked for.
func play(t *testing.T, alone bool, fault func(context.Context, faults.Config) (faults.Report, error), small faults.Config) {
	t.Helper()
	if testing.Short() {
		t.Skip("faults hurt an engine for a minute")
	}
	t.Parallel()
	cfg := small
	if shared.full {
		cfg = faults.Config{}
	}
	cfg.Self, cfg.Engine, cfg.Dir = filepath.Join(shared.dir, "ekiden-bench"), filepath.Join(shared.dir, "ekiden"), t.TempDir()
	cfg.Progress = progress{t}
	if alone {
		shared.turn <- struct{}{}
		defer func() { <-shared.turn }()
	}
	r, err := fault(t.Context(), cfg)
	if errors.Is(err, faults.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.Line)
	for _, b := range r.Broken {
		t.Error(b)
	}
}

// progress writes what is being done to the test's log: it holds the seed.
type progress struct{ t *testing.T }

func (p progress) Write(b []byte) (int, error) {
	p.t.Logf("%s", b)
	return len(b), nil
}

func TestFaultKill(t *testing.T) {
	play(t, true, faults.Kill, faults.Config{Runs: 3, Messages: 3000})
}

func TestFaultWebhooks(t *testing.T) {
	play(t, true, faults.Webhooks, faults.Config{Runs: 2, Messages: 3000})
}

func TestFaultPower(t *testing.T) {
	play(t, true, faults.Power, faults.Config{Runs: 2, Messages: 2000})
}

func TestFaultFull(t *testing.T) {
	play(t, true, faults.Full, faults.Config{})
}

func TestFaultFsync(t *testing.T) {
	play(t, true, faults.Fsync, faults.Config{})
}

func TestFaultSlow(t *testing.T) {
	play(t, false, faults.Slow, faults.Config{Connections: 600, Hold: 45 * time.Second})
}

func TestFaultDot(t *testing.T) {
	play(t, false, faults.Dot, faults.Config{Late: 3 * time.Second})
}

func TestFaultTakeover(t *testing.T) {
	play(t, true, faults.Takeover, faults.Config{Runs: 1, Messages: 2000})
}

func TestFaultRolling(t *testing.T) {
	play(t, true, faults.Rolling, faults.Config{Runs: 1, Messages: 200})
}

func TestFaultPartition(t *testing.T) {
	play(t, true, faults.Partition, faults.Config{Runs: 1, Messages: 3000})
}

func TestFaultStop(t *testing.T) {
	play(t, true, faults.Stop, faults.Config{Runs: 1, Messages: 500})
}
