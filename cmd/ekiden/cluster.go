package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
)

type clusterCmds struct {
	Members    clusterMembersCmd  `cmd:"" help:"List the members, their queues and who holds copies of them."`
	Drain      clusterDrainCmd    `cmd:"" help:"Let a member take no more mail and hand its queues over."`
	Leave      clusterLeaveCmd    `cmd:"" help:"Remove a member and lock it out."`
	Takeover   clusterTakeoverCmd `cmd:"" help:"Give the queues of a lost member to their standbys."`
	Recover    clusterRecoverCmd  `cmd:"" help:"Form a new cluster from this member's data after the majority is lost for good."`
	Admit      clusterAdmitCmd    `cmd:"" help:"Let a member that was removed, or a new one, join."`
	RotateKeys clusterRotateCmd   `cmd:"" help:"Give all members a new root key."`
	Audit      clusterAuditCmd    `cmd:"" help:"Show who did what, newest first."`
	Init       clusterInitCmd     `cmd:"" help:"Write a CA and a certificate per member."`
}

type clusterMembersCmd struct{ serverFlags }

func (clusterMembersCmd) Help() string { return "Example: ekiden cluster members" }

// Run prints a line per member and one per queue.
func (c clusterMembersCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ListMembers(a.ctx, &adminpb.ListMembersRequest{})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	tellMissing(a, r.Missing)
	rows := [][]string{{"MEMBER", "ADDRESS", "ROLE", "STATE", "ALIVE", "APPLIED", "WAITING", "VERSION"}}
	queues := [][]string{{"QUEUE", "OWNER", "EPOCH", "PHASE", "STANDBYS", "EXPOSED"}}
	for _, m := range r.Members {
		role, state, alive := m.Role, m.State, "yes"
		switch {
		case m.Leader:
			role += ", leader"
		case m.Voter && m.Role != service.RoleMember:
			role += ", voter"
		}
		if state == "" {
			state = "unknown"
		}
		if !m.Alive {
			alive = "no, seen " + moment(m.Seen)
		}
		rows = append(rows, []string{m.Name, m.Address, role, state, alive, strconv.FormatUint(m.Applied, 10), number(m.Waiting), m.Version})
		for _, l := range m.Lineages {
			queues = append(queues, queueRow(l))
		}
	}
	if err := table(a.out, rows); err != nil {
		return err
	}
	if len(queues) > 1 {
		fmt.Fprintln(a.out)
		if err := table(a.out, queues); err != nil {
			return err
		}
	}
	if k, err := cl.GetKeys(a.ctx, &adminpb.GetKeysRequest{}); err == nil && k.Keys.GetNext() != 0 {
		fmt.Fprintf(a.err, "ekiden: warning: version %d of the root key is not in force yet: see ekiden cluster rotate-keys --status\n", k.Keys.Next)
	}
	if !r.Quorum {
		fmt.Fprintln(a.err, "ekiden: warning: no majority of the members can be reached: settings, lists and gates cannot change, and no queue changes hands")
	}
	return nil
}

func queueRow(l *adminpb.Lineage) []string {
	var standbys []string
	for _, s := range l.Standbys {
		words := s.Name
		switch {
		case !s.Acknowledging:
			words += " (silent)"
		case s.Behind > 0:
			words += " (" + strconv.FormatUint(s.Behind, 10) + " behind)"
		}
		standbys = append(standbys, words)
	}
	exposed := strconv.FormatUint(l.Exposed, 10)
	if l.Degraded {
		exposed += ", degraded"
	}
	return []string{l.Id, l.Owner, strconv.FormatUint(l.Epoch, 10), l.Phase, strings.Join(standbys, ", "), exposed}
}

type clusterDrainCmd struct {
	serverFlags
	Node string `arg:"" optional:"" help:"Member; without, the one that is asked."`
	Wait bool   `help:"Return when it owns no queue any more."`
}

func (clusterDrainCmd) Help() string { return "Example: ekiden cluster drain n2 --wait" }

// drainGap is between two looks at a member that hands over.
const drainGap = 500 * time.Millisecond

