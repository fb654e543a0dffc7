package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/bench/sim"
)

type simCommand struct {
	Seed      int64          `help:"First seed; each run takes the next." default:"1"`
	Runs      int            `help:"Runs to make." default:"100"`
	Messages  int            `help:"Messages per run." default:"400"`
	Domains   int            `help:"Destinations per run." default:"12"`
	Receivers int            `help:"Receivers they share." default:"5"`
	Sources   int            `help:"Source IPs per run." default:"3"`
	Script    time.Duration  `help:"Fake time during which messages arrive and faults happen." default:"20m"`
	NoFaults  bool           `help:"Leave the faults out."`
	Pace      *time.Duration `help:"Fake time with each receiver model that hides a quota, per run; 0 leaves them out (default: a week for up to seven runs, less for more: 12h for 100)." placeholder:"TIME"`
	Kinds     bool           `help:"Send cleaning mail and mail of speed filters to the models as well: what a receiver sees is still one source."`
	JSON      bool           `help:"Print one JSON line per run." name:"json"`
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
  ekiden-bench sim --seed 1 --runs 1 --pace 168h      a week with each receiver, in about a minute on two cores
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
	length := paceFor(c.Runs)
	if c.Pace != nil {
		length = *c.Pace
	}
	if length == 0 {
		return nil
	}
	return c.pace(ctx, io, length)
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
