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
	"github.com/ekiden-mta/ekiden/bench/hooks"
	"github.com/ekiden-mta/ekiden/bench/process"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// What can be compared.
const (
	compareBare     = "bare"     // everything on and addresses suppressed, against no events, counters and suppression
	compareWebhooks = "webhooks" // every event posted to a receiver beside it, against no webhooks
	compareStandby  = "standby"  // a copy of the queue at a standby on the same machine before each 250, against a node alone
)

// Goals: the share of the other engine's rate that has to be reached, and what a standby may cost its owner.
const (
	goalRatio   = 0.9
	goalStandby = 0.55 // owner and standby share the processors
	goalShip    = 25.0 // us of the owner's CPU per message
)

// ComparedResult is what two engines came to that took the same load in turns. Rates, costs and memory are medians, the
// ratio is the median of the pairs' ratios.
type ComparedResult struct {
	Compare    string    `json:"compare"`
	Pairs      int       `json:"pairs"`
	Suppressed int       `json:"suppressed"`
	Import     float64   `json:"import_s"`       // of the suppressed addresses, by the command that operators use
	ImportAnon float64   `json:"import_anon_mb"` // largest memory of the engine meanwhile, beyond the page cache …
	ImportRSS  float64   `json:"import_rss_mb"`  // … and with what it has mapped of files
	Rate       float64   `json:"rate"`           // with everything on
	Other      float64   `json:"other_rate"`     // of the other engine
	Ratio      float64   `json:"ratio"`          // of the rates
	Ratios     []float64 `json:"ratios"`         // of each pair
	CPU        float64   `json:"engine_cpu_us"`  // per message
	OtherCPU   float64   `json:"other_cpu_us"`   //
	ShipCPU    float64   `json:"ship_cpu_us"`    // how much more the owner of a copied queue needs, per message: median of the pairs
	StandbyCPU float64   `json:"standby_cpu_us"` // of the standby, per message
	RSS        float64   `json:"rss_mb"`         // the largest seen
	Lost       int       `json:"lost"`           // of mail, by both
	Duplicates int       `json:"dup"`            //
	Wrong      int       `json:"wrong"`          //
	Events     int       `json:"hook_events"`    // posted
	HookLost   int       `json:"hook_lost"`      // never posted
	HookTwice  int       `json:"hook_repeated"`  // posted again, though no answer was missed
	HookLag    float64   `json:"hook_lag_ms"`    // from the last arrival to the last post, the largest
	Examples   []string  `json:"examples,omitempty"`
}

// OK tells whether mail arrived once and unchanged, and every event was posted once. The ratio is no promise.
func (r *ComparedResult) OK() bool { return r.Lost+r.Duplicates+r.Wrong+r.HookLost+r.HookTwice == 0 }

// goal is the ratio that has to be reached.
func (r *ComparedResult) goal() float64 {
	if r.Compare == compareStandby {
		return goalStandby
	}
	return goalRatio
}

// Met tells whether the ratio reaches the goal, and the cost of a standby keeps to its own.
func (r *ComparedResult) Met() bool {
	return r.Ratio >= r.goal() && (r.Compare != compareStandby || r.ShipCPU <= goalShip)
}

// Line is the result for people and scripts.
func (r *ComparedResult) Line() string {
	line := fmt.Sprintf("compare %s pairs=%d ratio=%.3f goal=%.2f rate=%.0f/s other_rate=%.0f/s engine_cpu_us=%s other_cpu_us=%s rss_mb=%s lost=%d dup=%d wrong=%d",
		r.Compare, r.Pairs, r.Ratio, r.goal(), r.Rate, r.Other, figure(r.CPU, 1), figure(r.OtherCPU, 1), figure(r.RSS, 0), r.Lost, r.Duplicates, r.Wrong)
	if r.Suppressed > 0 {
		line += fmt.Sprintf(" suppressed=%d import_s=%.0f import_anon_mb=%.0f import_rss_mb=%.0f", r.Suppressed, r.Import, r.ImportAnon, r.ImportRSS)
	}
	if r.Compare == compareStandby {
		line += fmt.Sprintf(" ship_cpu_us=%.1f ship_goal_us=%.0f standby_cpu_us=%s", r.ShipCPU, goalShip, figure(r.StandbyCPU, 1))
	}
	if r.Compare == compareWebhooks {
		line += fmt.Sprintf(" hook_events=%d hook_lost=%d hook_repeated=%d hook_lag_ms=%.0f", r.Events, r.HookLost, r.HookTwice, r.HookLag)
	}
	return line
}

