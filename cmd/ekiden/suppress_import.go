package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// An import goes in pieces, eight on their way at a time: while some are written to the ledger, others are agreed on and
// the next are read.
const (
	importPiece    = 10_000 // rows
	importInFlight = 8
	importTells    = 20 // bad rows that are told; the others are counted
	progressEvery  = 200 * time.Millisecond
)

type suppressImportCmd struct {
	serverFlags
	placeFlags
	File   string `short:"f" help:"File of addresses, - for standard input." placeholder:"FILE" required:""`
	Format string `help:"lines (an address, or columns parted by tabs) or csv; by the name of the file if not given." enum:"auto,lines,csv" default:"auto"`
	Reason string `help:"Why, for rows that do not say." placeholder:"TEXT"`
}

func (suppressImportCmd) Help() string {
	return `Example: ekiden suppress import -f stopped.csv --tenant shop

One address per line, or columns parted by tabs (by commas in .csv): address, reason, expires, or as a first line
names them: address, list, tenant, filter, reason, expires. What a row leaves empty is taken from the flags. Lines that
begin with # are passed over. An import that broke off may simply be run again: what is there already stays.`
}

// Run sends the file piece by piece. Rows that are wrong are told and passed over; then the exit code is 2.
func (c suppressImportCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	in, name := a.in, "standard input"
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return badUsage(err)
		}
		defer f.Close()
		in, name = f, c.File
	}
	comma := c.Format == "csv" || c.Format == "auto" && strings.HasSuffix(strings.ToLower(c.File), ".csv")
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	i := &importing{app: a, cl: cl, name: name, cancel: cancel, start: clock.Wall(), places: make(chan struct{}, importInFlight),
		common: &adminpb.Suppression{List: c.List, Tenant: c.tenant(), Filter: c.Filter, Reason: c.Reason}}
	err = i.read(ctx, newRowReader(in, comma))
	i.sent.Wait()
	return i.end(err)
}

// importing is one import under way.
type importing struct {
	*app
	cl     adminpb.AdminServiceClient
	name   string // of the file, for people
	common *adminpb.Suppression
	cancel context.CancelFunc // ends reading after a failure
	start  time.Time
	places chan struct{} // one taken per piece on its way
	sent   sync.WaitGroup

	mu      sync.Mutex
	added   int
	known   int
	refused int
	told    time.Time // when progress was shown last
	err     error     // the first failure
}

// piece is what goes in one call, and where its rows stand in the file.
type piece struct {
	rows  []*adminpb.Suppression
	lines []int
}

func (i *importing) read(ctx context.Context, r *rowReader) error {
	var p piece
	for {
		row, err := r.next()
		switch {
		case err == nil:
			p.rows, p.lines = append(p.rows, row), append(p.lines, r.line)
		case errors.Is(err, errBadRow):
			i.bad(r.line, err.Error())
		case errors.Is(err, io.EOF):
			i.send(ctx, p)
			return nil
		default:
			i.send(ctx, p)
			return badUsage(fmt.Errorf("%s: %w", i.name, err))
		}
		if len(p.rows) == importPiece {
			if !i.send(ctx, p) {
				return nil
			}
			p = piece{}
		}
	}
}

// send starts a piece on its way, once there is a place for it; false: there is no sense in going on.
func (i *importing) send(ctx context.Context, p piece) bool {
	if len(p.rows) == 0 {
		return true
	}
	select {
	case i.places <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	i.sent.Go(func() {
		defer func() { <-i.places }()
		r, err := i.cl.ImportSuppressions(ctx, &adminpb.ImportSuppressionsRequest{Common: i.common, Rows: p.rows})
		if err != nil {
			i.fail(err)
			return
		}
		for _, e := range r.Examples {
			if int(e.Row) < len(p.lines) {
				i.bad(p.lines[e.Row], e.Text)
			}
		}
		i.count(r)
	})
	return true
}

func (i *importing) fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err == nil {
		i.err = err
	}
	i.cancel()
}

func (i *importing) count(r *adminpb.ImportSuppressionsResponse) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.added += int(r.Added)
	i.known += int(r.Known)
	i.refused += int(r.Refused) - len(r.Examples) // those have been told and counted
	if f, ok := i.app.err.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) || clock.Since(i.told) < progressEvery {
		return
	}
	i.told = clock.Wall()
	done := i.added + i.known
	fmt.Fprintf(i.app.err, "\r%s rows, %s a second ", number(int64(done)), number(int64(float64(done)/clock.Since(i.start).Seconds())))
}

// bad counts a row that was passed over, and tells the first ones.
func (i *importing) bad(line int, why string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.refused++; i.refused <= importTells {
		fmt.Fprintf(i.app.err, "ekiden: %s:%d: passed over: %s\n", printable(i.name), line, printable(strings.TrimPrefix(why, errBadRow.Error()+": ")))
	}
}

func (i *importing) end(err error) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.told.IsZero() {
		fmt.Fprintln(i.app.err)
	}
	if i.err != nil {
		err = i.err
	}
	if i.json {
		if e := printJSON(i.out, map[string]any{"added": i.added, "known": i.known, "refused": i.refused, "complete": err == nil}); e != nil {
			return e
		}
	} else {
		fmt.Fprintf(i.out, "%s added, %s stood there already, %s passed over\n", number(int64(i.added)), number(int64(i.known)), number(int64(i.refused)))
	}
	switch {
	case err != nil:
		fmt.Fprintln(i.app.err, "ekiden: the import broke off; run it again, what is there already stays")
		return err
	case i.ctx.Err() != nil:
		return errors.New("interrupted")
	case i.refused > 0:
		return &coded{exitUsage, errSilent} // the file is bad; its lines are told
	}
	return nil
}