// Run tells the member to drain, and may wait until it has.
func (c clusterDrainCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.Drain(a.ctx, &adminpb.DrainRequest{Node: c.Node})
	if err != nil {
		return err
	}
	if c.Wait {
		if err := c.wait(a, cl); err != nil {
			return err
		}
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintln(a.out, printable(r.State))
	return err
}

func (c clusterDrainCmd) wait(a *app, cl adminpb.AdminServiceClient) error {
	name := c.Node
	if name == "" {
		st, err := cl.GetStatus(a.ctx, &adminpb.GetStatusRequest{})
		if err != nil {
			return err
		}
		name = st.Name
	}
	for {
		r, err := cl.ListMembers(a.ctx, &adminpb.ListMembersRequest{})
		if err != nil {
			return err
		}
		left := 0
		for _, m := range r.Members {
			if m.Name == name {
				left = len(m.Lineages)
			}
		}
		if left == 0 {
			return nil
		}
		if !wait(a, drainGap) {
			return errors.New("interrupted; the member goes on draining")
		}
	}
}

// forceFlags pass by a lease. Only a person can know that a machine is off.
type forceFlags struct {
	Force    bool `help:"Do not wait for the member: it is powered off. Asks for that statement."`
	YesItsIs bool `name:"yes-it-is-off" help:"Give the statement without being asked."`
}

// statement returns what has to be said with --force, asked of whoever runs the command.
func (f forceFlags) statement(a *app, node string) (string, error) {
	switch {
	case !f.Force:
		return "", nil
	case f.YesItsIs:
		return service.PoweredOff(node), nil
	}
	return typed(a, service.PoweredOff(node), "Two nodes that send the same queue send every mail twice. If this is certain, type")
}

// typed asks for words, letter by letter as they stand there, on standard input.
func typed(a *app, words, why string) (string, error) {
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(a.err, "%s: %s\n> ", why, printable(words))
	}
	s := bufio.NewScanner(io.LimitReader(a.in, maxCodeFile))
	s.Scan()
	if said := strings.Join(strings.Fields(s.Text()), " "); said == words {
		return said, nil
	}
	return "", refused(fmt.Errorf("nothing was done: the statement %q was not typed", words))
}

type clusterTakeoverCmd struct {
	serverFlags
	forceFlags
	Node string `arg:"" help:"Lost member."`
}

func (clusterTakeoverCmd) Help() string {
	return `Example: ekiden cluster takeover n2 --force

Without --force it is done once the lease of the member has ended, and refused while the member renews it.`
}

// Run takes the member's queues over.
func (c clusterTakeoverCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	said, err := c.statement(a, c.Node)
	if err != nil {
		return err
	}
	r, err := cl.Takeover(a.ctx, &adminpb.TakeoverRequest{Node: c.Node, Force: c.Force, Statement: said})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	if len(r.Lineages) == 0 {
		_, err = fmt.Fprintf(a.out, "%s owns no queue\n", printable(c.Node))
		return err
	}
	for _, l := range r.Lineages {
		if _, err := fmt.Fprintf(a.out, "queue %s: %s owns it since epoch %d (%s)\n", l.Id, printable(l.Owner), l.Epoch, l.Phase); err != nil {
			return err
		}
	}
	return nil
}

type clusterLeaveCmd struct {
	serverFlags
	forceFlags
	Node string `arg:"" optional:"" help:"Member; without, the one that is asked."`
}

func (clusterLeaveCmd) Help() string {
	return `Example: ekiden cluster leave n2

Drain it first: a member that still owns a queue is kept, unless --force gives its mail up. It stays locked out until
it is admitted again; rotate the keys afterwards where its disk may be in foreign hands.`
}

// Run removes the member.
func (c clusterLeaveCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if c.Force && c.Node == "" {
		return badUsage(errors.New("--force needs the name of the member"))
	}
	said, err := c.statement(a, c.Node)
	if err != nil {
		return err
	}
	r, err := cl.RemoveMember(a.ctx, &adminpb.RemoveMemberRequest{Node: c.Node, Force: c.Force, Statement: said})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintln(a.out, "removed")
	return err
}
