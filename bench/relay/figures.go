package relay

import (
	"context"
	"fmt"
	"io"
)

// Figure is one row of the table of goals.
type Figure struct {
	What     string `json:"what"`
	AtLeast  string `json:"at_least"`
	Measured string `json:"measured"`
	Met      bool   `json:"met"`
}

// sourceWhenSet is what smtp-source took of a processor per message where the goals of rates were set, in us. The two cores are shared
// by load, engine and sink, so where it takes more, rates are lower in the same measure, whatever the engine does.
const sourceWhenSet = 43.0

// domainPairs is how often ten thousand domains are held against one.
const domainPairs = 3

// figures gathers rows.
type figures struct {
	base   Config
	scale  int     // every size is divided by it
	source float64 // us of smtp-source per message, on this machine now; 0 = not known
	rows   []Figure
}

// Figures measures every row of the table of goals. quick divides the sizes by ten; what depends on size (memory,
// disk) is then only an indication. Rows that could not be measured say why. row is called as rows come.
func Figures(ctx context.Context, base Config, quick bool, row func(Figure)) ([]Figure, error) {
	f := &figures{base: base, scale: 1}
	if quick {
		f.scale = 10
	}
	for _, step := range []func(context.Context) error{f.kept, f.domains, f.singles, f.large, f.backlog, f.whole, f.webhooks} {
		before := len(f.rows)
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return f.rows, err
			}
			f.rows = append(f.rows, Figure{What: "not measured", Measured: err.Error()})
		}
		for _, r := range f.rows[before:] {
			row(r)
		}
	}
	return f.rows, nil
}

func (f *figures) add(what, atLeast string, met bool, format string, args ...any) {
	f.rows = append(f.rows, Figure{What: what, AtLeast: atLeast, Measured: fmt.Sprintf(format, args...), Met: met})
}

// rate adds a row whose goal is a rate. Where smtp-source tells how fast the machine is, the goal at that speed stands beside it.
func (f *figures) rate(what string, goal, got float64, ok bool, format string, args ...any) {
	atLeast := thousands(goal) + " msg/s"
	if f.source > 0 {
		atLeast += fmt.Sprintf(" (%s at this machine's speed)", thousands(goal*sourceWhenSet/f.source))
	}
	f.add(what, atLeast, got >= goal && ok, format, args...)
}

// thousands writes a whole number with commas.
func thousands(x float64) string {
	n := int64(x + 0.5)
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(float64(n/1000)), n%1000)
}

func (f *figures) run(ctx context.Context, messages int, change func(*Config)) (Result, error) {
	c := f.base
	c.Messages, c.Size, c.Sessions = messages/f.scale, 1024, 100
	change(&c)
	return Run(ctx, c)
}

// promise tells loss and duplicates only where there are any.
func promise(r Result) string {
	if r.OK() {
		return ""
	}
	return fmt.Sprintf(" — lost %d, duplicates %d, wrong %d, violations %d", r.Lost, r.Duplicates, r.Wrong, r.Violations)
}

func (f *figures) kept(ctx context.Context) error {
	r, err := f.run(ctx, 100000, func(c *Config) { c.Tool = "postfix" })
	if err != nil {
		return fmt.Errorf("100 kept sessions with Postfix's tools: %w", err)
	}
	f.source = r.SourceCPU
	f.rate("1 KB, 100 kept sessions, one domain, smtp-source and smtp-sink", 10000, r.Rate, r.OK(),
		"%.0f msg/s (%.1f M/hour; straight %.0f)%s", r.Rate, r.Rate*3600/1e6, r.Direct, promise(r))
	f.add("… engine CPU to smtp-source CPU, same run", "at most 2.3", r.EngineSource <= 2.3, "%.2f (%.0f us to %.0f us)",
		r.EngineSource, r.EngineCPU, r.SourceCPU)
	return nil
}

func (f *figures) domains(ctx context.Context) error {
	var shares, ones, manys, written []float64 // in turns: the machine's speed changes from minute to minute
	ok, broken := true, ""
	for range domainPairs {
		one, err := f.run(ctx, 100000, func(*Config) {})
		if err != nil {
			return fmt.Errorf("one domain: %w", err)
		}
		many, err := f.run(ctx, 100000, func(c *Config) { c.Domains = 10000 })
		if err != nil {
			return fmt.Errorf("10,000 domains: %w", err)
		}
		shares = append(shares, many.Rate/max(one.Rate, 1)*100)
		ones, manys, written = append(ones, one.Rate), append(manys, many.Rate), append(written, one.IO)
		ok, broken = ok && one.OK() && many.OK(), broken+promise(one)+promise(many)
	}
	f.add("bytes written to disk per message of 1 KB", "at most 2.6 KB", middle(written) <= 2600, "%.2f KB", middle(written)/1000)
	f.add("10,000 domains, median of pairs", "90 % of the one-domain rate", middle(shares) >= 90 && ok, "%.0f %% of %.0f (%.0f to %.0f msg/s)%s",
		middle(shares), shares, middle(manys), middle(ones), broken)
	return nil
}

