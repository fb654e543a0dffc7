package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/hooks"
	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/bench/process"
	"github.com/ekiden-mta/ekiden/bench/sink"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	poll  = 100 * time.Millisecond // between looks at a process
	still = 1500 * time.Millisecond
	quiet = 60 * time.Second // without any progress: what is missing will not come
)

// life is an engine's data directory with the ledger of everything promised from it and the record of everything that
// arrived, over as many crashes as it lives through.
type life struct {
	cfg      Config
	dir      string // of the engine
	settings string
	smtp     string
	http     string
	sinkAt   string
	ledger   string
	record   string
	hooks    *hooks.Receiver // nil = none
	told     hooks.Verdict   // of all runs until now
	close    func()
}

// newLife makes a fresh one. Its ports are fixed, so that clients find it again.
func (c Config) newLife(name string, rng *rand.Rand) (*life, error) {
	note, remove, err := notes(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	l := &life{
		cfg: c, dir: filepath.Join(c.Dir, name), settings: settings(),
		ledger: filepath.Join(note, "ledger"), record: filepath.Join(note, "record"),
	}
	l.close = func() {
		if l.hooks != nil {
			l.hooks.Close()
		}
		remove()
		_ = os.RemoveAll(l.dir)
	}
	for _, addr := range []*string{&l.smtp, &l.http, &l.sinkAt} {
		if *addr, err = engine.FreeAddr("127.0.0.1", rng.IntN); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// listen has every event of the life posted to a receiver of its own.
func (l *life) listen() (err error) {
	if l.hooks, err = hooks.Listen(); err != nil {
		return fmt.Errorf("faults: %w", err)
	}
	l.settings = strings.Replace(l.settings, "    compositions:",
		"    webhooks: [{url: '"+l.hooks.URL+"', events: [deliveries, bounces, blocks]}]\n    compositions:", 1)
	return nil
}

// start starts the engine on the life's data and ports.
func (l *life) start(ctx context.Context) (*engine.Engine, error) {
	return engine.Start(ctx, engine.Config{
		Path: l.cfg.Engine, Dir: l.dir, Routes: map[string]string{"*": l.sinkAt}, Settings: l.settings, SMTP: l.smtp, HTTP: l.http,
	})
}

// load starts a load on the engine in the background.
func (l *life) load(ctx context.Context, cfg load.Config) *loading {
	cfg.Target, cfg.Ledger = l.smtp, l.ledger
	return startLoad(ctx, cfg)
}

// startLoad runs a load in the background.
func startLoad(ctx context.Context, cfg load.Config) *loading {
	ctx, cancel := context.WithCancel(ctx)
	run := &loading{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(run.done)
		run.res, run.err = load.Run(ctx, cfg)
	}()
	return run
}

// loading is a load that runs. res and err are set once done is closed.
type loading struct {
	cancel context.CancelFunc
	done   chan struct{}
	res    load.Result
	err    error
}

// stop ends the load where it is and returns what it came to.
func (r *loading) stop() load.Result {
	r.cancel()
	<-r.done
	return r.res
}

// wait waits for the load's own end.
func (r *loading) wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		r.stop()
		return ctx.Err()
	}
}

// sinkProcess is `ekiden-bench sink` as a child.
type sinkProcess struct {
	*process.Process
	addr    string
	metrics string
}

// sink starts the life's receivers.
func (l *life) sink(ctx context.Context, extra ...string) (*sinkProcess, error) {
	return l.cfg.sink(ctx, l.sinkAt, l.record, extra...)
}

func (c Config) sink(ctx context.Context, addr, record string, extra ...string) (*sinkProcess, error) {
	return c.sinkWithin(ctx, nil, addr, "127.0.0.1:0", record, extra...)
}

func (s *sinkProcess) counters(ctx context.Context) (sink.Counters, error) {
	var c sink.Counters
	_, body, err := get(ctx, "http://"+s.metrics+"/counters")
	if err == nil {
		err = json.Unmarshal([]byte(body), &c)
	}
	if err != nil {
		return c, fmt.Errorf("faults: ask sink: %w", err)
	}
	return c, nil
}

// get fetches a page, whatever its status, within 5 s and 64 MiB.
func get(ctx context.Context, url string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return resp.StatusCode, string(raw), err
}

// errDied is reported when the engine ended though nobody ended it.
var errDied = errors.New("engine died")

// until looks at done every poll until it says yes, the engine dies or patience is over.
func until(ctx context.Context, e *engine.Engine, patience time.Duration, what string, done func() bool) error {
	tick, end := time.NewTicker(poll), time.NewTimer(patience)
	defer tick.Stop()
	defer end.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-e.Ended():
			return fmt.Errorf("waiting for %s: %w", what, errDied)
		case <-end.C:
			return fmt.Errorf("waiting for %s: not within %s", what, patience)
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// drained waits until the queue is empty and the sink has taken nothing for a while. The engine's count only tells when
// to look: what it forgot shows in the verdict.
func drained(ctx context.Context, e *engine.Engine, s *sinkProcess) error {
	var waiting float64
	last, taken := clock.Wall(), int64(-1)
	least, moved := -1.0, clock.Wall()
	err := until(ctx, e, 15*time.Minute, "the queue to drain", func() bool {
		m, err := e.Metrics(ctx)
		if err != nil {
			return false
		}
		c, err := s.counters(ctx)
		if err != nil {
			return false
		}
		now := clock.Wall()
		waiting = m.Waiting()
		if c.Deliveries != taken {
			taken, last = c.Deliveries, now
		}
		if least < 0 || waiting < least {
			least, moved = waiting, now
		}
		return waiting == 0 && now.Sub(last) >= still || now.Sub(last) > quiet && now.Sub(moved) > quiet
	})
	if err == nil && waiting > 0 {
		err = fmt.Errorf("%.0f deliveries wait and none arrived for %s", waiting, quiet)
	}
	return err
}

// ready asks /readyz.
func ready(ctx context.Context, e *engine.Engine) (status int, reasons string) {
	status, body, err := get(ctx, "http://"+e.HTTP+"/readyz")
	if err != nil {
		return 0, err.Error()
	}
	return status, first(body, 5)
}

// containsWord tells whether one of the reasons of /readyz is word.
func containsWord(reasons, word string) bool {
	return slices.Contains(strings.FieldsFunc(reasons, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }), word)
}

// lastWords returns what the engine's log says of its death: from the first line the runtime wrote, else the end.
func (l *life) lastWords() string {
	raw, err := os.ReadFile(filepath.Join(l.dir, "engine.log"))
	if err != nil {
		return err.Error()
	}
	for _, word := range []string{"\nunexpected fault", "\nfatal error", "\npanic:", "\nSIG"} {
		if at := bytes.LastIndex(raw, []byte(word)); at >= 0 {
			return string(raw[at+1 : min(len(raw), at+1500)])
		}
	}
	return string(raw[max(0, len(raw)-1500):])
}
