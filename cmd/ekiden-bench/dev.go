package main

import (
	"context"
	"os"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/members"
)

type devCommand struct {
	Engine string `help:"Engine's binary (default: ekiden beside this program)." placeholder:"PATH"`
	Dir    string `help:"Where certificates and data go; kept, and continued at the next start." placeholder:"DIR" type:"path" default:"ekiden-dev"`
}

// Help is the example shown with --help.
func (devCommand) Help() string {
	return `Runs three members of a cluster and a sink that takes all their mail, on fixed ports of loopback, until Ctrl-C.

Example:
  ekiden-bench dev --dir ekiden-dev`
}

func (c *devCommand) Run(ctx context.Context, s *streams) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	path, err := engine.Find(c.Engine, self)
	if err != nil {
		return err
	}
	return members.Dev(ctx, path, c.Dir, s.out)
}
