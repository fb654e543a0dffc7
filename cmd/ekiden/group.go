package main

import (
	"fmt"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
)

type groupCmds struct {
	List    groupListCmd   `cmd:"" help:"List the delivery groups in use."`
	Status  groupStatusCmd `cmd:"" help:"Show the counters of one group."`
	Stop    groupStopCmd   `cmd:"" help:"Stop a group at once (not in this release)."`
	Resume  groupLaterCmd  `cmd:"" help:"Let a stopped group go on (not in this release)."`
	Discard groupLaterCmd  `cmd:"" help:"Discard the mail of a stopped group (not in this release)."`
}

type groupListCmd struct{ serverFlags }

func (groupListCmd) Help() string { return "Example: ekiden group list" }

// Run prints one line per group.
func (c groupListCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ListGroups(a.ctx, &adminpb.ListGroupsRequest{})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	rows := [][]string{{"GROUP", "TENANT", "STATE", "UNDELIVERED", "SUCCEEDED", "FAILED", "LAST SENT"}}
	for _, g := range r.Groups {
		rows = append(rows, []string{g.Name, g.Tenant, g.State, number(g.Counters.GetUndelivered()),
			number(g.Counters.GetSucceeded()), number(g.Counters.GetFailed()), moment(g.LastSent)})
	}
	return table(a.out, rows)
}

type groupStatusCmd struct {
	serverFlags
	Group  string `arg:"" help:"Delivery group."`
	Tenant string `help:"Its tenant, where two use the name." placeholder:"NAME"`
}

func (groupStatusCmd) Help() string { return "Example: ekiden group status campaign7" }

// Run prints state and counters of one group.
func (c groupStatusCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ListGroups(a.ctx, &adminpb.ListGroupsRequest{})
	if err != nil {
		return err
	}
	found := false
	for _, g := range r.Groups {
		if g.Name != c.Group || c.Tenant != "" && g.Tenant != c.Tenant {
			continue
		}
		found = true
		if a.json {
			if err := printProto(a.out, g); err != nil {
				return err
			}
			continue
		}
		rows := [][]string{{"group", g.Name}, {"tenant", g.Tenant}, {"state", g.State}, {"last sent", moment(g.LastSent)}}
		for i := range service.CounterCount {
			rows = append(rows, []string{service.CounterName(i), number(counterAt(g.Counters, i))})
		}
		if err := table(a.out, rows); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("no mail of a group %q is known", c.Group)
	}
	return nil
}

type groupStopCmd struct {
	Group        string `arg:"" help:"Delivery group."`
	RefuseIntake bool   `help:"Also refuse new mail of the group."`
	HoldExpiry   bool   `help:"Let its mail not expire meanwhile."`
	later        `kong:"-"`
}

func (groupStopCmd) Help() string { return "Example: ekiden group stop campaign7" }

type groupLaterCmd struct {
	Group string `arg:"" help:"Delivery group."`
	later `kong:"-"`
}

func (groupLaterCmd) Help() string { return "Example: ekiden group resume campaign7" }