func (f *figures) singles(ctx context.Context) error {
	r, err := f.run(ctx, 40000, func(c *Config) { c.PerConnection, c.Sessions = 1, 50 })
	if err != nil {
		return fmt.Errorf("one message per connection: %w", err)
	}
	f.rate("one message per connection, 50 sessions", 4000, r.Rate, r.OK(), "%.0f msg/s (straight %.0f)%s", r.Rate, r.Direct, promise(r))
	return nil
}

func (f *figures) large(ctx context.Context) error {
	r, err := f.run(ctx, 40000, func(c *Config) { c.Size = 16384 })
	if err != nil {
		return fmt.Errorf("16 KB: %w", err)
	}
	f.rate("16 KB", 4500, r.Rate, r.OK(), "%.0f msg/s (straight %.0f)%s", r.Rate, r.Direct, promise(r))
	return nil
}

func (f *figures) backlog(ctx context.Context) error {
	c := f.base
	c.Backlog, c.Size, c.Sessions, c.Drain = 1000000/f.scale, 1024, 100, true
	r, err := RunBacklog(ctx, c)
	if err != nil {
		return fmt.Errorf("backlog: %w", err)
	}
	n := fmt.Sprintf("%d", c.Backlog)
	f.rate("accept only, receivers down, until "+n+" wait", 12000, r.AcceptRate, true, "%.0f msg/s", r.AcceptRate)
	kept := 0.0
	if r.AcceptStart > 0 {
		kept = r.AcceptEnd / r.AcceptStart * 100
	}
	f.add("… at the end against the begin", "90 %", kept >= 90, "%.0f %% (%.0f to %.0f msg/s)", kept, r.AcceptEnd, r.AcceptStart)
	f.add(n+" waiting: memory beyond page cache", "at most 400 MB", r.Anon <= 400, "%.0f MB", r.Anon)
	f.add(n+" waiting: disk", "at most 2.5 × the live bytes", r.DiskRatio <= 2.5, "%.2f × (%.0f MB)", r.DiskRatio, mega(r.Disk))
	f.rate("drain of that backlog", 15000, r.Drain, r.Lost+r.Duplicates+r.Wrong == 0, "%.0f msg/s, lost %d, duplicates %d",
		r.Drain, r.Lost, r.Duplicates)
	c.Restart, c.Drain = true, false
	if r, err = RunBacklog(ctx, c); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	f.add("restart after kill -9 with "+n+" waiting, to the first delivery", "at most 5 s", r.Restart > 0 && r.Restart <= 5000, "%.1f s", r.Restart/1000)
	return nil
}

// whole holds everything on against everything off.
func (f *figures) whole(ctx context.Context) error {
	c := f.base
	c.Compare, c.Suppressed, c.Messages, c.Size, c.Sessions = compareBare, 10000000/f.scale, 100000/f.scale, 1024, 100
	r, err := RunCompared(ctx, c)
	if err != nil {
		return fmt.Errorf("everything on against everything off: %w", err)
	}
	f.add(fmt.Sprintf("events, counters, suppression with %d addresses, against all of it off", r.Suppressed), "90 % of the rate", r.Met() && r.OK(),
		"%.0f %% (%.0f to %.0f msg/s; %.0f to %.0f us)", r.Ratio*100, r.Rate, r.Other, r.CPU, r.OtherCPU)
	f.add(fmt.Sprintf("import of %d suppressed addresses", r.Suppressed), "180 s, 1 GB", r.Import <= 180 && r.ImportAnon <= 1024,
		"%.0f s, %.0f MB", r.Import, r.ImportAnon)
	return nil
}

// webhooks holds a receiver of every event against none.
func (f *figures) webhooks(ctx context.Context) error {
	c := f.base
	c.Compare, c.Rate, c.Messages, c.Size, c.Sessions = compareWebhooks, 5000, 50000/f.scale, 1024, 100
	r, err := RunCompared(ctx, c)
	if err != nil {
		return fmt.Errorf("webhooks: %w", err)
	}
	f.add("every event posted to a webhook at 5,000 msg/s, against none", "90 % of the rate, each once", r.Met() && r.OK(),
		"%.0f %% (%.0f to %.0f msg/s), %d events, lost %d, repeated %d", r.Ratio*100, r.Rate, r.Other, r.Events, r.HookLost, r.HookTwice)
	return nil
}

// Header writes the head of the markdown table; Row one line of it.
func Header(w io.Writer) {
	fmt.Fprintln(w, "| what | at least | measured | |\n|---|---|---|---|")
}

// Row writes one line of the table.
func (f Figure) Row(w io.Writer) {
	met := "missed"
	if f.Met {
		met = "met"
	}
	fmt.Fprintf(w, "| %s | %s | %s | %s |\n", f.What, f.AtLeast, f.Measured, met)
}
