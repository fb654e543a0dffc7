package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/node"
)

type clusterAdmitCmd struct {
	serverFlags
	Node string `arg:"" help:"Member, as in its certificate."`
}

func (clusterAdmitCmd) Help() string { return "Example: ekiden cluster admit n4" }

// Run lets the member join.
func (c clusterAdmitCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.AdmitMember(a.ctx, &adminpb.AdmitMemberRequest{Node: c.Node})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = fmt.Fprintf(a.out, "%s may join\n", printable(c.Node))
	return err
}

type clusterRotateCmd struct {
	serverFlags
	Status bool `help:"Only show which version is in use, and how far each member is."`
}

func (clusterRotateCmd) Help() string {
	return `Example: ekiden cluster rotate-keys

Prints the new recovery code, this once, as soon as the node that is asked holds the new key, then waits up to 15 s for the members that
are here. They take the key by themselves; it is in force when all hold it, and the former code opens nothing any more then. A member
that is down is waited for: start it, or lock it out with "cluster leave". Who lost the code runs it again when the rotation is through.`
}

// Run rotates, or shows which version is in use.
func (c clusterRotateCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if c.Status {
		r, err := cl.GetKeys(a.ctx, &adminpb.GetKeysRequest{})
		if err != nil {
			return err
		}
		if a.json {
			return printProto(a.out, r.Keys)
		}
		return printKeys(a, r.Keys)
	}
	r, err := cl.RotateKeys(a.ctx, &adminpb.RotateKeysRequest{})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	// At once: the node has the new key already, and nothing else knows the code.
	if _, err := fmt.Fprintf(a.out, "recovery code: %s\n", printable(r.RecoveryCode)); err != nil {
		return err
	}
	k := settledKeys(a, cl, r.Keys)
	former := "opens nothing any more"
	if k.GetNext() != 0 {
		former = "opens only members that are still to take the new key"
	}
	if _, err := fmt.Fprintf(a.out, "keep it: the former one %s\n", former); err != nil {
		return err
	}
	return printKeys(a, k)
}

// How long, and how often, it is asked whether the members that are here are through with a rotation.
const (
	settleWait  = 15 * time.Second
	settleEvery = 200 * time.Millisecond
)

// settledKeys waits until the members that are here are through with a rotation, or as long as a person may be kept waiting, and
// returns how far it is then. The rotation goes on by itself, so an answer that does not come is no error.
func settledKeys(a *app, cl adminpb.AdminServiceClient, k *adminpb.Keys) *adminpb.Keys {
	ctx, cancel := context.WithTimeout(a.ctx, settleWait)
	defer cancel()
	look := time.NewTicker(settleEvery)
	defer look.Stop()
	for !keysSettled(k) {
		select {
		case <-ctx.Done():
			return k
		case <-look.C:
		}
		r, err := cl.GetKeys(ctx, &adminpb.GetKeysRequest{})
		if err != nil {
			fmt.Fprintln(a.err, "ekiden: warning: how far the rotation is cannot be told; it goes on by itself: see ekiden cluster rotate-keys --status")
			return k
		}
		k = r.Keys
	}
	return k
}

// keysSettled tells whether no member that is here is still to do its part: the key is in force, or waits for others.
func keysSettled(k *adminpb.Keys) bool {
	for _, h := range k.GetMembers() {
		if h.Alive && (!h.Holds || k.Next == 0 && !h.Wrapped) {
			return false
		}
	}
	return k.GetNext() == 0 || len(k.Waiting) > 0
}

func printKeys(a *app, k *adminpb.Keys) error {
	if k.GetNext() == 0 {
		fmt.Fprintf(a.out, "version %d is in use\n", k.GetVersion())
	} else {
		fmt.Fprintf(a.out, "version %d is in use until every member holds version %d\n", k.Version, k.Next)
	}
	reasons := map[string]*adminpb.Absent{}
	for _, w := range k.GetWaiting() {
		reasons[w.Name] = w
	}
	rows := [][]string{{"MEMBER", "HERE", "ROOT KEY"}}
	behind := k.GetNext() != 0
	for _, h := range k.GetMembers() {
		rows = append(rows, keyRow(k, h, reasons[h.Name]))
		behind = behind || !h.Wrapped
	}
	if !behind || len(rows) == 1 {
		return nil
	}
	return table(a.out, rows)
}

