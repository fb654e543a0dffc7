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
	Kill faultsKill `cmd:"" help:"kill -9 at random moments under load, restart at once."`
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

// report prints what a fault came to; a fault this machine cannot play is told and is no failure.
func (f faultsFlags) report(io *streams, name string, r faults.Report, err error) error {
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
func (faultsKill) Help() string {
	return `Example:
  ekiden-bench faults kill --runs 100`
}

func (c *faultsKill) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	cfg.Runs, cfg.Messages = c.Runs, c.Messages
	r, err := faults.Kill(ctx, cfg)
	return c.report(io, "kill", r, err)
}

var _ = time.Second
