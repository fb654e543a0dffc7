package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ekiden-mta/ekiden/bench/relay"
)

type figuresCommand struct {
	Quick  bool   `help:"A tenth of the sizes."`
	Peer   bool   `help:"Measure Debian's Postfix beside it (root, package postfix)."`
	Engine string `help:"Engine's binary (default: ekiden beside this program)." placeholder:"PATH"`
	Dir    string `help:"Where the engine's data goes (default: the system's temporary directory)." placeholder:"DIR" type:"path"`
	JSON   bool   `help:"Print the rows as JSON." name:"json"`
}

// errMissed ends a measurement below its goals.
var errMissed = errors.New("some goals were missed")

// Help is the example shown with --help.
func (figuresCommand) Help() string {
	return `Measures the table of goals row by row and prints it as markdown. Needs Debian's package postfix for the first row.

Example:
  ekiden-bench figures --quick`
}

func (c *figuresCommand) Run(ctx context.Context, io *streams) error {
	base := relay.Config{Engine: c.Engine, Dir: c.Dir, Progress: io.err}
	if !c.JSON {
		relay.Header(io.out)
	}
	rows, err := relay.Figures(ctx, base, c.Quick, func(f relay.Figure) {
		if !c.JSON {
			f.Row(io.out)
		}
	})
	if err != nil {
		return err
	}
	if c.Peer {
		r, err := relay.Peer(ctx, relay.Config{Messages: 5000, Size: 1024, Sessions: 100, Progress: io.err})
		f := relay.Figure{What: "Postfix as Debian ships it, same machine, 1 KB", AtLeast: "-", Measured: fmt.Sprintf("%.0f msg/s", r.Rate), Met: true}
		if err != nil {
			f.Measured = "not measured: " + err.Error()
		}
		if rows = append(rows, f); !c.JSON {
			f.Row(io.out)
		}
	}
	if c.JSON {
		if err := io.json(rows); err != nil {
			return err
		}
	}
	for _, r := range rows {
		if !r.Met {
			return errMissed
		}
	}
	return nil
}