// keyRow tells how far a member is with a rotation, and what to do about one that is gone.
func keyRow(k *adminpb.Keys, h *adminpb.KeyHolder, gone *adminpb.Absent) []string {
	row := []string{h.Name, "yes", fmt.Sprintf("holds version %d", max(k.Version, k.Next))}
	if !h.Alive {
		row[1] = "no"
		if gone.GetMissingFor() != nil {
			row[1] += ", since " + gone.MissingFor.AsDuration().Round(1e9).String()
		}
	}
	switch {
	case k.Next != 0 && !h.Holds && h.Alive:
		row[2] = fmt.Sprintf("takes version %d", k.Next)
	case k.Next != 0 && !h.Holds:
		row[2] = "waited for: " + gone.GetReason()
	case k.Next == 0 && !h.Wrapped && h.Alive:
		row[2] += ", wraps its data keys anew"
	case k.Next == 0 && !h.Wrapped:
		row[2] += ", and is still to wrap its data keys anew: start it"
	}
	return row
}

type clusterAuditCmd struct {
	serverFlags
	Limit int32 `help:"Entries at most." default:"100" placeholder:"N"`
}

func (clusterAuditCmd) Help() string { return "Example: ekiden cluster audit --limit 20" }

// Run prints who did what.
func (c clusterAuditCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ListAudit(a.ctx, &adminpb.ListAuditRequest{Limit: c.Limit})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	rows := [][]string{{"NO", "TIME", "AUTHOR", "NODE", "ACTION", "SUBJECT", "DETAIL"}}
	for _, e := range r.Entries {
		rows = append(rows, []string{strconv.FormatUint(e.Sequence, 10), moment(e.At), e.Author, e.Node, e.Action, short(e.Subject), short(e.Detail)})
	}
	return table(a.out, rows)
}

// short cuts what would make a table unreadable; --json has it whole.
func short(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

type clusterRecoverCmd struct {
	Config   string `short:"c" help:"Node file of this member." placeholder:"FILE" env:"EKIDEN_CONFIG"`
	Data     string `help:"Data directory, where there is no node file." placeholder:"DIR"`
	CodeFile string `help:"File with the recovery code, where no provider opens the keys." placeholder:"FILE" type:"existingfile"`
	Yes      bool   `name:"yes-the-others-are-gone" help:"Give the statement without being asked."`
}

func (clusterRecoverCmd) Help() string {
	return `Example: ekiden cluster recover -c node.yaml

Works on the data directory of a member that is stopped. The cluster of this member alone goes on with what this member
knows; whatever the others agreed on without it is lost, and their data directories must never start again.`
}

// othersGone is the statement that recovery needs.
const othersGone = "the other members are gone for good"

// Run rewrites who agrees, after the statement was given.
func (c clusterRecoverCmd) Run(a *app) error {
	cfg := node.DefaultConfig()
	if c.Config != "" {
		var err error
		if cfg, err = node.ReadConfig(c.Config); err != nil {
			return badUsage(err)
		}
	}
	cfg = cfg.Override(node.Overrides{Data: c.Data})
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Cluster.Address == "" {
		return badUsage(errors.New("the node file has no cluster section: there is nothing to recover"))
	}
	err := node.Recover(a.ctx, cfg, node.Recovery{
		Code: func() (string, error) {
			if c.CodeFile == "" {
				return "", errors.New("no provider opens the keys: give the recovery code with --code-file")
			}
			raw, err := os.ReadFile(c.CodeFile)
			return string(raw), err
		},
		Confirm: func(has cluster.Remains) error {
			fmt.Fprintf(a.out, "this member: last entry %d of term %d, applied %d, snapshot %d; members %s\n", has.Last, has.Term,
				has.Applied, has.Snapshot, strings.Join(names(has.Members), ", "))
			fmt.Fprintln(a.out, "go on from the member with the highest last entry, on that one only")
			if c.Yes {
				return nil
			}
			_, err := typed(a, othersGone, "What the others agreed on without this member is lost. If they can never start again, type")
			return err
		},
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, "recovered: start this member; it takes over the queues it has copies of, and new members join it")
	return err
}

func names(members []cluster.Peer) []string {
	out := make([]string, len(members))
	for i, m := range members {
		out[i] = m.Name
	}
	return out
}

// tellMissing warns that an answer lacks what some members know.
func tellMissing(a *app, missing []*adminpb.Absent) {
	for _, m := range missing {
		fmt.Fprintf(a.err, "ekiden: warning: the answer is not complete: no answer from %s\n", printable(absentWords(m)))
	}
}

func absentWords(m *adminpb.Absent) string {
	words := m.Name
	switch {
	case m.MissingFor != nil:
		words += ", last heard of " + m.MissingFor.AsDuration().Round(1e9).String() + " ago"
	case m.Reason != "":
		words += ", never heard of"
	}
	if m.Reason != "" {
		words += ": " + m.Reason
	}
	return words
}

// absentNames are the names of the members that did not answer, for programs.
func absentNames(missing []*adminpb.Absent) []string {
	names := make([]string, len(missing))
	for i, m := range missing {
		names[i] = m.Name
	}
	return names
}
