package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/process"
	"github.com/ekiden-mta/ekiden/bench/verdict"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// BacklogResult is what accepting with all receivers down, and their return, came to.
type BacklogResult struct {
	Size        int     `json:"size"`
	Messages    int     `json:"msgs"`
	Waiting     int     `json:"waiting"`      // deliveries
	AcceptRate  float64 `json:"accept_rate"`  // over all
	AcceptStart float64 `json:"accept_start"` // over the first tenth
	AcceptEnd   float64 `json:"accept_end"`   // over the last tenth
	EngineCPU   float64 `json:"engine_cpu_us"`
	Anon        float64 `json:"anon_mb"` // largest seen beyond the page cache
	RSS         float64 `json:"rss_mb"`
	IO          float64 `json:"io_bytes_per_msg"`
	Disk        int64   `json:"disk_bytes"`
	Live        int64   `json:"live_bytes"`
	DiskRatio   float64 `json:"disk_ratio"`
	Restart     float64 `json:"restart_ms"`        // from the start after kill -9 to the first delivery
	Drain       float64 `json:"drain_rate"`        // first to last delivery
	DrainCPU    float64 `json:"drain_cpu_us"`      // engine, per message
	DrainAnon   float64 `json:"drain_anon_mb"`     // largest seen while draining
	Urgent      int     `json:"urgent,omitempty"`  // of a larger priority, sent while the backlog went out …
	UrgentP50   float64 `json:"urgent_p50_ms"`     // … from their MAIL to their arrival
	UrgentP99   float64 `json:"urgent_p99_ms"`     //
	Overtaken   int64   `json:"urgent_overtook"`   // of the backlog, still waiting when the last of them had arrived
	Lost        int     `json:"lost"`              // only known after a drain
	Duplicates  int     `json:"dup"`               //
	Wrong       int     `json:"wrong"`             //
	Drained     bool    `json:"drained,omitempty"` //
}

// Line is the result for people and scripts.
func (r BacklogResult) Line() string {
	line := fmt.Sprintf("backlog size=%d msgs=%d waiting=%d accept_rate=%.0f/s accept_start=%.0f/s accept_end=%.0f/s engine_cpu_us=%s anon_mb=%s rss_mb=%s "+
		"io_bytes_per_msg=%s disk_bytes=%d live_bytes=%d disk_ratio=%.2f",
		r.Size, r.Messages, r.Waiting, r.AcceptRate, r.AcceptStart, r.AcceptEnd, figure(r.EngineCPU, 0), figure(r.Anon, 0), figure(r.RSS, 0),
		figure(r.IO, 0), r.Disk, r.Live, r.DiskRatio)
	if r.Restart > 0 {
		line += fmt.Sprintf(" restart_ms=%.0f", r.Restart)
	}
	if r.Urgent > 0 {
		line += fmt.Sprintf(" urgent=%d urgent_p50_ms=%.0f urgent_p99_ms=%.0f overtook=%d", r.Urgent, r.UrgentP50, r.UrgentP99, r.Overtaken)
	}
	if r.Drained {
		line += fmt.Sprintf(" drain_rate=%.0f/s drain_cpu_us=%s drain_anon_mb=%s lost=%d dup=%d wrong=%d",
			r.Drain, figure(r.DrainCPU, 0), figure(r.DrainAnon, 0), r.Lost, r.Duplicates, r.Wrong)
	}
	return line
}

// RunBacklog accepts with every receiver down, measures what waiting costs, and, when asked, kills the engine, starts
// it again and lets the receivers come back.
func RunBacklog(ctx context.Context, cfg Config) (BacklogResult, error) {
	cfg, err := cfg.withDefaults()
	r := BacklogResult{Size: cfg.Size, Messages: cfg.Backlog}
	if err != nil {
		return r, err
	}
	r.Waiting = cfg.Backlog * cfg.Recipients
	data, notes, remove, err := cfg.workDir()
	if err != nil {
		return r, err
	}
	defer remove()
	addr, err := engine.FreeAddr("127.0.0.1", rand.IntN)
	if err != nil {
		return r, err
	}
	e, err := cfg.startEngine(ctx, data, addr)
	if err != nil {
		return r, err
	}
	defer func() { e.Crash() }()
	ledger, record := filepath.Join(notes, "ledger"), filepath.Join(notes, "record")
	cfg.say("accepting %d messages with the receivers down …", cfg.Backlog)
	if err := cfg.accept(ctx, &r, e.SMTP, e.PID(), ledger); err != nil {
		return r, err
	}
	if r.Disk, err = process.Disk(filepath.Join(e.Dir, "data")); err != nil {
		return r, err
	}
	r.Live = int64(cfg.Backlog) * int64(cfg.Size)
	r.DiskRatio = float64(r.Disk) / float64(r.Live)
	if !cfg.Drain && !cfg.Restart && cfg.Urgent == 0 {
		return r, nil
	}
	if cfg.Restart {
		cfg.say("kill -9 …")
		e.Crash()
	}
	s, err := cfg.startSink(ctx, addr, record)
	if err != nil {
		return r, err
	}
	defer s.Kill()
	began := clock.Wall()
	if cfg.Restart {
		again, err := cfg.startEngine(ctx, data, addr)
		if err != nil {
			return r, err
		}
		e = again
	}
	w, err := newWatch(e.PID())
	if err != nil {
		return r, err
	}
	if _, err := s.arrived(ctx, 1, max(cfg.Quiet, 2*time.Minute), w.look); err != nil {
		return r, err
	}
	if cfg.Restart {
		c, err := s.counters(ctx)
		if err != nil {
			return r, err
		}
		r.Restart = milli(c.First.Sub(began))
		cfg.say("first delivery %.0f ms after the start", r.Restart)
	}
	if cfg.Urgent > 0 {
		if err := cfg.urgent(ctx, &r, s, e.SMTP, ledger, record); err != nil {
			return r, err
		}
	}
	if !cfg.Drain {
		return r, nil
	}
	return r, cfg.drain(ctx, &r, s, w, ledger, record)
}

