package main

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

type logCmd struct {
	serverFlags
	To     string `help:"Only this recipient." placeholder:"ADDRESS"`
	From   string `help:"Only this sender." placeholder:"ADDRESS"`
	Domain string `help:"Only this destination domain." placeholder:"DOMAIN"`
	Group  string `help:"Only this delivery group." placeholder:"GROUP"`
	Tenant string `help:"Only this tenant." placeholder:"NAME"`
	Status string `help:"Only these statuses, separated by commas: queued, succeeded, deferred, failed, suppressed, discarded, bounced, received, blocked, released …; or what the network did: lookup, connection." placeholder:"STATUS,…"`
	Data   string `name:"api-data" help:"Only where X-Api-Data contains this." placeholder:"TEXT"`
	Source string `help:"Only what left by this source address." placeholder:"IP"`
	Class  []uint `help:"Only these error statuses: 1 to 12, 99." placeholder:"N"`
	Since  string `help:"From this time on: RFC 3339, or a duration back from now." placeholder:"TIME"`
	Until  string `help:"Before this time." placeholder:"TIME"`
	Mail   bool   `help:"With --format json: also the mail that told of a bounce or a complaint, as base64."`
	Follow bool   `help:"Go on with new events as they come, until interrupted."`
	Format string `help:"table, tsv, csv or json (one object per line)." enum:"table,tsv,csv,json" default:"table"`
}

func (logCmd) Help() string {
	return "Example: ekiden log --to someone@example.jp --since 24h --format tsv\n\n" +
		"The columns of tsv and csv: time, group, from, to, source address, destination address, stage, status, detail."
}

const (
	logPage   = 1000
	followGap = 500 * time.Millisecond // between two looks at a log that has nothing new
)

// Run prints what matches, page by page; with --follow it goes on.
func (c logCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if a.json {
		c.Format = "json"
	}
	req, err := c.request(a, cl)
	if err != nil {
		return err
	}
	p, err := newEventPrinter(a.out, c.Format)
	if err != nil {
		return err
	}
	warned := false
	for {
		r, err := cl.SearchEvents(a.ctx, req)
		if err != nil {
			if c.Follow && a.ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !warned {
			tellMissing(a, r.Missing)
		}
		warned = len(r.Missing) > 0 // told again once it was complete in between
		if err := p.page(r.Events); err != nil {
			return err
		}
		req.Cursor = r.NextCursor
		switch {
		case r.More:
		case !c.Follow:
			return nil
		case !wait(a, followGap):
			return nil
		}
	}
}

// request turns the flags into a query.
func (c logCmd) request(a *app, cl adminpb.AdminServiceClient) (*adminpb.SearchEventsRequest, error) {
	req := &adminpb.SearchEventsRequest{To: c.To, From: c.From, Domain: c.Domain, Group: c.Group, Tenant: c.Tenant,
		Status: c.Status, Limit: logPage, ApiData: c.Data, Source: c.Source, Mail: c.Mail}
	for _, n := range c.Class {
		req.Classes = append(req.Classes, uint32(n))
	}
	since := c.Since
	if since == "" && c.Follow {
		since = "0s"
	}
	var err error
	req.Since, req.Until, err = span(a, cl, since, c.Until)
	return req, err
}

// span reads --since and --until; nil where they are not given. Durations count back from the node's own clock, which tests may steer.
func span(a *app, cl adminpb.AdminServiceClient, since, until string) (from, to *timestamppb.Timestamp, err error) {
	now := clock.Wall()
	if since != "" || until != "" {
		st, err := cl.GetStatus(a.ctx, &adminpb.GetStatusRequest{})
		if err != nil {
			return nil, nil, err
		}
		if st.Now != nil {
			now = st.Now.AsTime()
		}
	}
	for _, f := range []struct {
		flag, text string
		into       **timestamppb.Timestamp
	}{{"--since", since, &from}, {"--until", until, &to}} {
		t, err := service.ParseInstant(f.text, now)
		if err != nil {
			return nil, nil, badUsage(fmt.Errorf("%s: %w", f.flag, err))
		}
		if !t.IsZero() {
			*f.into = timestamppb.New(t)
		}
	}
	return from, to, nil
}

// wait pauses for d and tells whether the command goes on.
func wait(a *app, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-a.ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// eventPrinter writes events in one of the formats. The heading comes with the first answer of the node: what that refuses has none.
type eventPrinter struct {
	w      io.Writer
	format string
	csv    *csv.Writer
	headed bool
}

func newEventPrinter(w io.Writer, format string) (*eventPrinter, error) {
	p := &eventPrinter{w: w, format: format}
	switch format {
	case "csv":
		p.csv = csv.NewWriter(w)
		return p, nil
	case "table", "tsv", "json":
		return p, nil
	}
	return nil, badUsage(errors.New("--format must be table, tsv, csv or json"))
}

// page writes a page of events, out to the end.
func (p *eventPrinter) page(events []*adminpb.Event) error {
	if !p.headed {
		if err := p.head(); err != nil {
			return err
		}
		p.headed = true
	}
	for _, e := range events {
		if err := p.print(e); err != nil {
			return err
		}
	}
	return p.flush()
}

// tableRow has fixed widths: a log is printed as it comes, so nobody knows how wide its columns will be.
const tableRow = "%-19s  %-10s  %-32s  %-28s  %-12s  %-8s  %s\n"

// logColumns are the nine columns of requirement R68.
func logColumns() []string {
	return []string{"time", "group", "from", "to", "source", "destination", "stage", "status", "detail"}
}

func (p *eventPrinter) head() error {
	switch p.format {
	case "csv":
		return p.csv.Write(logColumns())
	case "table":
		_, err := fmt.Fprintf(p.w, tableRow, "TIME", "STATUS", "TO", "FROM", "GROUP", "STAGE", "DETAIL")
		return err
	}
	return nil
}

func (p *eventPrinter) print(e *adminpb.Event) error {
	switch p.format {
	case "json":
		return printProto(p.w, e)
	case "table":
		_, err := fmt.Fprintf(p.w, tableRow, moment(e.At), e.Status, printable(cmp.Or(e.To, e.Domain)), printable(e.From), printable(e.Group),
			e.Stage, printable(detailOf(e)))
		return err
	}
	row := []string{instant(e.At), e.Group, e.From, e.To, e.Source, host(e.Remote), e.Stage, e.Status, detailOf(e)}
	for i := range row {
		row[i] = printable(row[i])
	}
	if p.csv == nil {
		_, err := io.WriteString(p.w, strings.Join(row, "\t")+"\n")
		return err
	}
	for i := range row {
		row[i] = compat.PlainCell(row[i])
	}
	return p.csv.Write(row)
}

func (p *eventPrinter) flush() error {
	if p.csv == nil {
		return nil
	}
	p.csv.Flush()
	return p.csv.Error()
}

// host is the address of address:port.
func host(remote string) string {
	i := strings.LastIndexByte(remote, ':')
	if i < 0 {
		return remote
	}
	return strings.Trim(remote[:i], "[]")
}
