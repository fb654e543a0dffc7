package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/bench/sim"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

type simCommand struct {
	Seed      int64         `help:"First seed; each run takes the next." default:"1"`
	Runs      int           `help:"Runs to make." default:"100"`
	Messages  int           `help:"Messages per run." default:"400"`
	Domains   int           `help:"Destinations per run." default:"12"`
	Receivers int           `help:"Receivers they share." default:"5"`
	Sources   int           `help:"Source IPs per run." default:"3"`
	Script    time.Duration `help:"Fake time during which messages arrive and faults happen." default:"20m"`
	NoFaults  bool          `help:"Leave the faults out."`
	Pace      time.Duration `help:"Fake time with each receiver model that hides a quota, per run; 0 leaves them out." default:"24h"`
	Kinds     bool          `help:"Send cleaning mail and mail of speed filters to the models as well: what a receiver sees is still one source."`
	JSON      bool          `help:"Print one JSON line per run." name:"json"`
}

// errSim ends a series in which an invariant broke.
var errSim = errors.New("an invariant broke")

// Help is the example shown with --help.
func (simCommand) Help() string {
	return `Steps destinations, sources and policy through fake time against receivers with hidden limits and faults, and checks
that nothing is lost, doubled or above a limit. A failing run prints its seed and how to replay it. Then several sources send to
receivers that hide changing quotas by the second, minute and hour: how much of them was used, how much was refused, how often a
source was blocked, whether an answer about one sender slowed down others, and whether a limit or quiet hours were broken.

Example:
  ekiden-bench sim --seed 1 --runs 100
  ekiden-bench sim --seed 1 --runs 1 --pace 168h      a week with each receiver
  ekiden-bench sim --seed 1 --runs 5 --kinds          with cleaning mail and two speed filters on the way`
}

func (c *simCommand) Run(ctx context.Context, io *streams) error {
	cfg := sim.Config{
		Domains: c.Domains, Receivers: c.Receivers, Sources: c.Sources, Messages: c.Messages, Script: c.Script, NoFaults: c.NoFaults,
	}
	var sum sim.Result
	for i := range c.Runs {
		if err := ctx.Err(); err != nil {
			return err
		}
		r := sim.Run(c.Seed+int64(i), cfg)
		if c.JSON {
			if err := io.json(simLine(r)); err != nil {
				return err
			}
		}
		if r.Err != nil {
			fmt.Fprintf(io.err, "seed %d: %v\nreplay: %s\n", r.Seed, r.Err, c.replay(r.Seed))
			return errSim
		}
		sum.Accepted += r.Accepted
		sum.Delivered += r.Delivered
		sum.Failed += r.Failed
		sum.Steps += r.Steps
		sum.Took += r.Took
	}
	if !c.JSON {
		fmt.Fprintf(io.out, "sim seeds=%d..%d runs=%d steps=%d fake_time=%s accepted=%d delivered=%d failed=%d broken=0\n",
			c.Seed, c.Seed+int64(c.Runs)-1, c.Runs, sum.Steps, sum.Took.Round(time.Second), sum.Accepted, sum.Delivered, sum.Failed)
	}
	if c.Pace == 0 {
		return nil
	}
	return c.pace(ctx, io)
}

// errGoals ends a series that does not use the receivers' quotas as well as it should.
var errGoals = errors.New("a goal was missed: median of the quota used 95 %, worst 85 %, refused below 1 %, one block a day, nothing else")

// pace plays the receivers that hide a quota, one run on each core at a time.
func (c *simCommand) pace(ctx context.Context, io *streams) error {
	rules, err := bounce.New()
	if err != nil {
		return err
	}
	models := sim.Models()
	for i := range models {
		models[i].Kinds = c.Kinds
	}
	runs := make([]sim.PaceResult, len(models)*c.Runs)
	defer debug.SetGCPercent(debug.SetGCPercent(1600)) // little lives and much is made: a week of all models takes half a GB
	var next atomic.Int64
	var cores sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		cores.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(runs) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				runs[i] = sim.Pace(c.Seed+int64(i/len(models)), &models[i%len(models)], rules, c.Pace)
			}
		})
	}
	cores.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range runs {
		if r := &runs[i]; r.Err != nil {
			fmt.Fprintf(io.err, "seed %d, %s: %v\n", r.Seed, r.Receiver, r.Err)
			return errSim
		}
	}
	if c.JSON {
		return io.json(runs)
	}
	met, err := sim.Report(io.out, runs)
	if err == nil && !met {
		err = errGoals
	}
	return err
}

// replay is the command that makes the same run again.
func (c *simCommand) replay(seed int64) string {
	line := fmt.Sprintf("ekiden-bench sim --seed %d --runs 1 --messages %d --domains %d --receivers %d --sources %d --script %s",
		seed, c.Messages, c.Domains, c.Receivers, c.Sources, c.Script)
	if c.NoFaults {
		line += " --no-faults"
	}
	return line
}

// simResult is a run as JSON: an error is no JSON by itself.
type simResult struct {
	sim.Result
	Err string `json:",omitempty"`
}

func simLine(r sim.Result) simResult {
	out := simResult{Result: r}
	if r.Err != nil {
		out.Err = r.Err.Error()
	}
	return out
}
