package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/bench/sink"
	"github.com/ekiden-mta/ekiden/bench/verdict"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Config says what to show.
type Config struct {
	Messages int           // default 20000
	Engine   string        // binary; "" = the ekiden beside Self
	Self     string        // this program
	Keep     bool          // go on after the summary until the context ends
	Timeout  time.Duration // for every outcome, default 3 minutes
	Out      io.Writer
	Terminal bool // Out is one: progress is drawn in place
	Width    int  // of the terminal, in columns
}

// ErrUnfinished is reported when some accepted message got no final outcome, or ledger and record disagree.
var ErrUnfinished = errors.New("the demonstration did not end as promised")

// Row is one receiver in the summary.
type Row struct {
	Receiver  string  `json:"receiver"`
	Sent      int64   `json:"sent"`      // accepted by the engine for it
	Delivered int64   `json:"delivered"` // taken by it
	Deferred  int64   `json:"deferred"`  // its 4xx, resets and silences: tried again later
	Failed    int64   `json:"failed"`    // its 5xx
	Rate      float64 `json:"rate"`      // delivered per second while it had mail
	Blocks    int64   `json:"blocks"`    // times it shut a source IP out
}

// Summary is what the demonstration came to.
type Summary struct {
	Rows    []Row           `json:"receivers"`
	Verdict verdict.Verdict `json:"verdict"`
	Rate    float64         `json:"rate"` // final outcomes per second, first MAIL to the last outcome
	Took    time.Duration   `json:"took_ns"`
	Console string          `json:"console"`
	SMTP    string          `json:"smtp"`
}

// show is a running demonstration.
type show struct {
	cfg     Config
	dir     string
	sink    *sink.Server
	engine  *engine.Engine
	began   time.Time
	changed map[string]time.Time // when a receiver last took something
	taken   map[string]int64
	ledger  string
	record  string
}

// Run shows it and returns what was counted.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	if cfg.Messages <= 0 {
		cfg.Messages = 20000
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 3 * time.Minute
	}
	dir, err := os.MkdirTemp("", "ekiden-demo-")
	if err != nil {
		return Summary{}, fmt.Errorf("demo: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s := &show{
		cfg: cfg, dir: dir, changed: map[string]time.Time{}, taken: map[string]int64{},
		ledger: filepath.Join(dir, "ledger"), record: filepath.Join(dir, "record"),
	}
	if err := s.open(ctx); err != nil {
		return Summary{}, err
	}
	defer func() {
		_ = s.engine.Stop()
		_ = s.sink.Stop()
	}()
	fmt.Fprintf(cfg.Out, "ekiden at smtp %s, console http://%s/ · pretend internet: %d receivers · source IPs %s to %s\n",
		s.engine.SMTP, s.engine.HTTP, len(parts()), sources()[0], sources()[len(sources())-1])
	sum, err := s.run(ctx)
	if err != nil {
		return sum, err
	}
	if cfg.Keep {
		fmt.Fprintf(cfg.Out, "\nkept running: smtp %s, console http://%s/ (Ctrl-C ends)\n", s.engine.SMTP, s.engine.HTTP)
		for _, line := range s.engine.Said() {
			fmt.Fprintln(cfg.Out, line)
		}
		<-ctx.Done()
	}
	return sum, nil
}

// open starts the internet and the engine.
func (s *show) open(ctx context.Context) error {
	model, listen, routes, err := world()
	if err != nil {
		return err
	}
	path, err := engine.Find(s.cfg.Engine, s.cfg.Self)
	if err != nil {
		return fmt.Errorf("demo: no engine: %w", err)
	}
	if s.sink, err = sink.Start(sink.Config{Listen: listen, Model: model, Record: s.record, Seed: 1}); err != nil {
		return err
	}
	s.engine, err = engine.Start(ctx, engine.Config{
		Path: path, Dir: filepath.Join(s.dir, "engine"), Routes: routes, Sources: sources(), Settings: settings(), Testing: true,
	})
	if err != nil {
		_ = s.sink.Stop()
		return err
	}
	// Carriers are busy on the hour and the engine then waits up to a minute more (requirement D2). A demonstration
	// that is started there is moved ten minutes on.
	if m := clock.Wall().Minute(); m >= 58 || m <= 2 {
		if _, err := s.engine.Post(ctx, "/testing/clock", `{"advance":"10m"}`); err != nil {
			fmt.Fprintf(s.cfg.Out, "the clock could not be moved off the full hour, expect a minute more: %v\n", err)
		}
	}
	return nil
}

