package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/bench/relay"
)

// errVerdict ends a measurement that lost, duplicated or changed mail.
var errVerdict = errors.New("the relay did not keep its promise")

type relayCommand struct {
	Messages      int           `help:"Messages to relay." default:"100000"`
	Size          int           `help:"Octets of a message." default:"1024"`
	Sessions      int           `help:"Client sessions at once." default:"100"`
	Domains       int           `help:"Recipient domains." default:"1"`
	Recipients    int           `help:"Recipients per message." default:"1"`
	PerConnection int           `help:"Messages per client connection, 0: connections are kept." default:"0"`
	Connections   int           `help:"Connections the engine may hold at the sink." default:"64"`
	Pipeline      bool          `help:"The load pipelines."`
	Engine        string        `help:"Engine's binary (default: ekiden beside this program)." placeholder:"PATH"`
	Target        string        `help:"Measure the engine that listens here instead of starting one." placeholder:"ADDR"`
	Sink          string        `help:"Where that engine delivers to: the sink listens here." placeholder:"ADDR"`
	TLS           bool          `help:"STARTTLS on both sides." name:"tls"`
	DKIM          bool          `help:"Sign every message; the engine signs in a later release." name:"dkim" hidden:""`
	Tool          string        `help:"postfix: smtp-source and smtp-sink of Debian's package as load and sink." default:""`
	AcceptOnly    bool          `help:"All receivers are down: accept --backlog messages."`
	Backlog       int           `help:"Messages to let wait with --accept-only; each waits once for each of --recipients." default:"1000000"`
	Restart       bool          `help:"With --accept-only: kill -9, start again, time to the first delivery."`
	Urgent        int           `help:"With --accept-only: then so many of priority 90 while the backlog goes out." default:"0"`
	Drain         bool          `help:"With --accept-only: then let receivers come back."`
	Compare       string        `help:"Hold two engines against one another in turns: bare (everything on and --suppressed addresses, against no events, counters and suppression) webhooks (every event posted, against none) or standby (a copy of the queue at a second member on this machine before each 250, against a node alone; goals: 55 % of the rate, 25 us more CPU of the owner per message)." default:""`
	Pairs         int           `help:"With --compare: turns of each." default:"5"`
	Suppressed    int           `help:"With --compare bare: addresses on the block list." default:"0"`
	Rate          float64       `help:"Messages per second of the load, 0: as fast as answered." default:"0"`
	Quiet         time.Duration `help:"Give up when the sink took nothing for so long." default:"30s"`
	Dir           string        `help:"Where the engine's data goes (default: the system's temporary directory)." placeholder:"DIR" type:"path"`
	Profile       string        `help:"Keep a CPU profile of the engine's first ten seconds here." placeholder:"FILE" type:"path"`
	JSON          bool          `help:"Print the result as JSON." name:"json"`
}

// Help is the example shown with --help.
func (relayCommand) Help() string {
	return `Starts engine, load and sink as separate processes with fsync, encryption and delivery log on, measures from the
first MAIL to the last message at the sink, after measuring load straight into sink, and ends with one line.

Examples:
  ekiden-bench relay --messages 100000 --sessions 100
  ekiden-bench relay --tool postfix
  ekiden-bench relay --accept-only --backlog 1000000 --restart --drain
  ekiden-bench relay --accept-only --backlog 100000 --recipients 100 --size 256 --urgent 1000   (10,000,000 wait; 5 GB)
  ekiden-bench relay --compare bare --suppressed 10000000
  ekiden-bench relay --compare webhooks --rate 5000
  ekiden-bench relay --compare standby --messages 50000 --pairs 3`
}

func (c *relayCommand) config(io *streams) relay.Config {
	return relay.Config{
		Messages: c.Messages, Size: c.Size, Sessions: c.Sessions, Domains: c.Domains, Recipients: c.Recipients,
		PerConnection: c.PerConnection, Connections: c.Connections, Pipeline: c.Pipeline, Engine: c.Engine,
		Target: c.Target, Sink: c.Sink, TLS: c.TLS, DKIM: c.DKIM, Tool: c.Tool, Restart: c.Restart, Drain: c.Drain, Urgent: c.Urgent,
		Compare: c.Compare, Pairs: c.Pairs, Suppressed: c.Suppressed, Rate: c.Rate,
		Quiet: c.Quiet, Dir: c.Dir, Profile: c.Profile, Progress: io.err,
	}
}

func (c *relayCommand) Run(ctx context.Context, io *streams) error {
	cfg := c.config(io)
	if c.Compare != "" {
		return c.compare(ctx, io, cfg)
	}
	if c.AcceptOnly {
		cfg.Backlog = c.Backlog
		r, err := relay.RunBacklog(ctx, cfg)
		if err != nil {
			return err
		}
		if err := c.show(io, r); err != nil || c.JSON {
			return err
		}
		if r.Lost+r.Duplicates+r.Wrong > 0 && !c.Restart {
			return errVerdict
		}
		return nil
	}
	r, err := relay.Run(ctx, cfg)
	if err != nil {
		return err
	}
	err = c.show(io, r)
	if err == nil && !r.OK() {
		for _, e := range r.Examples {
			fmt.Fprintln(io.err, e)
		}
		err = errVerdict
	}
	return err
}

// show prints a result, as JSON or as its line.
func (c *relayCommand) show(io *streams, r interface{ Line() string }) error {
	if c.JSON {
		return io.json(r)
	}
	_, err := fmt.Fprintln(io.out, r.Line())
	return err
}

// compare ends with errVerdict where mail or events were lost, and with errMissed below the goal.
func (c *relayCommand) compare(ctx context.Context, io *streams, cfg relay.Config) error {
	r, err := relay.RunCompared(ctx, cfg)
	if err != nil {
		return err
	}
	err = c.show(io, &r)
	switch {
	case err != nil:
		return err
	case !r.OK():
		for _, e := range r.Examples {
			fmt.Fprintln(io.err, e)
		}
		return errVerdict
	case !r.Met():
		return errMissed
	}
	return nil
}