// side is one of the two engines, and where its mail goes.
type side struct {
	name    string
	cfg     engine.Config
	e       *engine.Engine
	hooks   *hooks.Receiver // nil = none
	standby *standby        // nil = none
	results []Result
}

// start starts the engine, and its standby.
func (s *side) start(ctx context.Context) (err error) {
	if s.standby == nil {
		s.e, err = engine.Start(ctx, s.cfg)
		return err
	}
	s.e, err = s.standby.form(ctx, s.cfg)
	return err
}

func (s *side) crash() {
	if s.standby != nil {
		s.standby.cluster.Crash()
		return
	}
	s.e.Crash()
}

// RunCompared starts two engines of the same binary and gives them the same load in turns, the one that is first changing
// from pair to pair. The one that waits does nothing.
func RunCompared(ctx context.Context, cfg Config) (ComparedResult, error) {
	cfg, err := cfg.withDefaults()
	r := ComparedResult{Compare: cfg.Compare, Pairs: cfg.Pairs, Suppressed: cfg.Suppressed}
	if err != nil {
		return r, err
	}
	data, notes, remove, err := cfg.workDir()
	if err != nil {
		return r, err
	}
	defer remove()
	sides, err := cfg.sides(data)
	if err != nil {
		return r, err
	}
	for _, s := range sides {
		if s.hooks != nil {
			defer s.hooks.Close()
		}
		if err := s.start(ctx); err != nil {
			return r, err
		}
		defer s.crash() // its data goes with it
	}
	if cfg.Suppressed > 0 {
		if err := cfg.suppress(ctx, &r, sides[0], filepath.Join(data, "addresses")); err != nil {
			return r, err
		}
	}
	for pair := range cfg.Pairs {
		for i := range sides {
			if err := cfg.turn(ctx, &r, sides[(i+pair)%2], notes); err != nil {
				return r, err
			}
		}
		a, b := sides[0].results[pair], sides[1].results[pair]
		r.Ratios = append(r.Ratios, a.Rate/max(b.Rate, 1))
		cfg.say("pair %d: %s %.0f/s %.0f us, %s %.0f/s %.0f us, ratio %.3f", pair+1, sides[0].name, a.Rate, a.EngineCPU, sides[1].name, b.Rate,
			b.EngineCPU, r.Ratios[pair])
	}
	r.gather(sides)
	return r, nil
}

// sides says how the two engines run: the first with what is measured.
func (c Config) sides(data string) ([2]*side, error) {
	var sides [2]*side
	path, err := engine.Find(c.Engine, c.Self)
	if err != nil {
		return sides, fmt.Errorf("relay: no engine: %w", err)
	}
	for i, name := range []string{"whole", c.Compare} {
		addr, err := engine.FreeAddr("127.0.0.1", rand.IntN)
		if err != nil {
			return sides, err
		}
		sides[i] = &side{name: name, cfg: c.engineConfig(path, filepath.Join(data, name), addr)}
		sides[i].cfg.Testing = true // both, because bare is for tests only
	}
	if c.Compare == compareBare {
		sides[0].cfg.Settings = c.settingsWith("\n    blackbox: true\n    exclusion: {enabled: true}")
		sides[1].cfg.Bare = true
		return sides, nil
	}
	if c.Compare == compareStandby {
		sides[0].name, sides[1].name = "standby", "alone"
		sides[0].standby = &standby{}
		return sides, nil
	}
	sides[0].name, sides[1].name = "webhooks", "none"
	if sides[0].hooks, err = hooks.Listen(); err != nil {
		return sides, err
	}
	sides[0].cfg.Settings = c.settingsWith("\n    webhooks: [{url: '" + sides[0].hooks.URL + "', events: [deliveries, bounces, blocks]}]")
	return sides, nil
}

