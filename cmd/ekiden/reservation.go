package main

import (
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
)

type reservationCmds struct {
	List   reservationListCmd   `cmd:"" help:"List reserved mail in groups."`
	Cancel reservationCancelCmd `cmd:"" help:"Cancel a group of reserved mail."`
}

type reservationListCmd struct {
	serverFlags
	Tenant string `help:"Only this tenant's." placeholder:"NAME"`
}

func (reservationListCmd) Help() string {
	return "All mail from one domain that waits for one moment is one line.\n\nExample: ekiden reservation list"
}

// Run prints one line per group.
func (c reservationListCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ListReservations(a.ctx, &adminpb.ListReservationsRequest{Tenant: c.Tenant})
	if err != nil {
		return err
	}
	tellMissing(a, r.Missing)
	if a.json {
		return printProto(a.out, r)
	}
	rows := [][]string{{"ID", "TIME", "FROM", "TENANT", "COUNT"}}
	for _, v := range r.Reservations {
		at := v.Time.AsTime().In(time.Local).Format("2006/01/02 15:04:05") // the form of requirement R29
		rows = append(rows, []string{v.Id, at, v.FromDomain, v.Tenant, number(int64(v.Count))})
	}
	return table(a.out, rows)
}

type reservationCancelCmd struct {
	serverFlags
	ID     string `arg:"" help:"Reservation, as the list names it."`
	Tenant string `help:"Its tenant." placeholder:"NAME"`
}

func (reservationCancelCmd) Help() string {
	return "Its mail ends as interrupted; nothing of it is sent.\n\nExample: ekiden reservation cancel 9f86d081884c7d65"
}

// Run cancels a group.
func (c reservationCancelCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.CancelReservation(a.ctx, &adminpb.CancelReservationRequest{Id: c.ID, Tenant: c.Tenant})
	if err != nil {
		return err
	}
	tellMissing(a, r.Missing)
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintf(a.out, "reservation %s cancelled: %d mails\n", printable(c.ID), r.Cancelled)
	return err
}