// run sends, watches, and judges.
func (s *show) run(ctx context.Context) (Summary, error) {
	type sent struct {
		load.Result
		err error
	}
	done := make(chan sent, 1)
	s.began = clock.Wall()
	go func() {
		res, err := load.Run(ctx, load.Config{
			Target: s.engine.SMTP, Messages: s.cfg.Messages, Sessions: 20, Size: 2048, Pipeline: true, DomainList: mix(),
			LocalParts: locals(), From: "news@load.example", Ledger: s.ledger,
		})
		done <- sent{res, err}
	}()
	d := newDisplay(s.cfg)
	tick := time.NewTicker(d.Every())
	defer tick.Stop()
	deadline := time.NewTimer(s.cfg.Timeout)
	defer deadline.Stop()
	var in *sent
	for {
		select {
		case r := <-done:
			if r.err != nil {
				return Summary{}, r.err
			}
			in, done = &r, nil
		case <-tick.C:
		case <-deadline.C:
			return s.unfinished(ctx, in != nil)
		case <-s.engine.Ended():
			return Summary{}, fmt.Errorf("%w: the engine ended: %w", ErrUnfinished, s.engine.Wait(ctx))
		case <-ctx.Done():
			return Summary{}, ctx.Err()
		}
		m, err := s.engine.Metrics(ctx)
		if err != nil {
			return Summary{}, err
		}
		rows := s.rows()
		d.draw(clock.Since(s.began), rows, m)
		if in != nil && m.Final() >= float64(in.Accepted) && m.Waiting() == 0 {
			d.end()
			return s.judge()
		}
	}
}

// rows counts at the receivers.
func (s *show) rows() []Row {
	c, now := s.sink.Counters(), clock.Wall()
	var rows []Row
	for _, p := range parts() {
		rc := c.Receivers[p.name]
		row := Row{Receiver: p.name, Delivered: rc.Accepted, Blocks: rc.Blocks}
		for code, n := range rc.Refused {
			if strings.HasPrefix(code, "5") {
				row.Failed += n
			} else {
				row.Deferred += n
			}
		}
		if row.Delivered != s.taken[p.name] {
			s.taken[p.name], s.changed[p.name] = row.Delivered, now
		}
		if took := s.changed[p.name].Sub(s.began); took > 0 {
			row.Rate = float64(row.Delivered) / took.Seconds()
		}
		rows = append(rows, row)
	}
	return rows
}

// judge compares ledger and record and prints the summary.
func (s *show) judge() (Summary, error) {
	took := clock.Since(s.began)
	v, err := verdict.Check(s.ledger, s.record)
	if err != nil {
		return Summary{}, fmt.Errorf("demo: %w", err)
	}
	sum := Summary{Rows: s.rows(), Verdict: v, Took: took, Console: "http://" + s.engine.HTTP + "/", SMTP: s.engine.SMTP}
	if err := s.count(sum.Rows); err != nil {
		return sum, err
	}
	sum.Rate = float64(v.Accepted) / v.Last.Sub(v.First).Seconds()
	sum.print(s.cfg.Out)
	if !v.OK() || v.Duplicates > 0 || v.Delivered+v.Refused != v.Accepted {
		return sum, fmt.Errorf("%w: %s %s", ErrUnfinished, v, strings.Join(v.Examples, ", "))
	}
	return sum, nil
}

// count fills in what the engine accepted per receiver, from the ledger.
func (s *show) count(rows []Row) error {
	raw, err := os.ReadFile(s.ledger)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	of := map[string]*Row{}
	for i, p := range parts() {
		for _, d := range p.domains {
			of[d] = &rows[i]
		}
	}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if r := of[line[strings.LastIndexByte(line, '@')+1:]]; r != nil {
			r.Sent++
		}
	}
	return nil
}

// unfinished says what is missing.
func (s *show) unfinished(ctx context.Context, sent bool) (Summary, error) {
	m, err := s.engine.Metrics(ctx)
	if err != nil {
		return Summary{}, err
	}
	for _, r := range s.rows() {
		fmt.Fprintf(s.cfg.Out, "%-9s delivered %d, deferred %d, failed %d, blocks %d\n", r.Receiver, r.Delivered, r.Deferred, r.Failed, r.Blocks)
	}
	v, err := verdict.Check(s.ledger, s.record)
	if err != nil {
		return Summary{}, fmt.Errorf("demo: %w", err)
	}
	return Summary{Rows: s.rows(), Verdict: v}, fmt.Errorf("%w: after %s all sent: %t; final outcomes %.0f, still waiting %.0f of %d messages; %s",
		ErrUnfinished, s.cfg.Timeout, sent, m.Final(), m.Waiting(), s.cfg.Messages, v)
}
