package relay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/process"
	"github.com/ekiden-mta/ekiden/bench/verdict"
)

// Result is what one run measured. Where nothing could be measured a figure is 0, and "-" in the line.
type Result struct {
	Size         int      `json:"size"`
	Messages     int      `json:"msgs"`
	Rate         float64  `json:"rate"`          // per second, first MAIL to last message at the sink
	EngineCPU    float64  `json:"engine_cpu_us"` // per message
	Direct       float64  `json:"direct"`        // rate of the load straight into the sink
	Ratio        float64  `json:"ratio"`         // rate / direct
	Lost         int      `json:"lost"`
	Duplicates   int      `json:"dup"`
	P50          float64  `json:"p50_ms"` // MAIL to arrival
	P99          float64  `json:"p99_ms"`
	RSS          float64  `json:"rss_mb"`
	SourceCPU    float64  `json:"source_cpu_us"`
	SinkCPU      float64  `json:"sink_cpu_us"`
	EngineSource float64  `json:"engine_source_ratio"` // engine CPU / source CPU
	IO           float64  `json:"io_bytes_per_msg"`
	AcceptRate   float64  `json:"accept_rate"` // 250s per second
	Anon         float64  `json:"anon_mb"`     // memory beyond the page cache
	Wrong        int      `json:"wrong"`
	Violations   int      `json:"violations"`
	Examples     []string `json:"examples,omitempty"`

	last time.Time // when the last message arrived
}

// OK tells whether everything accepted arrived once and unchanged.
func (r Result) OK() bool {
	return r.Lost == 0 && r.Duplicates == 0 && r.Wrong == 0 && r.Violations == 0
}

// Line is the one line of contract 9, with more fields behind.
func (r Result) Line() string {
	return fmt.Sprintf("relay size=%d msgs=%d rate=%.0f/s hour=%.1fM engine_cpu_us=%s direct=%.0f/s ratio=%.2f lost=%d dup=%d "+
		"p50_ms=%s p99_ms=%s rss_mb=%s source_cpu_us=%s sink_cpu_us=%s engine_source_ratio=%s io_bytes_per_msg=%s accept_rate=%.0f/s "+
		"anon_mb=%s wrong=%d violations=%d",
		r.Size, r.Messages, r.Rate, r.Rate*3600/1e6, figure(r.EngineCPU, 0), r.Direct, r.Ratio, r.Lost, r.Duplicates,
		figure(r.P50, 1), figure(r.P99, 1), figure(r.RSS, 0), figure(r.SourceCPU, 0), figure(r.SinkCPU, 0), figure(r.EngineSource, 2),
		figure(r.IO, 0), r.AcceptRate, figure(r.Anon, 0), r.Wrong, r.Violations)
}

// figure writes what was measured, or "-".
func figure(v float64, digits int) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, v)
}

// Run measures once.
func Run(ctx context.Context, cfg Config) (Result, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Result{}, err
	}
	data, notes, remove, err := cfg.workDir()
	if err != nil {
		return Result{}, err
	}
	defer remove()
	if cfg.Tool == "postfix" {
		return cfg.postfix(ctx, data, notes)
	}
	cfg.say("load straight into the sink …")
	direct, err := cfg.direct(ctx, notes)
	if err != nil {
		return Result{}, err
	}
	cfg.say("direct %.0f/s; now through the engine …", direct)
	r, err := cfg.through(ctx, data, notes)
	r.Direct = direct
	if direct > 0 {
		r.Ratio = r.Rate / direct
	}
	return r, err
}

// direct measures the load straight into the sink: what the harness itself can do.
func (c Config) direct(ctx context.Context, notes string) (float64, error) {
	ledger, record := filepath.Join(notes, "direct.ledger"), filepath.Join(notes, "direct.record")
	s, err := c.startSink(ctx, "127.0.0.1:0", record)
	if err != nil {
		return 0, err
	}
	defer s.Kill()
	p, err := c.startLoad(s.addr, ledger, min(c.Messages, 50000))
	if err != nil {
		return 0, err
	}
	if _, err := finish(ctx, p); err != nil {
		return 0, err
	}
	if err := s.Stop(); err != nil {
		return 0, err
	}
	v, err := verdict.Check(ledger, record)
	if err != nil {
		return 0, err
	}
	if !v.OK() || v.Duplicates > 0 {
		return 0, fmt.Errorf("relay: the harness itself is at fault: %s", v)
	}
	return perSecond(v.Messages, v.Last.Sub(v.First)), nil
}

