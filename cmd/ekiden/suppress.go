package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

type suppressCmds struct {
	List   suppressListCmd   `cmd:"" help:"List suppressed addresses."`
	Add    suppressAddCmd    `cmd:"" help:"Suppress addresses."`
	Remove suppressRemoveCmd `cmd:"" help:"Stop suppressing addresses."`
	Import suppressImportCmd `cmd:"" help:"Suppress the addresses of a file."`
	Reset  suppressResetCmd  `cmd:"" help:"Forget the errors of addresses."`
	Stops  suppressStopsCmd  `cmd:"" help:"Show what stops deliveries by itself."`
}

// placeFlags say on which list, for whose mail.
type placeFlags struct {
	List   string `help:"blocklist, unsubscribe, or blackbox: of all tenants." enum:"blocklist,unsubscribe,blackbox" default:"blocklist" placeholder:"LIST"`
	Tenant string `help:"Whose mail; needed where there are several tenants and none is called default. The black box has none." placeholder:"NAME"`
	Filter string `help:"With unsubscribe: only the mail of this filter." placeholder:"NAME"`
}

// tenant is whose mail is meant: nobody's in particular on the black box.
func (f placeFlags) tenant() string {
	if f.List == service.BlackBox {
		return ""
	}
	return f.Tenant
}

// of says whose something is, where that was asked for.
func of(tenant string) string {
	if tenant == "" {
		return ""
	}
	return " of tenant " + strconv.Quote(tenant)
}

type suppressListCmd struct {
	serverFlags
	Address string `arg:"" optional:"" help:"A part of the address."`
	List    string `help:"Only blackbox, blocklist, unsubscribe; or errors: what was counted against addresses; or leaving: who asked to be unsubscribed." placeholder:"LIST"`
	Tenant  string `help:"Only this tenant." placeholder:"NAME"`
	Since   string `help:"Only what got on its list from this time on: RFC 3339, or a duration back from now." placeholder:"TIME"`
	Until   string `help:"Only what got there before this time." placeholder:"TIME"`
	Format  string `help:"table, json (one object per line), or csv: what suppress import reads." enum:"table,json,csv" default:"table"`
}

func (suppressListCmd) Help() string {
	return "Example: ekiden suppress list example.jp --list blocklist\n\n" +
		"With --json, one object per line. Lists move to another cluster so:\n" +
		"ekiden suppress list --format csv > lists.csv, and there: ekiden suppress import -f lists.csv"
}

// suppressRow has fixed widths: nobody knows how long the list is.
const suppressRow = "%-40s  %-11s  %-12s  %-12s  %-19s  %-19s  %s\n"

// Run prints what matches.
func (c suppressListCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var show func(*adminpb.Suppression) error
	begin, end := func() error { return nil }, func() error { return nil }
	switch {
	case a.json || c.Format == "json":
		show = func(s *adminpb.Suppression) error { return printProto(a.out, s) }
	case c.Format == "csv" && (c.List == service.Errors || c.List == service.Leaving):
		return badUsage(fmt.Errorf("--list %s: it is counted by the engine and cannot be imported; take table or json", c.List))
	case c.Format == "csv":
		out := csv.NewWriter(a.out)
		show = func(s *adminpb.Suppression) error { return out.Write(rowOf(s)) }
		begin = func() error { return out.Write(rowColumns()) }
		end = func() error { out.Flush(); return out.Error() } // a list that was cut short is no success
	default:
		begin = func() error {
			_, err := fmt.Fprintf(a.out, suppressRow, "ADDRESS", "LIST", "TENANT", "FILTER", "SINCE", "EXPIRES", "REASON")
			return err
		}
		show = func(s *adminpb.Suppression) error {
			_, err := fmt.Fprintf(a.out, suppressRow, printable(s.Address), s.List, printable(s.Tenant), printable(s.Filter),
				moment(s.Since), moment(s.Expires), printable(s.Reason))
			return err
		}
	}
	return errors.Join(c.each(a, cl, begin, show), end())
}

// each shows what matches, page by page. It begins with the first answer of the node: what that refuses has no heading.
func (c suppressListCmd) each(a *app, cl adminpb.AdminServiceClient, begin func() error, show func(*adminpb.Suppression) error) error {
	req := &adminpb.ListSuppressionsRequest{Address: c.Address, List: c.List, Tenant: c.Tenant, Limit: logPage}
	var err error
	if req.Since, req.Until, err = span(a, cl, c.Since, c.Until); err != nil {
		return err
	}
	for {
		r, err := cl.ListSuppressions(a.ctx, req)
		if err != nil {
			return err
		}
		if req.Cursor == "" {
			if err := begin(); err != nil {
				return err
			}
		}
		for _, s := range r.Suppressions {
			if err := show(s); err != nil {
				return err
			}
		}
		if req.Cursor = r.NextCursor; !r.More {
			return nil
		}
	}
}

type suppressAddCmd struct {
	serverFlags
	placeFlags
	Address []string       `arg:"" help:"Addresses."`
	Reason  string         `help:"Why; shown in the list." placeholder:"TEXT"`
	For     *time.Duration `help:"End it by itself after this time." placeholder:"720h"`
}

func (suppressAddCmd) Help() string {
	return "Example: ekiden suppress add user@example.jp --reason \"asked by phone\""
}

// Run suppresses.
func (c suppressAddCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var expires *timestamppb.Timestamp
	if c.For != nil {
		if *c.For <= 0 {
			return errNoTime
		}
		expires = timestamppb.New(clock.Wall().Add(*c.For))
	}
	req := &adminpb.SuppressRequest{}
	for _, address := range c.Address {
		req.Suppressions = append(req.Suppressions, &adminpb.Suppression{Address: address, List: c.List, Tenant: c.tenant(),
			Filter: c.Filter, Reason: c.Reason, Expires: expires})
	}
	r, err := cl.Suppress(a.ctx, req)
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintf(a.out, "%d suppressed, %d of them stood there already\n", len(c.Address), len(c.Address)-int(r.Added))
	return err
}

type suppressRemoveCmd struct {
	serverFlags
	placeFlags
	Address []string `arg:"" help:"Addresses."`
}

func (suppressRemoveCmd) Help() string { return "Example: ekiden suppress remove user@example.jp" }

// Run lets mail to the addresses go again.
func (c suppressRemoveCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.Unsuppress(a.ctx, &adminpb.UnsuppressRequest{Addresses: c.Address, List: c.List, Tenant: c.tenant(), Filter: c.Filter})
	if err != nil {
		return err
	}
	if r.Removed == 0 {
		return fmt.Errorf("none of them stands on the list %s%s", c.List, of(c.tenant()))
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintf(a.out, "%d of %d removed\n", r.Removed, len(c.Address))
	return err
}

type suppressResetCmd struct {
	serverFlags
	Address []string `arg:"" help:"Addresses."`
	Tenant  string   `help:"Whose count; needed where there are several tenants and none is called default." placeholder:"NAME"`
}

func (suppressResetCmd) Help() string { return "Example: ekiden suppress reset user@example.jp" }

// Run forgets the errors counted for the addresses.
func (c suppressResetCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ResetErrors(a.ctx, &adminpb.ResetErrorsRequest{Addresses: c.Address, Tenant: c.Tenant})
	if err != nil {
		return err
	}
	if r.Reset_ == 0 {
		return fmt.Errorf("no errors are counted against them%s", of(c.Tenant))
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintf(a.out, "%d reset\n", r.Reset_)
	return err
}
