// Command ekiden-bench drives an ekiden from outside: it injects mail, plays the internet, measures and simulates.
//
// It must never be needed to run a relay, and must never judge by what the engine says of itself where the ledger of
// 250s and the sink's record can speak. Read bench/load, bench/sink, bench/relay and bench/sim.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/bench/relay"
	"github.com/ekiden-mta/ekiden/bench/sink"
	"github.com/ekiden-mta/ekiden/internal/version"
)

// Exit codes of contract 2.
const (
	exitFailed = 1
	exitUsage  = 2
)

// commands is the whole command line.
type commands struct {
	Version kong.VersionFlag `help:"Print the version."`

	Load    loadCommand    `cmd:"" help:"Send messages to a relay and keep a ledger of its 250s."`
	Sink    sinkCommand    `cmd:"" help:"Play the internet: take mail as receivers do and record it."`
	Faults  faultsCommand  `cmd:"" help:"Hurt an engine and look whether it keeps its promises."`
	Relay   relayCommand   `cmd:"" help:"Measure a relay: rate, cost, loss, duplicates."`
	Figures figuresCommand `cmd:"" help:"Measure the table of goals, row by row."`
	Demo    demoCommand    `cmd:"" help:"Show a relay at work against a pretend internet."`
	Dev     devCommand     `cmd:"" help:"Run three members of a cluster and a sink on loopback."`
	Sim     simCommand     `cmd:"" help:"Simulate the negotiation under a seed, with faults, and check what must hold."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the process: arguments in, exit code out.
func run(args []string, stdout, stderr io.Writer) int {
	var cli commands
	code := -1
	parser, err := kong.New(&cli, kong.Name("ekiden-bench"),
		kong.Description("Drives an ekiden from outside: load, pretend internet, benchmark, demonstration, simulation."),
		kong.UsageOnError(), kong.Vars{"version": "ekiden-bench " + version.String()}, kong.Writers(stdout, stderr), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(c int) { code = c }))
	if err != nil {
		fmt.Fprintln(stderr, "ekiden-bench:", err)
		return exitFailed
	}
	kctx, err := parser.Parse(args)
	if code >= 0 { // --help was asked for and printed
		return code
	}
	if err != nil {
		fmt.Fprintln(stderr, "ekiden-bench:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kctx.BindTo(ctx, (*context.Context)(nil))
	err = kctx.Run(&streams{stdout, stderr})
	switch {
	case err == nil:
		return 0
	case errors.Is(err, load.ErrConfig) || errors.Is(err, sink.ErrModel) || errors.Is(err, relay.ErrConfig):
		fmt.Fprintln(stderr, "ekiden-bench:", err)
		return exitUsage
	}
	fmt.Fprintln(stderr, "ekiden-bench:", err)
	return exitFailed
}

// streams are where a command writes.
type streams struct{ out, err io.Writer }

func (s *streams) json(v any) error {
	enc := json.NewEncoder(s.out)
	return enc.Encode(v)
}

// terminal tells whether w is one, and how many columns it has; 0 = not known.
func terminal(w io.Writer) (yes bool, columns int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false, 0
	}
	if n, _, err := term.GetSize(int(f.Fd())); err == nil {
		columns = n
	}
	return true, columns
}
