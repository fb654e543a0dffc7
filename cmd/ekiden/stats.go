package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/policy/bounce"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

type statsCmds struct {
	Daily   statsDailyCmd   `cmd:"" help:"Queued, succeeded, failed and blocked mail by day, with rates."`
	Results statsResultsCmd `cmd:"" help:"Successes and errors by day, FROM domain and carrier."`
	Errors  statsErrorsCmd  `cmd:"" help:"Error statuses by destination domain."`
	Rebuild statsRebuildCmd `cmd:"" help:"Count counters and statistics anew from the event log."`
}

// statsFlags say which days, and whose.
type statsFlags struct {
	serverFlags
	From   string `help:"First day, as YYYY/MM/DD; default: 30 days before the last." placeholder:"DAY"`
	To     string `help:"Last day; default: today. A day appears the night after." placeholder:"DAY"`
	Tenant string `help:"Only this tenant's." placeholder:"NAME"`
	Domain string `help:"Only this domain: of the sender; of errors, of the recipient." placeholder:"DOMAIN"`
	Month  bool   `help:"By month instead of by day."`
}

// get asks the server.
func (c *statsFlags) get(a *app, errors bool) (*adminpb.GetStatisticsResponse, error) {
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	req := &adminpb.GetStatisticsRequest{From: c.From, To: c.To, Tenant: c.Tenant, FromDomain: c.Domain}
	if errors {
		req.FromDomain, req.ToDomain = "", c.Domain
	}
	r, err := cl.GetStatistics(a.ctx, req)
	if err == nil {
		tellMissing(a, r.Missing)
	}
	return r, err
}

type statsDailyCmd struct{ statsFlags }

func (statsDailyCmd) Help() string {
	return "A day's line is of the mail accepted on that day. Errors above 3 % of what was sent harm a sender.\n\nExample: ekiden stats daily --tenant shop"
}

// Run prints the daily table.
func (c statsDailyCmd) Run(a *app) error {
	r, err := c.get(a, false)
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	lines, total := statistics.DailyOf(rpc.StatisticsOf(r).Rows, c.Month)
	rows := [][]string{{"DATE", "QUEUED", "SUCCEEDED", "FAILED", "BLOCKED", "VALID", "ERRORS %", "DELIVERED %"}}
	for _, d := range append(lines, total) {
		rows = append(rows, []string{d.Span, count(d.Queued), count(d.Succeeded), count(d.Failed), count(d.Blocked), count(d.Valid()),
			d.ErrorRate(), d.DeliveryRate()})
	}
	if err := table(a.out, rows); err != nil || !total.Warns() {
		return err
	}
	_, err = fmt.Fprintf(a.out, "warning: the error rate is %s %%, above %d %%: clean the lists of addresses\n", total.ErrorRate(), statistics.WarnAbove)
	return err
}

type statsResultsCmd struct{ statsFlags }

func (statsResultsCmd) Help() string {
	return "A day's line is of what ended on that day.\n\nExample: ekiden stats results --from 2026/03/01 --to 2026/03/31 --month"
}

// Run prints the table of results.
func (c statsResultsCmd) Run(a *app) error {
	r, err := c.get(a, false)
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	lines, total := statistics.OutcomesOf(rpc.StatisticsOf(r).Rows, c.Month)
	rows := [][]string{{"DATE", "SOURCE", "DESTINATION", "CLEANING", "SUCCESS", "NG", "RATE %"}}
	for _, o := range append(lines, total) {
		cleaning := "--"
		if o.Cleaning {
			cleaning = count(o.Success + o.NG)
		}
		rows = append(rows, []string{o.Span, o.Source, o.Destination, cleaning, count(o.Success), count(o.NG), o.Rate()})
	}
	return table(a.out, rows)
}

type statsErrorsCmd struct{ statsFlags }

func (statsErrorsCmd) Help() string {
	return "The lines of \"total\" are of all domains.\n\nExample: ekiden stats errors --domain docomo.ne.jp"
}

// Run prints error statuses.
func (c statsErrorsCmd) Run(a *app) error {
	r, err := c.get(a, true)
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	rows := [][]string{{"DOMAIN", "STATUS", "NAME", "COUNT"}}
	for _, v := range statistics.SlicesOf(rpc.StatisticsOf(r).Errors) {
		rows = append(rows, []string{string(v.Domain), strconv.Itoa(int(v.Status)), bounce.WordsOf(v.Status).Name, count(v.Count)})
	}
	return table(a.out, rows)
}

type statsRebuildCmd struct{ serverFlags }

func (statsRebuildCmd) Help() string {
	return "Mail goes on meanwhile; if this command is ended, so does the counting. Afterwards the counters are what the event log says, on every node; nothing is lost by it.\n\nExample: ekiden stats rebuild"
}

// Run has every node count anew.
func (c statsRebuildCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.RebuildStatistics(a.ctx, &adminpb.RebuildStatisticsRequest{})
	for ; err == nil && slices.ContainsFunc(r.Nodes, (*adminpb.Rebuilt).GetRunning); r, err = cl.RebuildStatistics(a.ctx,
		&adminpb.RebuildStatisticsRequest{Watch: true}) { // each call waits a while
		for _, v := range r.Nodes {
			if v.Running {
				fmt.Fprintf(a.err, "%s: %s events counted so far\n", v.Node, count(v.Events))
			}
		}
	}
	if err != nil {
		return err
	}
	tellMissing(a, r.Missing)
	if a.json {
		return printProto(a.out, r)
	}
	rows := [][]string{{"NODE", "EVENTS", "COUNTERS"}}
	for _, v := range r.Nodes {
		word := "were right"
		if !v.Same {
			word = "were wrong, put right"
		}
		rows = append(rows, []string{v.Node, count(v.Events), word})
	}
	return table(a.out, rows)
}

func count(n uint64) string { return number(int64(n)) }
