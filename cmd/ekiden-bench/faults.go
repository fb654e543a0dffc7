package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/bench/faults"
)

// errBroken is the end of a series in which a promise did not hold.
var errBroken = errors.New("a promise did not hold")

// faultsCommand groups the faults.
type faultsCommand struct {
	All       faultsAll       `cmd:"" help:"Every fault at full size, one after the other (an hour or so; mounts need root)."`
	Kill      faultsKill      `cmd:"" help:"kill -9 at random moments under load, restart at once."`
	Webhooks  faultsWebhooks  `cmd:"" help:"kill -9 under load while every event is posted to a webhook."`
	Power     faultsPower     `cmd:"" help:"Power cuts: go on from clones of the disk taken at random moments (root)."`
	Full      faultsFull      `cmd:"" help:"A disk that runs full (root)."`
	Fsync     faultsFsync     `cmd:"" help:"A disk whose writes and syncs begin to fail (root)."`
	Slow      faultsSlow      `cmd:"" help:"Thousands of clients that say an octet every ten seconds."`
	Dot       faultsDot       `cmd:"" help:"Receivers that reset, answer late or never behind the final dot."`
	Takeover  faultsTakeover  `cmd:"" help:"Members of a cluster that die with their disk."`
	Asleep    faultsAsleep    `cmd:"" help:"A member that is stopped for 30 seconds and goes on."`
	Rolling   faultsRolling   `cmd:"" help:"A rolling restart of all members under load."`
	Staleness faultsStaleness `cmd:"" help:"How long after its answer a suppression is missed by look-ups at other members, under load."`
	Partition faultsPartition `cmd:"" help:"Members of a cluster that are cut off from one another (root)."`
	Stop      faultsStop      `cmd:"" help:"Emergency stops under load: in health, with a member cut off, with two of three killed (root)."`
	Crowd     faultsCrowd     `cmd:"" hidden:"" help:"The slow clients of slow, as a process of their own."`
	Divided   faultsDivided   `cmd:"" hidden:"" help:"The faults of a divided network, from its client's host."`
}

// faultsFlags are common to all faults.
type faultsFlags struct {
	Engine string `help:"Engine to hurt (default: the ekiden beside this program)." placeholder:"PATH" type:"path"`
	Dir    string `help:"Where data goes; a real disk (default: a temporary directory)." placeholder:"DIR" type:"path"`
	Seed   uint64 `help:"Seed of the schedule, 0: from the time." default:"0"`
	JSON   bool   `help:"Print the report as JSON." name:"json"`
}

func (f faultsFlags) config(io *streams) faults.Config {
	return faults.Config{Engine: f.Engine, Dir: f.Dir, Seed: f.Seed, Progress: io.err}
}

// fault is what all of them look like.
type fault func(context.Context, faults.Config) (faults.Report, error)

// play plays one fault and prints what it came to; a fault this machine cannot play is told and is no failure.
func (f faultsFlags) play(ctx context.Context, io *streams, name string, run fault, cfg faults.Config) error {
	r, err := run(ctx, cfg)
	if errors.Is(err, faults.ErrMissing) {
		fmt.Fprintf(io.out, "faults %s skipped: %v\n", name, err)
		return nil
	}
	if err != nil {
		return err
	}
	if f.JSON {
		err = io.json(r)
	} else {
		_, err = fmt.Fprintln(io.out, r.Line)
		for _, b := range r.Broken {
			fmt.Fprintln(io.out, "  broken:", b)
		}
	}
	if err == nil && !r.OK() {
		err = fmt.Errorf("%w: faults %s", errBroken, name)
	}
	return err
}

type faultsKill struct {
	faultsFlags
	Runs     int `help:"How many kills." default:"100"`
	Messages int `help:"Messages of a run, about; 0: 3000 to 20000." default:"0"`
}

// Help is the example shown with --help.
func (faultsKill) Help() string { return "Example:\n  ekiden-bench faults kill --runs 100" }

