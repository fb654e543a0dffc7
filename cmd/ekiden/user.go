package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/internal/secret"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// maxKeyLine bounds the line that a key is read from, in octets.
const maxKeyLine = 1024

type userCmds struct {
	List   userListCmd   `cmd:"" help:"List API users."`
	Add    userAddCmd    `cmd:"" help:"Add an API user; the key is read from standard input."`
	Key    userKeyCmd    `cmd:"" help:"Give an API user another key, read from standard input."`
	Remove userRemoveCmd `cmd:"" help:"Remove an API user."`
}

// compositionFlags name a server composition.
type compositionFlags struct {
	Tenant      string `help:"Tenant." placeholder:"NAME" default:"default"`
	Composition string `help:"Server composition of the tenant." placeholder:"NAME" default:"default"`
}

func (f compositionFlags) find(s *settings.Settings) (*settings.Composition, error) {
	for i := range s.Tenants {
		for j := range s.Tenants[i].Compositions {
			if c := &s.Tenants[i].Compositions[j]; s.Tenants[i].Name == f.Tenant && c.Name == f.Composition {
				return c, nil
			}
		}
	}
	return nil, badUsage(fmt.Errorf("tenant %s has no server composition %s", f.Tenant, f.Composition))
}

type userListCmd struct{ serverFlags }

func (userListCmd) Help() string { return "Example: ekiden user list" }

// Run prints one line per user.
func (c userListCmd) Run(a *app) error {
	s, _, err := c.settings(a)
	if err != nil {
		return err
	}
	type row struct {
		Name          string   `json:"name"`
		Tenant        string   `json:"tenant"`
		Composition   string   `json:"composition"`
		Role          string   `json:"role"`
		Permissions   []string `json:"permissions"`
		OwnData       bool     `json:"own_data"`
		ViewAddresses bool     `json:"view_addresses"`
		Zone          string   `json:"zone"`
	}
	list, rows := []row{}, [][]string{{"NAME", "TENANT", "COMPOSITION", "ROLE", "PERMISSIONS", "DATA", "ADDRESSES"}}
	for _, t := range s.Tenants {
		for _, k := range t.Compositions {
			for _, u := range k.Users {
				list = append(list, row{u.Name, t.Name, k.Name, u.Role, u.Permissions, u.OwnData, u.SeesAddresses(), u.Zone})
				rows = append(rows, []string{u.Name, t.Name, k.Name, u.Role, strings.Join(u.Permissions, ","),
					map[bool]string{true: "own", false: "all"}[u.OwnData], map[bool]string{true: "shown", false: "hidden"}[u.SeesAddresses()]})
			}
		}
	}
	if a.json {
		return printJSON(a.out, map[string]any{"users": list})
	}
	return table(a.out, rows)
}

type userAddCmd struct {
	serverFlags
	compositionFlags
	Name          string   `arg:"" help:"Name, in the form of a mail address."`
	Role          string   `help:"administrator, or user: may read, not change." enum:"administrator,user" default:"user"`
	Permissions   []string `help:"What the key is for: smtp (AUTH), http (APIs)." default:"smtp,http"`
	OwnData       bool     `help:"Reads only of mail that it handed over itself."`
	ReportMail    bool     `help:"Gets a mail every morning about the day before."`
	HideAddresses bool     `help:"May not read what contains addresses."`
	Zone          string   `help:"Time zone of what it reads and writes, such as Asia/Tokyo." placeholder:"ZONE"`
}

func (userAddCmd) Help() string {
	return "A key has 8 characters or more and mixes letters and digits.\n\nExample: ekiden user add api@shop.example --tenant shop --composition main < key.txt"
}

