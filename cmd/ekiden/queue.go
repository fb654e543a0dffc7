package main

import (
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
)

type queueCmd struct {
	serverFlags
	Domain string `help:"Only this destination domain." placeholder:"DOMAIN"`
	Group  string `help:"Only this delivery group." placeholder:"GROUP"`
	Tenant string `help:"Only this tenant." placeholder:"NAME"`
}

func (queueCmd) Help() string { return "Example: ekiden queue --domain example.jp" }

// windows are the twelve counters in the three windows of requirement R61.
type windows struct {
	Total *adminpb.Counters
	Hour  []*adminpb.CounterBucket
	Five  []*adminpb.CounterBucket

	missing []*adminpb.Absent // of the members: the counters lack theirs
}

// Run prints the counters.
func (c queueCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	w, err := c.windows(a, cl)
	if err != nil {
		return err
	}
	tellMissing(a, w.missing)
	if a.json {
		return printJSON(a.out, w.plain())
	}
	rows := [][]string{header("", "total", w.Hour, "Mon 15:04")}
	for i := range service.CounterCount {
		row := []string{service.CounterName(i), number(counterAt(w.Total, i))}
		rows = append(rows, append(row, buckets(w.Hour, i)...))
	}
	if err := table(a.out, rows); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	rows = [][]string{header("", "", w.Five, "15:04")}
	for i := range service.CounterCount {
		rows = append(rows, append([]string{service.CounterName(i), ""}, buckets(w.Five, i)...))
	}
	return table(a.out, rows)
}

func (c queueCmd) windows(a *app, cl adminpb.AdminServiceClient) (windows, error) {
	var w windows
	get := func(unit string) ([]*adminpb.CounterBucket, error) {
		r, err := cl.GetCounters(a.ctx, &adminpb.GetCountersRequest{Unit: unit, Group: c.Group, Domain: c.Domain, Tenant: c.Tenant})
		w.missing = r.GetMissing()
		return r.GetBuckets(), err
	}
	total, err := get(service.UnitTotal)
	if err != nil {
		return w, err
	}
	if len(total) > 0 {
		w.Total = total[0].Counters
	}
	if w.Hour, err = get(service.UnitHour); err != nil {
		return w, err
	}
	w.Five, err = get(service.UnitFive)
	return w, err
}

// plain is the form of --json: numbers by name, as GET /v1/counters has them.
func (w windows) plain() map[string]any {
	list := func(in []*adminpb.CounterBucket) []map[string]int64 {
		out := make([]map[string]int64, len(in))
		for i, b := range in {
			out[i] = countersByName(b.Counters)
			out[i]["start"] = b.Start.GetSeconds()
		}
		return out
	}
	return map[string]any{"total": countersByName(w.Total), "hour": list(w.Hour), "5min": list(w.Five), "missing": absentNames(w.missing)}
}

func countersByName(c *adminpb.Counters) map[string]int64 {
	out := map[string]int64{}
	for i := range service.CounterCount {
		out[service.CounterName(i)] = counterAt(c, i)
	}
	return out
}

func header(name, total string, in []*adminpb.CounterBucket, layout string) []string {
	row := []string{name, total}
	for _, b := range in {
		row = append(row, b.Start.AsTime().In(time.Local).Format(layout))
	}
	return row
}

func buckets(in []*adminpb.CounterBucket, counter int) []string {
	row := make([]string, len(in))
	for i, b := range in {
		row[i] = number(counterAt(b.Counters, counter))
	}
	return row
}

// counterAt returns the counter at place i of requirement R60.
func counterAt(c *adminpb.Counters, i int) int64 {
	return [service.CounterCount]int64{
		service.Undelivered: c.GetUndelivered(), service.Retry: c.GetRetry(), service.InDelivery: c.GetInDelivery(),
		service.Succeeded: c.GetSucceeded(), service.Failed: c.GetFailed(), service.Temporary: c.GetTemporary(),
		service.DNSTemporary: c.GetDnsTemporary(), service.ConnectFailed: c.GetConnectFailed(),
		service.ConnectError: c.GetConnectError(), service.DNSFailed: c.GetDnsFailed(), service.Expired: c.GetExpired(),
		service.Interrupted: c.GetInterrupted(),
	}[i]
}
