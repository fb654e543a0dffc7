package main

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

type tokenCmds struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token; it is shown once."`
	List   tokenListCmd   `cmd:"" help:"List tokens."`
	Revoke tokenRevokeCmd `cmd:"" help:"Revoke a token."`
}

type tokenCreateCmd struct {
	serverFlags
	Name   string         `arg:"" help:"Name of the token: a-z, 0-9 and -."`
	Role   string         `help:"viewer, or administrator: may also change." enum:"viewer,administrator" default:"viewer" placeholder:"ROLE"`
	Tenant string         `help:"Whose data it reads; needed where there are several tenants and none is called default." placeholder:"NAME"`
	User   string         `help:"API user of the tenant: the token reads only what that user handed over." placeholder:"NAME"`
	For    *time.Duration `help:"End it by itself after this time." placeholder:"2160h"`
}

func (tokenCreateCmd) Help() string {
	return "Example: ekiden token create monitoring --role viewer --tenant shop"
}

// Run makes a token and prints it.
func (c tokenCreateCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	t := &adminpb.Token{Name: c.Name, Role: c.Role, Tenant: c.Tenant, User: c.User}
	if c.For != nil {
		if *c.For <= 0 {
			return errNoTime
		}
		t.Expires = timestamppb.New(clock.Wall().Add(*c.For))
	}
	r, err := cl.CreateToken(a.ctx, &adminpb.CreateTokenRequest{Token: t})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintln(a.out, r.Token)
	return err
}

type tokenListCmd struct {
	serverFlags
	Tenant string `help:"Only this tenant." placeholder:"NAME"`
}

func (tokenListCmd) Help() string { return "Example: ekiden token list" }

// Run prints one line per token.
func (c tokenListCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ListTokens(a.ctx, &adminpb.ListTokensRequest{Tenant: c.Tenant})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	rows := [][]string{{"NAME", "TENANT", "ROLE", "USER", "CREATED", "EXPIRES"}}
	for _, t := range r.Tokens {
		rows = append(rows, []string{t.Name, t.Tenant, t.Role, t.User, moment(t.Created), moment(t.Expires)})
	}
	return table(a.out, rows)
}

type tokenRevokeCmd struct {
	serverFlags
	Name string `arg:"" help:"Name of the token."`
}

func (tokenRevokeCmd) Help() string { return "Example: ekiden token revoke monitoring" }

// Run ends a token on every node.
func (c tokenRevokeCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.RevokeToken(a.ctx, &adminpb.RevokeTokenRequest{Name: c.Name})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintf(a.out, "token %s is revoked\n", c.Name)
	return err
}