func (c *faultsKill) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs, cfg.Messages = c.Runs, c.Messages
	return c.play(ctx, io, "kill", faults.Kill, cfg)
}

type faultsWebhooks struct {
	faultsFlags
	Runs     int `help:"How many kills." default:"20"`
	Messages int `help:"Messages of a run, about; 0: 3000 to 20000." default:"0"`
}

// Help is the example shown with --help.
func (faultsWebhooks) Help() string { return "Example:\n  ekiden-bench faults webhooks --runs 20" }

func (c *faultsWebhooks) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs, cfg.Messages = c.Runs, c.Messages
	return c.play(ctx, io, "webhooks", faults.Webhooks, cfg)
}

type faultsPower struct {
	faultsFlags
	Images   int `help:"How many power cuts." default:"20"`
	Messages int `help:"Messages between two of them, about." default:"4000"`
}

// Help is the example shown with --help.
func (faultsPower) Help() string { return "Example:\n  ekiden-bench faults power --images 20" }

func (c *faultsPower) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs, cfg.Messages = c.Images, c.Messages
	return c.play(ctx, io, "power", faults.Power, cfg)
}

type faultsTakeover struct {
	faultsFlags
	Runs    int `help:"How many members die." default:"20"`
	Backlog int `help:"Messages that wait at the one that dies." default:"20000"`
}

// Help is the example shown with --help.
func (faultsTakeover) Help() string {
	return "Example:\n  ekiden-bench faults takeover --runs 20 --backlog 200000"
}

func (c *faultsTakeover) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs, cfg.Messages = c.Runs, c.Backlog
	return c.play(ctx, io, "takeover", faults.Takeover, cfg)
}

type faultsAsleep struct {
	faultsFlags
	Runs int `help:"How many members are stopped." default:"3"`
}

// Help is the example shown with --help.
func (faultsAsleep) Help() string { return "Example:\n  ekiden-bench faults asleep --runs 3" }

func (c *faultsAsleep) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs = c.Runs
	return c.play(ctx, io, "asleep", faults.Asleep, cfg)
}

type faultsRolling struct {
	faultsFlags
	Rounds int `help:"How often all members are restarted." default:"3"`
	Rate   int `help:"Messages per second at each member." default:"500"`
}

// Help is the example shown with --help.
func (faultsRolling) Help() string { return "Example:\n  ekiden-bench faults rolling --rounds 3" }

func (c *faultsRolling) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs, cfg.Messages = c.Rounds, c.Rate
	return c.play(ctx, io, "rolling", faults.Rolling, cfg)
}

type faultsStaleness struct {
	faultsFlags
	Runs int `help:"How many suppressions." default:"300"`
	Rate int `help:"Messages per second at each member." default:"300"`
}

// Help is the example shown with --help.
func (faultsStaleness) Help() string {
	return "The goal is p99 <= 1000 ms from the answer at one member to the look-ups of all others.\n\nExample:\n  ekiden-bench faults staleness --runs 300"
}

func (c *faultsStaleness) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs, cfg.Messages = c.Runs, c.Rate
	return c.play(ctx, io, "staleness", faults.Staleness, cfg)
}

type faultsPartition struct {
	faultsFlags
	Runs    int `help:"How many partitions." default:"50"`
	Backlog int `help:"Messages that wait at the member that is cut off." default:"6000"`
}

// Help is the example shown with --help.
func (faultsPartition) Help() string { return "Example:\n  ekiden-bench faults partition --runs 50" }

func (c *faultsPartition) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs, cfg.Messages = c.Runs, c.Backlog
	return c.play(ctx, io, "partition", faults.Partition, cfg)
}

type faultsStop struct {
	faultsFlags
	Runs int `help:"How many stops in health." default:"50"`
	Rate int `help:"Messages per second at each member." default:"2000"`
}

// Help is the example shown with --help.
func (faultsStop) Help() string { return "Example:\n  ekiden-bench faults stop --runs 50" }