// urgent sends mail of a larger priority than the backlog's while that goes out, and measures how long it took to arrive
// (requirement N11).
func (c Config) urgent(ctx context.Context, r *BacklogResult, s *sinkProcess, target, ledger, record string) error {
	own := ledger + ".urgent"
	c.say("sending %d messages of priority 90 …", c.Urgent)
	one := c // recipients make a large backlog fast; urgent mail is what people wait for
	one.Recipients = 1
	p, err := one.startLoad(target, own, c.Urgent, "--headers", "X-Urgent: yes")
	if err != nil {
		return err
	}
	if _, err := finish(ctx, p); err != nil {
		return err
	}
	var v verdict.Verdict
	_, err = await(ctx, int64(c.Urgent), c.Quiet, func() (int64, error) {
		v, err = verdict.Check(own, record)
		return int64(v.Delivered), err
	}, func() {})
	if err != nil {
		return err
	}
	counters, err := s.counters(ctx)
	if err != nil {
		return err
	}
	r.Urgent, r.UrgentP50, r.UrgentP99 = v.Delivered, milli(v.P50), milli(v.P99)
	r.Overtaken = int64(c.Backlog*c.Recipients+c.Urgent) - counters.Deliveries
	r.Lost += c.Urgent - v.Delivered
	return c.join(own, ledger)
}

// join adds one ledger to another.
func (c Config) join(from, to string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Close())
}

// accept fills the backlog and the figures about accepting.
func (c Config) accept(ctx context.Context, r *BacklogResult, target string, pid int, ledger string) error {
	w, err := newWatch(pid)
	if err != nil {
		return err
	}
	p, err := c.startLoad(target, ledger, c.Backlog)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(4 * poll)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.look()
			case <-done:
				return
			}
		}
	}()
	l, err := finish(ctx, p)
	close(done)
	<-watched
	if err != nil {
		return err
	}
	one := Result{Messages: l.Accepted}
	if err := w.fill(&one); err != nil {
		return err
	}
	r.EngineCPU, r.IO, r.Anon, r.RSS, r.AcceptRate = one.EngineCPU, one.IO, one.Anon, one.RSS, l.Rate
	times, err := ledgerTimes(ledger)
	if err != nil {
		return err
	}
	tenth := len(times) / 10
	if tenth > 1 {
		r.AcceptStart = perSecond(tenth-1, times[tenth-1].Sub(times[0]))
		r.AcceptEnd = perSecond(tenth-1, times[len(times)-1].Sub(times[len(times)-tenth]))
	}
	return nil
}

// ledgerTimes returns the moments of the 250s in order.
func ledgerTimes(ledger string) ([]time.Time, error) {
	f, err := os.Open(ledger)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	defer func() { _ = f.Close() }()
	var times []time.Time
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 64<<10), 1<<20)
	for sc.Scan() {
		_, rest, _ := strings.Cut(sc.Text(), " ")
		text, _, _ := strings.Cut(rest, " ")
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return nil, fmt.Errorf("relay: ledger: %w", err)
		}
		times = append(times, at)
	}
	slices.SortFunc(times, time.Time.Compare)
	return times, sc.Err()
}

// drain lets everything out and judges it.
func (c Config) drain(ctx context.Context, r *BacklogResult, s *sinkProcess, w *watch, ledger, record string) error {
	c.say("draining …")
	if err := s.settled(ctx, int64(c.Backlog*c.Recipients+c.Urgent), c.Quiet, w.look); err != nil {
		return err
	}
	counters, err := s.counters(ctx)
	if err != nil {
		return err
	}
	r.Drain = perSecond(int(counters.Deliveries), counters.Last.Sub(counters.First))
	one := Result{Messages: int(counters.Deliveries)}
	if err := w.fill(&one); err != nil {
		return err
	}
	r.DrainCPU, r.DrainAnon, r.Drained = one.EngineCPU, one.Anon, true
	if err := s.Stop(); err != nil {
		return err
	}
	v, err := verdict.Check(ledger, record)
	if err != nil {
		return err
	}
	r.Lost, r.Duplicates, r.Wrong = v.Lost+v.Refused, v.Duplicates, v.Wrong
	return nil
}
