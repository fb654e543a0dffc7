package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ekiden-mta/ekiden/bench/demo"
)

type demoCommand struct {
	Messages int           `help:"Messages to relay." default:"20000"`
	Keep     bool          `help:"Leave everything running after the summary, until Ctrl-C."`
	Engine   string        `help:"Engine's binary (default: ekiden beside this program)." placeholder:"PATH"`
	Timeout  time.Duration `help:"Longest wait for every final outcome." default:"3m"`
	JSON     bool          `help:"Print the summary as JSON, and nothing else." name:"json"`
}

// Help is the example shown with --help.
func (demoCommand) Help() string {
	return `Starts an engine with eight source IPs and a pretend internet that answers as carriers and providers do, relays real
SMTP messages between them with some unknown users, deferrals and refusals, and ends when each has its final outcome.

Example:
  ekiden-bench demo --keep`
}

func (c *demoCommand) Run(ctx context.Context, s *streams) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cfg := demo.Config{Messages: c.Messages, Engine: c.Engine, Self: self, Keep: c.Keep, Timeout: c.Timeout, Out: s.out}
	cfg.Terminal, cfg.Width = terminal(s.out)
	if c.JSON {
		cfg.Out, cfg.Terminal, cfg.Keep = io.Discard, false, false
	}
	sum, err := demo.Run(ctx, cfg)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if c.JSON {
		return s.json(sum)
	}
	return nil
}