func (c *faultsStop) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs, cfg.Messages = c.Runs, c.Rate
	return c.play(ctx, io, "stop", faults.Stop, cfg)
}

type faultsDivided struct {
	faultsFlags
	Fault    string `required:""`
	Network  string `required:""`
	Runs     int
	Messages int
}

// Run prints the report, whatever it says: its parent judges.
func (c *faultsDivided) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs, cfg.Messages = c.Runs, c.Messages
	r, err := faults.Divided(ctx, cfg, c.Fault, c.Network)
	if err != nil {
		return err
	}
	return io.json(r)
}

type faultsFull struct{ faultsFlags }

// Help is the example shown with --help.
func (faultsFull) Help() string { return "Example:\n  ekiden-bench faults full" }

func (c *faultsFull) Run(ctx context.Context, io *streams) error {
	return c.play(ctx, io, "full", faults.Full, c.config(io))
}

type faultsFsync struct{ faultsFlags }

// Help is the example shown with --help.
func (faultsFsync) Help() string { return "Example:\n  ekiden-bench faults fsync" }

func (c *faultsFsync) Run(ctx context.Context, io *streams) error {
	return c.play(ctx, io, "fsync", faults.Fsync, c.config(io))
}

type faultsSlow struct {
	faultsFlags
	Connections int           `help:"How many slow clients." default:"10000"`
	Hold        time.Duration `help:"How long they stay." default:"75s"`
}

// Help is the example shown with --help.
func (faultsSlow) Help() string { return "Example:\n  ekiden-bench faults slow --connections 10000" }

func (c *faultsSlow) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Connections, cfg.Hold = c.Connections, c.Hold
	return c.play(ctx, io, "slow", faults.Slow, cfg)
}

type faultsDot struct {
	faultsFlags
	Late time.Duration `help:"How late the late answer is." default:"5s"`
	Hang bool          `help:"Also a receiver that never answers: takes the engine's ten minutes."`
}

// Help is the example shown with --help.
func (faultsDot) Help() string { return "Example:\n  ekiden-bench faults dot --late 590s --hang" }

func (c *faultsDot) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Late, cfg.Hang = c.Late, c.Hang
	return c.play(ctx, io, "dot", faults.Dot, cfg)
}

type faultsAll struct{ faultsFlags }

// Help is the example shown with --help.
func (faultsAll) Help() string { return "Example:\n  ekiden-bench faults all --seed 1" }

// Run plays all of them even where one breaks a promise, and tells at the end.
func (c *faultsAll) Run(ctx context.Context, io *streams) error {
	var broken []error
	for _, one := range []struct {
		name string
		run  fault
	}{
		{"kill", faults.Kill}, {"webhooks", faults.Webhooks}, {"power", faults.Power}, {"full", faults.Full}, {"fsync", faults.Fsync}, {"slow", faults.Slow}, {"dot", faults.Dot},
		{"takeover", faults.Takeover}, {"asleep", faults.Asleep}, {"rolling", faults.Rolling}, {"staleness", faults.Staleness}, {"partition", faults.Partition},
		{"stop", faults.Stop},
	} {
		cfg := c.config(io)
		cfg.Late, cfg.Hang = 590*time.Second, true
		broken = append(broken, c.play(ctx, io, one.name, one.run, cfg))
	}
	return errors.Join(broken...)
}

type faultsCrowd struct {
	Target      string        `required:""`
	Connections int           `required:""`
	Interval    time.Duration `default:"10s"`
	Hold        time.Duration `default:"75s"`
}

func (c *faultsCrowd) Run(ctx context.Context, io *streams) error {
	res, err := faults.SlowClients(ctx, faults.SlowConfig{
		Target: c.Target, Connections: c.Connections, Interval: c.Interval, Hold: c.Hold,
		Ready: func(open int) { fmt.Fprintf(io.out, "crowd open=%d\n", open) },
	})
	if err != nil {
		return err
	}
	return io.json(res)
}