func perSecond(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

func perMessage(d time.Duration, n int) float64 {
	if n == 0 {
		return 0
	}
	return float64(d.Microseconds()) / float64(n)
}

// watch measures an engine between two moments; the zero watch measures nothing.
type watch struct {
	pid     int
	cpu     time.Duration
	written int64
	peak    process.Memory
}

func newWatch(pid int) (*watch, error) {
	w := &watch{pid: pid}
	if pid == 0 {
		return w, nil
	}
	var err error
	if w.cpu, err = process.CPU(pid); err != nil {
		return nil, err
	}
	w.written, err = process.Written(pid)
	return w, err
}

// look keeps the largest memory seen.
func (w *watch) look() {
	if w.pid == 0 {
		return
	}
	if m, err := process.MemoryOf(w.pid); err == nil {
		w.peak.RSS, w.peak.Anon = max(w.peak.RSS, m.RSS), max(w.peak.Anon, m.Anon)
	}
}

// fill puts what the watch saw into r.
func (w *watch) fill(r *Result) error {
	if w.pid == 0 || r.Messages == 0 {
		return nil
	}
	w.look()
	cpu, err := process.CPU(w.pid)
	if err != nil {
		return err
	}
	written, err := process.Written(w.pid)
	if err != nil {
		return err
	}
	r.EngineCPU = perMessage(cpu-w.cpu, r.Messages)
	r.IO = float64(written-w.written) / float64(r.Messages)
	r.RSS, r.Anon = mega(w.peak.RSS), mega(w.peak.Anon)
	if r.SourceCPU > 0 {
		r.EngineSource = r.EngineCPU / r.SourceCPU
	}
	return nil
}

func mega(n int64) float64 { return float64(n) / (1 << 20) }

func (c Config) engineConfig(path, dir, sinkAddr string) engine.Config {
	return engine.Config{Path: path, Dir: dir, Routes: map[string]string{"*": sinkAddr}, Settings: c.settings()}
}

// startEngine starts the engine of a run, its deliveries going to sinkAddr.
func (c Config) startEngine(ctx context.Context, data, sinkAddr string) (*engine.Engine, error) {
	path, err := engine.Find(c.Engine, c.Self)
	if err != nil {
		return nil, fmt.Errorf("relay: no engine: %w", err)
	}
	return engine.Start(ctx, c.engineConfig(path, filepath.Join(data, "engine"), sinkAddr))
}

// through measures load -> engine -> sink.
func (c Config) through(ctx context.Context, data, notes string) (Result, error) {
	r := Result{Size: c.Size, Messages: c.Messages}
	ledger, record := filepath.Join(notes, "ledger"), filepath.Join(notes, "record")
	addr := "127.0.0.1:0"
	if c.Sink != "" {
		addr = c.Sink
	}
	s, err := c.startSink(ctx, addr, record)
	if err != nil {
		return r, err
	}
	defer s.Kill()
	if c.Target != "" {
		err := c.measure(ctx, &r, s, c.Target, 0, ledger, nil)
		return r, err
	}
	e, err := c.startEngine(ctx, data, s.addr)
	if err != nil {
		return r, err
	}
	defer e.Crash() // its data goes with it
	if c.DKIM {
		if err := signing(ctx, c, e); err != nil {
			return r, err
		}
	}
	err = c.profiled(ctx, e, func() error { return c.measure(ctx, &r, s, e.SMTP, e.PID(), ledger, nil) })
	return r, err
}

// profiled calls run, and has the engine's processor time looked at meanwhile.
func (c Config) profiled(ctx context.Context, e *engine.Engine, run func() error) error {
	if c.Profile == "" {
		return run()
	}
	kept := make(chan error, 1)
	go func() {
		raw, err := e.Get(ctx, "/debug/pprof/profile?seconds=10")
		if err == nil {
			err = os.WriteFile(c.Profile, raw, 0o600)
		}
		kept <- err
	}()
	err := run()
	return errors.Join(err, <-kept)
}

// measure sends a load through an engine into s and fills r in. s is ended. pid is the engine's, 0 = unknown. rest, if
// there is one, returns when the engine has done what it does besides.
func (c Config) measure(ctx context.Context, r *Result, s *sinkProcess, target string, pid int, ledger string, rest func() error) error {
	w, err := newWatch(pid)
	if err != nil {
		return err
	}
	sinkBefore, err := process.CPU(s.PID())
	if err != nil {
		return err
	}
	p, err := c.startLoad(target, ledger, c.Messages)
	if err != nil {
		return err
	}
	l, err := finish(ctx, p)
	if err != nil {
		return err
	}
	if err := s.settled(ctx, int64(l.Accepted)*int64(c.Recipients), c.Quiet, w.look); err != nil {
		return err
	}
	if rest != nil {
		if err := rest(); err != nil {
			return err
		}
	}
	r.SourceCPU = perMessage(l.cpu, l.Accepted)
	r.AcceptRate = l.Rate
	sinkAfter, err := process.CPU(s.PID())
	if err != nil {
		return err
	}
	r.SinkCPU = perMessage(sinkAfter-sinkBefore, l.Accepted)
	if err := w.fill(r); err != nil {
		return err
	}
	if err := s.Stop(); err != nil {
		return err
	}
	return r.judge(ledger, s.record)
}

// judge reads the ledger and the record.
func (r *Result) judge(ledger, record string) error {
	v, err := verdict.Check(ledger, record)
	if err != nil {
		return err
	}
	r.Messages, r.last = v.Messages, v.Last
	r.Rate = perSecond(v.Messages, v.Last.Sub(v.First))
	r.Lost, r.Duplicates, r.Wrong, r.Violations = v.Lost+v.Refused, v.Duplicates, v.Wrong, v.Violations
	r.P50, r.P99 = milli(v.P50), milli(v.P99)
	r.Examples = v.Examples
	return nil
}

func milli(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// signing gives the engine a key for the load's domain.
func signing(ctx context.Context, c Config, e *engine.Engine) error {
	path, err := engine.Find(c.Engine, c.Self)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	p, err := process.Start("ekiden dkim", path, []string{
		"dkim", "create", "load.example", "--selector", "bench", "--server", "http://" + e.HTTP, "--token", e.Token(),
	}, nil)
	if err != nil {
		return err
	}
	if err := p.Wait(ctx); err != nil {
		p.Kill()
		return fmt.Errorf("relay: this engine makes no DKIM key: %w: %s", err, strings.Join(p.Rest(), " "))
	}
	return nil
}
