// Command ekiden is the server and the operator's commands.
//
// The main package only reads flags, speaks with a node over its RPC, prints, and chooses the exit code. It must
// never decide about mail: that is for the rooms of package node. Read commands first, then serve.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	if len(os.Args) > 1 && slices.Contains(os.Args[1:], "serve") {
		calm()
		widen()
	}
	os.Exit(run(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// stdio is where a command reads and writes.
type stdio struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// app is what every command gets.
type app struct {
	stdio
	ctx  context.Context // ends at SIGINT and SIGTERM, except in serve
	json bool
}

// commands is the whole command line.
type commands struct {
	JSON bool `name:"json" help:"Print JSON instead of words and tables."`

	Serve       serveCmd        `cmd:"" help:"Run a node."`
	Check       checkCmd        `cmd:"" help:"Validate a node file or a settings file; changes nothing."`
	Apply       applyCmd        `cmd:"" help:"Put a settings file in force on every member."`
	Settings    settingsCmds    `cmd:"" help:"Show the settings in force, or what they may hold."`
	Group       groupCmds       `cmd:"" help:"Delivery groups: list, status, stop, resume, discard."`
	Reservation reservationCmds `cmd:"" help:"Reserved mail: list, cancel."`
	Suspend     suspendCmd      `cmd:"" help:"Hold the mail of a domain, receiver, source address or tenant."`
	Unsuspend   unsuspendCmd    `cmd:"" help:"Let suspended mail go again."`
	Probe       probeCmd        `cmd:"" help:"Ask receivers whether addresses exist, without any mail."`
	Queue       queueCmd        `cmd:"" help:"Show the twelve counters in three windows."`
	Top         topCmd          `cmd:"" help:"Watch counters and receivers live."`
	Trace       traceCmd        `cmd:"" help:"Show the life of a message, and what it waits for."`
	Log         logCmd          `cmd:"" help:"Search or follow the delivery log."`
	Stats       statsCmds       `cmd:"" help:"Statistics by day, and the rebuild of all counters."`
	Suppress    suppressCmds    `cmd:"" help:"Addresses that get no mail: list, add, remove, import, reset."`
	User        userCmds        `cmd:"" help:"API users: list, add, key, remove."`
	Cluster     clusterCmds     `cmd:"" help:"Members: list, drain, leave, take over, recover, admit, keys, audit."`
	Unseal      unsealCmd       `cmd:"" help:"Give a sealed node its keys."`
	Doctor      doctorCmd       `cmd:"" help:"Check names, records, disk, limits and keys, and say what to change."`
	Version     versionCmd      `cmd:"" help:"Print the version."`

	Token tokenCmds `cmd:"" help:"Tokens of tenants for the HTTP APIs."`

	laterCommands `embed:""`
}

const description = `A mail delivery engine: takes mail over SMTP, keeps it sealed, and delivers it at the pace its receivers bear.

Example: ekiden serve --data ./ekiden-data

Exit codes: 0 done, 1 failed, 2 bad usage or bad file, 3 refused, 4 server unreachable.`

// exited carries the exit code of a help text out of the parser.
type exited int

// run executes one command line and returns its exit code.
func run(args []string, std stdio) (code int) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exited:
			code = int(r)
		default:
			panic(r)
		}
	}()
	var c commands
	parser, err := kong.New(&c,
		kong.Name("ekiden"),
		kong.Description(description),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
	)
	if err != nil {
		panic(err) // the struct above is wrong: a programming error that any test finds
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(std.err, "ekiden: %v (see ekiden --help)\n", err)
		return exitUsage
	}
	ctx := context.Background()
	if k.Command() != "serve" { // serve listens to the signals itself
		var cancel context.CancelFunc
		ctx, cancel = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer cancel()
	}
	err = k.Run(&app{stdio: std, ctx: ctx, json: c.JSON})
	if err == nil || errors.Is(err, errSilent) {
		return exitCode(err)
	}
	for _, line := range lines(explain(err)) {
		fmt.Fprintf(std.err, "ekiden: %s\n", printable(line))
	}
	return exitCode(err)
}
