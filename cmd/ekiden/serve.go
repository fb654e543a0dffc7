package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ekiden-mta/ekiden/internal/version"
	"github.com/ekiden-mta/ekiden/node"
)

// stopTime is how long open transactions may take after SIGTERM; the process ends within 10 s (contract: commands).
const stopTime = 9 * time.Second

type serveCmd struct {
	Config string `short:"c" help:"Node file; without, everything runs on loopback with data in ./ekiden-data." placeholder:"FILE" env:"EKIDEN_CONFIG"`
	Data   string `help:"Data directory." placeholder:"DIR"`
	SMTP   string `name:"smtp" help:"Address to take mail on." placeholder:"ADDR"`
	HTTP   string `name:"http" help:"Address of health, metrics and the operator's calls." placeholder:"ADDR"`
	Name   string `help:"Name of the node." placeholder:"NAME"`
}

func (serveCmd) Help() string {
	return "Example: ekiden serve --data ./ekiden-data --smtp 127.0.0.1:2525\n\n" +
		"Prints one line when it serves; logs are JSON on standard error. SIGTERM stops gracefully, a second one at once; " +
		"SIGHUP rereads certificates and the node file: log.level, delivery.routes and delivery.port count at once, and the log " +
		"names what waits for a restart."
}

// engine is a node as serve drives it: *node.Node.
type engine interface {
	Start(ctx context.Context) error
	Ready() node.Ready
	Stop(ctx context.Context) error
	Reload(node.Config) (waiting []string, err error)
}

// Run serves until a signal ends it.
func (c serveCmd) Run(a *app) error {
	tuneRuntime()
	cfg, err := c.config()
	if err != nil {
		return err
	}
	level := &slog.LevelVar{}
	level.Set(logLevel(cfg.Log.Level))
	log := slog.New(slog.NewJSONHandler(a.err, &slog.HandlerOptions{Level: level}))
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	defer signal.Stop(signals)
	s := &server{app: a, log: log, level: level, reread: c.config, signals: signals}
	err = s.start(func(ctx context.Context) (engine, error) {
		return node.New(ctx, cfg, node.Options{Version: version.String(), Log: log, Code: s.keep})
	})
	if tellErr := s.tell(err == nil); err == nil && tellErr != nil {
		return errors.Join(fmt.Errorf("tell that the node serves: %w", tellErr), s.stop())
	}
	switch {
	case errors.Is(err, errStopped):
		return nil
	case err != nil:
		return err
	}
	return s.serve()
}

func (c serveCmd) config() (node.Config, error) {
	cfg := node.DefaultConfig()
	if c.Config != "" {
		var err error
		if cfg, err = node.ReadConfig(c.Config); err != nil {
			return cfg, badUsage(err)
		}
	}
	cfg = cfg.Override(node.Overrides{Data: c.Data, SMTP: c.SMTP, HTTP: c.HTTP, Name: c.Name})
	return cfg, cfg.Validate()
}

// server runs one engine under the process's signals.
type server struct {
	*app
	log     *slog.Logger
	engine  engine
	level   *slog.LevelVar              // of log
	reread  func() (node.Config, error) // the node file under the flags
	signals <-chan os.Signal

	mu   sync.Mutex
	code string // recovery code, where this start made one and it is not told yet
	told bool   // tell was called: a code that comes now is told at once
}

var errStopped = errors.New("stopped while starting")

// start makes and starts the engine; a stop signal meanwhile gives up.
func (s *server) start(open func(context.Context) (engine, error)) error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	started := make(chan error, 1)
	go func() {
		var err error
		if s.engine, err = open(ctx); err == nil {
			err = s.engine.Start(ctx)
		}
		started <- err
	}()
	stopping := false
	for {
		select {
		case err := <-started:
			if !stopping {
				return err
			}
			if err == nil {
				err = s.stop()
			}
			s.log.Info("stopped while starting", "error", err)
			return errStopped
		case sig := <-s.signals:
			switch {
			case sig == syscall.SIGHUP: // everything is being read just now
			case stopping:
				return &coded{exitFailed, fmt.Errorf("stopped at once by a second %v", sig)}
			default:
				stopping = true
				cancel()
			}
		}
	}
}

// keep takes the recovery code: to be told with the ready line or, where a cluster was founded later than that, at once.
func (s *server) keep(code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.code = code; s.told {
		if err := s.tellCode(""); err != nil {
			s.log.Error("the recovery code could not be told", "error", err)
		}
	}
}

// tell prints the recovery code, if one was made, and the ready line in one write: whoever waits for the ready line
// has then seen the code. A code is told even if the start failed after it was made, for it is never told again.
// It goes to standard output because standard error is the log, and logs are kept.
func (s *server) tell(ready bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = true
	var text strings.Builder
	if ready {
		r := s.engine.Ready()
		if s.json {
			line := map[string]any{"name": r.Name, "smtp": r.SMTP, "http": r.HTTP, "state": r.State}
			if err := printJSON(&text, line); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(&text, "ekiden ready name=%s smtp=%s http=%s state=%s\n", r.Name, strings.Join(r.SMTP, ","), r.HTTP, r.State)
		}
	}
	return s.tellCode(text.String())
}

// tellCode prints what is kept of the code, and then text. It is called with mu held.
func (s *server) tellCode(text string) error {
	if s.code != "" {
		text = "recovery code: " + s.code + "\n" + text
		s.code = ""
	}
	if text == "" {
		return nil
	}
	_, err := io.WriteString(s.out, text)
	return err
}

// serve waits for the signals that reload and end.
func (s *server) serve() error {
	for sig := range s.signals {
		if sig != syscall.SIGHUP {
			s.log.Info("stopping", "signal", sig.String())
			break
		}
		s.reload()
	}
	return s.stop()
}

// reload rereads what may change; a file with a mistake changes nothing.
func (s *server) reload() {
	cfg, err := s.reread()
	if err != nil {
		s.log.Error("node file not reread", "error", err)
		return
	}
	waiting, err := s.engine.Reload(cfg)
	if err != nil {
		s.log.Error("reload failed", "error", err)
		return
	}
	s.level.Set(logLevel(cfg.Log.Level))
	if len(waiting) > 0 {
		s.log.Warn("reloaded; what else was changed counts from the next start on", "waiting", waiting)
		return
	}
	s.log.Info("reloaded")
}

// stop ends the engine: gracefully within stopTime, at once at a second signal.
func (s *server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.engine.Stop(ctx) }()
	// Past its time the engine is left behind: what it has not finished stays queued, as after a crash.
	late := time.NewTimer(stopTime + 500*time.Millisecond)
	defer late.Stop()
	for {
		select {
		case err := <-stopped:
			if errors.Is(err, context.DeadlineExceeded) {
				s.log.Warn("stopped with transactions open; they are tried again", "error", err)
				return nil
			}
			return err
		case <-late.C:
			s.log.Warn("stopped with work unfinished; it stays queued")
			return nil
		case sig := <-s.signals:
			if sig != syscall.SIGHUP {
				return &coded{exitFailed, fmt.Errorf("stopped at once by a second %v", sig)}
			}
		}
	}
}

// heapLimit keeps a deep backlog from growing the heap with it, in bytes; soft. How often the collector runs otherwise
// is left to Go: memory touched for the first time costs more than collecting does (docs/adr/0013).
const heapLimit = 320 << 20

// tuneRuntime sets what the operator did not set by environment.
func tuneRuntime() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.NumCPU() + 1) // one processor is nearly always lent to a sync of the disk
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapLimit)
	}
}

func logLevel(word string) slog.Level {
	switch word {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}
