package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
)

type suppressStopsCmd struct {
	serverFlags
	Tenant string `help:"Only this tenant." placeholder:"NAME"`
}

func (suppressStopsCmd) Help() string {
	return "Example: ekiden suppress stops --tenant shop\n\nREASONS are error statuses and after how many errors an address is stopped."
}

// Run prints the delivery stops.
func (c suppressStopsCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ListDeliveryStops(a.ctx, &adminpb.ListDeliveryStopsRequest{Tenant: c.Tenant})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	rows := [][]string{{"TENANT", "COMPOSITION", "REASONS", "RUNS AT", "LAST RUN", "STOPPED", "RELEASED AFTER"}}
	for _, s := range r.Stops {
		var reasons []string
		for _, status := range slices.Sorted(maps.Keys(s.Reasons)) {
			reasons = append(reasons, fmt.Sprintf("%d=%d", status, s.Reasons[status]))
		}
		after := "never"
		if s.ReleaseAfterDays > 0 {
			after = fmt.Sprintf("%d days", s.ReleaseAfterDays)
		}
		rows = append(rows, []string{printable(s.Tenant), printable(s.Composition), strings.Join(reasons, ","), s.RunAt, moment(s.LastRun),
			strconv.Itoa(int(s.Stopped)), after})
	}
	return table(a.out, rows)
}
