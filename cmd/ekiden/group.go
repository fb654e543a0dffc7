package main

import (
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
)

type groupCmds struct {
	List    groupListCmd    `cmd:"" help:"List the delivery groups in use."`
	Status  groupStatusCmd  `cmd:"" help:"Show the counters of one group."`
	Stop    groupStopCmd    `cmd:"" help:"Stop a group at once, on every node."`
	Resume  groupResumeCmd  `cmd:"" help:"Let a stopped group go on."`
	Discard groupDiscardCmd `cmd:"" help:"Discard the queued mail of a stopped group."`
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
	tellMissing(a, r.Missing)
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
	tellMissing(a, r.Missing)
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

// groupFlags name a group.
type groupFlags struct {
	serverFlags
	Group  string `arg:"" help:"Delivery group."`
	Tenant string `help:"Only this tenant's; without, every tenant's." placeholder:"NAME"`
}

type groupStopCmd struct {
	groupFlags
	RefuseIntake bool `help:"Also refuse new mail of the group: clients are told to try again later."`
	HoldExpiry   bool `help:"Let its mail not expire meanwhile."`
}

func (groupStopCmd) Help() string {
	return "Nothing of the group is sent any more once this says stopped. It may be repeated; exit code 1 says that some node " +
		"has not confirmed yet.\n\nExample: ekiden group stop campaign7 --hold-expiry"
}

// Run stops a group, and fails where a node may still send.
func (c groupStopCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.StopGroup(a.ctx, &adminpb.StopGroupRequest{Group: c.Group, Tenant: c.Tenant,
		RefuseIntake: c.RefuseIntake, HoldExpiry: c.HoldExpiry})
	if err != nil {
		return err
	}
	var missing []string
	for _, n := range r.Nodes {
		switch {
		case n.Confirmed:
		case r.State == service.GroupStopped:
			missing = append(missing, n.Name+" (not there; it sends nothing)")
		default:
			missing = append(missing, fmt.Sprintf("%s (not confirmed, missing for %v)", n.Name, n.MissingFor.AsDuration().Truncate(time.Millisecond)))
		}
	}
	if a.json {
		err = printProto(a.out, r)
	} else {
		_, err = fmt.Fprintf(a.out, "group %s %s: %s held, %s in flight", printable(c.Group), r.State, number(r.Held), number(r.InFlight))
		if r.LastSent != nil {
			fmt.Fprintf(a.out, ", last sent %s", moment(r.LastSent))
		}
		fmt.Fprintln(a.out)
		for _, m := range missing {
			fmt.Fprintf(a.out, "  %s\n", printable(m))
		}
	}
	if err == nil && r.State != service.GroupStopped {
		return errSilent
	}
	return err
}

type groupResumeCmd struct{ groupFlags }

func (groupResumeCmd) Help() string { return "Example: ekiden group resume campaign7" }

// Run lets a group go on.
func (c groupResumeCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ResumeGroup(a.ctx, &adminpb.ResumeGroupRequest{Group: c.Group, Tenant: c.Tenant})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintf(a.out, "group %s %s\n", printable(c.Group), r.State)
	return err
}

type groupDiscardCmd struct{ groupFlags }

func (groupDiscardCmd) Help() string {
	return "The group must be stopped. What is queued ends as interrupted and is counted so; what comes later is held.\n\n" +
		"Example: ekiden group discard campaign7"
}

// Run discards the queued mail of a stopped group.
func (c groupDiscardCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.DiscardGroup(a.ctx, &adminpb.DiscardGroupRequest{Group: c.Group, Tenant: c.Tenant})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	tellMissing(a, r.Missing)
	_, err = fmt.Fprintf(a.out, "group %s: %s deliveries discarded\n", printable(c.Group), number(r.Discarded))
	return err
}
