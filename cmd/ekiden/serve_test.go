package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/node"
)

// fakeEngine obeys the fields.
type fakeEngine struct {
	startErr error
	block    chan struct{} // Start waits for it, or for its context
	deaf     chan struct{} // Stop waits for it, whatever its context says
	reloads  int
	stops    int
}

func (f *fakeEngine) Start(ctx context.Context) error {
	if f.block != nil {
		select {
		case <-f.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.startErr
}

func (f *fakeEngine) Ready() node.Ready {
	return node.Ready{Name: "n1", SMTP: []string{"127.0.0.1:25", "127.0.0.1:587"}, HTTP: "127.0.0.1:8025", State: "unsealed"}
}

func (f *fakeEngine) Stop(ctx context.Context) error {
	f.stops++
	if f.deaf != nil {
		<-f.deaf
	}
	return nil
}

func (f *fakeEngine) Reload(node.Config) ([]string, error) {
	f.reloads++
	return []string{"smtp.listeners"}, nil
}

func newServer(f *fakeEngine) (*server, chan os.Signal, *strings.Builder) {
	signals, out := make(chan os.Signal, 4), &strings.Builder{}
	return &server{app: &app{stdio: stdio{strings.NewReader(""), out, out}, ctx: context.Background()},
		log: slog.New(slog.DiscardHandler), level: &slog.LevelVar{}, signals: signals, engine: f}, signals, out
}

func opening(f *fakeEngine) func(context.Context) (engine, error) {
	return func(context.Context) (engine, error) { return f, nil }
}

func TestReadyLineHasTheFormOfTheContract(t *testing.T) {
	s, _, out := newServer(&fakeEngine{})
	s.code = "ABCD-EFGH"
	for range 2 { // the code is told once
		if err := s.tell(true); err != nil {
			t.Fatal(err)
		}
	}
	const ready = "ekiden ready name=n1 smtp=127.0.0.1:25,127.0.0.1:587 http=127.0.0.1:8025 state=unsealed\n"
	if want := "recovery code: ABCD-EFGH\n" + ready + ready; out.String() != want {
		t.Errorf("got  %q\nwant %q", out, want)
	}
}

func TestCodeIsToldEvenWhenTheStartFails(t *testing.T) {
	f := &fakeEngine{startErr: errors.New("address in use")}
	s, _, out := newServer(f)
	s.code = "ABCD-EFGH"
	err := s.start(opening(f))
	if !errors.Is(err, f.startErr) {
		t.Fatalf("got %v", err)
	}
	if err := s.tell(false); err != nil || out.String() != "recovery code: ABCD-EFGH\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestSignals(t *testing.T) {
	t.Run("reload, then a graceful end", func(t *testing.T) {
		f := &fakeEngine{}
		s, signals, out := newServer(f)
		s.log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: s.level}))
		s.reread = func() (node.Config, error) {
			cfg := node.DefaultConfig()
			cfg.Log.Level = "warn"
			return cfg, nil
		}
		if err := s.start(opening(f)); err != nil {
			t.Fatal(err)
		}
		signals <- syscall.SIGHUP
		signals <- syscall.SIGTERM
		if err := s.serve(); err != nil || f.reloads != 1 || f.stops != 1 {
			t.Errorf("got %v, %d reloads, %d stops", err, f.reloads, f.stops)
		}
		if log := out.String(); s.level.Level() != slog.LevelWarn || !strings.Contains(log, "waiting=[smtp.listeners]") {
			t.Errorf("level %v, log:\n%s", s.level.Level(), log)
		}
	})
	t.Run("a second one ends at once", func(t *testing.T) {
		f := &fakeEngine{deaf: make(chan struct{})}
		defer close(f.deaf)
		s, signals, _ := newServer(f)
		if err := s.start(opening(f)); err != nil {
			t.Fatal(err)
		}
		signals <- syscall.SIGTERM
		signals <- syscall.SIGTERM
		if err := s.serve(); exitCode(err) != exitFailed {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a stop that hangs is left behind in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeEngine{deaf: make(chan struct{})}
			s, signals, _ := newServer(f)
			if err := s.start(opening(f)); err != nil {
				t.Fatal(err)
			}
			begin := clock.Wall()
			signals <- syscall.SIGTERM
			if err := s.serve(); err != nil {
				t.Errorf("got %v, want exit 0", err)
			}
			if took := clock.Since(begin); took >= 10*time.Second {
				t.Errorf("took %v, the contract allows 10s", took)
			}
			close(f.deaf)
		})
	})
	t.Run("one while starting gives up", func(t *testing.T) {
		f := &fakeEngine{block: make(chan struct{})}
		s, signals, _ := newServer(f)
		signals <- syscall.SIGTERM
		if err := s.start(opening(f)); !errors.Is(err, errStopped) {
			t.Errorf("got %v", err)
		}
	})
}