// Run adds the user to the settings in force.
func (c userAddCmd) Run(a *app) error {
	if address := mail.Address(c.Name); address.Check() != nil || address.IsNull() {
		return badUsage(fmt.Errorf("%q must have the form of a mail address", c.Name))
	}
	hash, err := newKey(a.in)
	if err != nil {
		return err
	}
	u := settings.User{Name: c.Name, SecretHash: hash, Role: c.Role, Permissions: c.Permissions, OwnData: c.OwnData, Zone: c.Zone, ReportMail: c.ReportMail}
	if c.HideAddresses {
		no := false
		u.ViewAddresses = &no
	}
	return c.change(a, fmt.Sprintf("user %s added", c.Name), func(s *settings.Settings) error {
		k, err := c.find(s)
		if err == nil {
			k.Users = append(k.Users, u)
		}
		return err
	})
}

type userKeyCmd struct {
	serverFlags
	Name string `arg:"" help:"API user."`
}

func (userKeyCmd) Help() string {
	return "The old key is of no use from then on.\n\nExample: ekiden user key api@shop.example < key.txt"
}

// Run puts another key in the place of the user's.
func (c userKeyCmd) Run(a *app) error {
	hash, err := newKey(a.in)
	if err != nil {
		return err
	}
	return c.change(a, fmt.Sprintf("user %s has another key", c.Name), func(s *settings.Settings) error {
		return ofUser(s, c.Name, func(k *settings.Composition, i int) { k.Users[i].SecretHash = hash })
	})
}

type userRemoveCmd struct {
	serverFlags
	Name string `arg:"" help:"API user."`
}

func (userRemoveCmd) Help() string { return "Example: ekiden user remove api@shop.example" }

// Run takes the user out of the settings in force.
func (c userRemoveCmd) Run(a *app) error {
	return c.change(a, fmt.Sprintf("user %s removed", c.Name), func(s *settings.Settings) error {
		return ofUser(s, c.Name, func(k *settings.Composition, i int) { k.Users = slices.Delete(k.Users, i, i+1) })
	})
}

// ofUser calls f with the place of a user.
func ofUser(s *settings.Settings, name string, f func(k *settings.Composition, i int)) error {
	for i := range s.Tenants {
		for j := range s.Tenants[i].Compositions {
			k := &s.Tenants[i].Compositions[j]
			if at := slices.IndexFunc(k.Users, func(u settings.User) bool { return u.Name == name }); at >= 0 {
				f(k, at)
				return nil
			}
		}
	}
	return fmt.Errorf("there is no API user %q", name)
}

// newKey reads a key and returns its hash.
func newKey(in io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(in, maxKeyLine)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read the key: %w", err)
	}
	key := strings.TrimRight(line, "\r\n")
	if err := secret.CheckKey(key); err != nil {
		return "", badUsage(fmt.Errorf("standard input: %w", err))
	}
	return secret.Make(key), nil
}

// settings are those in force, and their revision.
func (f serverFlags) settings(a *app) (*settings.Settings, uint64, error) {
	cl, err := f.client()
	if err != nil {
		return nil, 0, err
	}
	r, err := cl.GetSettings(a.ctx, &adminpb.GetSettingsRequest{})
	if err != nil {
		return nil, 0, err
	}
	s, err := settings.Decode([]byte(r.Yaml), nil)
	return s, r.Revision, err
}

// change edits the settings in force, unless somebody else does so at the same time.
func (f serverFlags) change(a *app, done string, edit func(*settings.Settings) error) error {
	s, revision, err := f.settings(a)
	if err != nil {
		return err
	}
	if err := edit(s); err != nil {
		return err
	}
	yaml, err := settings.Encode(s)
	if err != nil {
		return err
	}
	if _, err = settings.Decode(yaml, nil); err != nil {
		return badUsage(err)
	}
	cl, err := f.client()
	if err != nil {
		return err
	}
	r, err := cl.ApplySettings(a.ctx, &adminpb.ApplySettingsRequest{Yaml: string(yaml), Base: &revision})
	if err != nil {
		return applyCmd{File: "settings"}.explain(err, false)
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintf(a.out, "%s; revision %d is in force\n", printable(done), r.Revision)
	return err
}