// suppress puts addresses on the engine's block list as an operator does.
func (c Config) suppress(ctx context.Context, r *ComparedResult, s *side, file string) error {
	if err := writeAddresses(file, c.Suppressed); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	c.say("importing %d addresses …", c.Suppressed)
	p, err := process.Start("ekiden suppress", s.cfg.Path, []string{"suppress", "import", "-f", file, "--list", "blocklist",
		"--server", "http://" + s.e.HTTP, "--token", s.e.Token()}, os.Stderr)
	if err != nil {
		return err
	}
	begun, w := clock.Wall(), watch{pid: s.e.PID()}
	ended := make(chan error, 1)
	go func() { ended <- p.Wait(ctx) }()
	tick := time.NewTicker(4 * poll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look()
			continue
		case err := <-ended:
			r.Import, r.ImportAnon, r.ImportRSS = clock.Since(begun).Seconds(), mega(w.peak.Anon), mega(w.peak.RSS)
			if err != nil {
				p.Kill()
				return fmt.Errorf("relay: import: %w", err)
			}
		}
		c.say("imported in %.0f s, %.0f MB of memory: %s", r.Import, r.ImportAnon, strings.Join(p.Rest(), " "))
		return os.Remove(file)
	}
}

// writeAddresses writes n addresses that are none of the load's.
func writeAddresses(path string, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range n {
		fmt.Fprintf(w, "user.%d@mail%d.example.jp\n", i, i%5000)
	}
	return errors.Join(w.Flush(), f.Close())
}

// turn gives one engine a load and judges it.
func (c Config) turn(ctx context.Context, r *ComparedResult, s *side, notes string) error {
	ledger, record := filepath.Join(notes, s.name+".ledger"), filepath.Join(notes, s.name+".record")
	_, _ = os.Remove(ledger), os.Remove(record)
	to, err := c.startSink(ctx, s.cfg.Routes["*"], record)
	if err != nil {
		return err
	}
	defer to.Kill()
	one := Result{Size: c.Size, Messages: c.Messages}
	if err := s.standby.begin(); err != nil {
		return err
	}
	if err := c.measure(ctx, &one, to, s.e.SMTP, s.e.PID(), ledger, s.posted(ctx, c)); err != nil {
		return err
	}
	if err := s.standby.end(one.Messages); err != nil {
		return err
	}
	s.results = append(s.results, one)
	r.Lost, r.Duplicates, r.Wrong = r.Lost+one.Lost, r.Duplicates+one.Duplicates, r.Wrong+one.Wrong+one.Violations
	r.Examples = append(r.Examples, one.Examples...)
	if s.hooks == nil {
		return nil
	}
	v, err := s.hooks.Check(ledger)
	if err != nil {
		return err
	}
	r.Events, r.HookLost, r.HookTwice = r.Events+v.Events, r.HookLost+v.Lost, r.HookTwice+v.Repeated+v.Again
	r.HookLag = max(r.HookLag, milli(s.hooks.Last().Sub(one.last)))
	r.Examples = append(r.Examples, v.Examples...)
	s.hooks.Forget()
	return nil
}

// posted waits until the webhooks have told of every delivery that it was taken and that it arrived.
func (s *side) posted(ctx context.Context, c Config) func() error {
	if s.hooks == nil {
		return nil
	}
	return func() error {
		_, err := await(ctx, int64(2*c.Messages*c.Recipients), c.Quiet, func() (int64, error) { return int64(s.hooks.Events()), nil }, func() {})
		return err
	}
}

// gather makes medians of the turns.
func (r *ComparedResult) gather(sides [2]*side) {
	of := func(s *side, f func(*Result) float64) float64 {
		var all []float64
		for i := range s.results {
			all = append(all, f(&s.results[i]))
		}
		return middle(all)
	}
	rate, cpu := func(x *Result) float64 { return x.Rate }, func(x *Result) float64 { return x.EngineCPU }
	r.Rate, r.Other, r.Ratio = of(sides[0], rate), of(sides[1], rate), middle(r.Ratios)
	r.CPU, r.OtherCPU = of(sides[0], cpu), of(sides[1], cpu)
	if s := sides[0].standby; s != nil {
		r.StandbyCPU = middle(s.costs)
		var more []float64 // of each pair: what else the machine does changes from pair to pair
		for i := range sides[0].results {
			more = append(more, sides[0].results[i].EngineCPU-sides[1].results[i].EngineCPU)
		}
		r.ShipCPU = middle(more)
	}
	for i := range sides[0].results {
		r.RSS = max(r.RSS, sides[0].results[i].RSS)
	}
}

// middle is the median, 0 of nothing.
func middle(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}
