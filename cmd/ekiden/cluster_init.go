package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/ekiden-mta/ekiden/cluster/wire"
)

type clusterInitCmd struct {
	Out  string   `help:"Directory to write to; one that has an authority already gets members added." placeholder:"DIR" required:""`
	Name []string `help:"Member, as node.name in its node file; repeat for each." placeholder:"NAME" required:"" sep:"none"`
}

func (clusterInitCmd) Help() string {
	return `Example: ekiden cluster init --out pki --name n1 --name n2

Each member gets ca.crt and its own two files, never another's key. ca.key makes members: keep it offline. Nothing is
ever overwritten: to renew a member's certificate, move its two files away, run the command again, and send the
member SIGHUP.`
}

// Run makes the certificates. It needs no node.
func (c clusterInitCmd) Run(a *app) error {
	if err := wire.Init(c.Out, c.Name); err != nil {
		if errors.Is(err, wire.ErrExists) || errors.Is(err, wire.ErrNoAuthority) {
			return refused(err)
		}
		return badUsage(err)
	}
	type member struct {
		Name string `json:"name"`
		CA   string `json:"ca"`
		Cert string `json:"cert"`
		Key  string `json:"key"`
	}
	ca := filepath.Join(c.Out, wire.CAFile)
	members := make([]member, len(c.Name))
	for i, name := range c.Name {
		members[i] = member{name, ca, filepath.Join(c.Out, name+".crt"), filepath.Join(c.Out, name+".key")}
	}
	if a.json {
		return printJSON(a.out, map[string]any{"members": members, "authority_key": filepath.Join(c.Out, wire.CAKeyFile)})
	}
	for _, m := range members {
		fmt.Fprintf(a.out, "%s: cluster.tls: {ca: %s, cert: %s, key: %s}\n", m.Name, m.CA, m.Cert, m.Key)
	}
	_, err := fmt.Fprintf(a.out, "keep %s offline: whoever has it can join\n", filepath.Join(c.Out, wire.CAKeyFile))
	return err
}
