package main

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
)

// subjectFlags name whom a suspension concerns. A tenant or a group beside another flag narrows it.
type subjectFlags struct {
	Domain   string `help:"Destination domain." placeholder:"DOMAIN" xor:"subject"`
	Receiver string `help:"Receiver, as the log and the metrics call it." placeholder:"NAME" xor:"subject"`
	Source   string `help:"Source IP address." placeholder:"IP" xor:"subject"`
	Tenant   string `help:"Tenant; beside another flag: only its mail." placeholder:"NAME"`
	Group    string `help:"Delivery group; beside another flag: only its mail." placeholder:"GROUP"`
}

func (f subjectFlags) subject() (*adminpb.Subject, error) {
	switch {
	case f.Domain != "":
		return &adminpb.Subject{Kind: &adminpb.Subject_Domain{Domain: f.Domain}, OfTenant: f.Tenant, OfGroup: f.Group}, nil
	case f.Receiver != "":
		return &adminpb.Subject{Kind: &adminpb.Subject_Receiver{Receiver: f.Receiver}, OfTenant: f.Tenant, OfGroup: f.Group}, nil
	case f.Source != "":
		return &adminpb.Subject{Kind: &adminpb.Subject_Source{Source: f.Source}, OfTenant: f.Tenant, OfGroup: f.Group}, nil
	case f.Group != "":
		return &adminpb.Subject{Kind: &adminpb.Subject_Group{Group: f.Group}, OfTenant: f.Tenant}, nil
	case f.Tenant != "":
		return &adminpb.Subject{Kind: &adminpb.Subject_Tenant{Tenant: f.Tenant}}, nil
	}
	return nil, badUsage(errors.New("one of --domain, --receiver, --source, --tenant, --group is needed"))
}

type suspendCmd struct {
	serverFlags
	subjectFlags
	For    *time.Duration `help:"End it by itself after this time; without, it lasts until it is lifted." placeholder:"1h"`
	Reason string         `help:"Why; shown to whoever asks what a mail waits for." placeholder:"TEXT"`
	List   bool           `help:"List what is suspended, by whom or by which rule, and what receivers block."`
}

func (suspendCmd) Help() string {
	return "Example: ekiden suspend --domain example.jp --for 1h --reason \"their MX is down\""
}

// Run suspends, or lists what is suspended.
func (c suspendCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if c.List {
		r, err := cl.ListSuspensions(a.ctx, &adminpb.ListSuspensionsRequest{})
		if err != nil {
			return err
		}
		if a.json {
			return printProto(a.out, r)
		}
		tellMissing(a, r.Missing)
		rows := [][]string{{"KIND", "SUBJECT", "SINCE", "UNTIL", "NODE", "AUTHOR", "REASON"}}
		for _, s := range r.Suspensions {
			kind, name := subjectWords(s.Subject)
			until := "lifted"
			if s.Until != nil {
				until = moment(s.Until)
			}
			rows = append(rows, []string{kind, name, moment(s.Since), until, s.Node, s.Author, s.Reason})
		}
		return table(a.out, rows)
	}
	subject, err := c.subject()
	if err != nil {
		return err
	}
	req := &adminpb.SuspendRequest{Subject: subject, Reason: c.Reason}
	if c.For != nil {
		if *c.For <= 0 {
			return errNoTime
		}
		req.For = durationpb.New(*c.For)
	}
	r, err := cl.Suspend(a.ctx, req)
	if err != nil {
		return err
	}
	tellMissing(a, r.Missing)
	if a.json {
		return printProto(a.out, r.Suspension)
	}
	kind, name := subjectWords(r.Suspension.Subject)
	until := "until it is lifted"
	if r.Suspension.Until != nil {
		until = "until " + moment(r.Suspension.Until)
	}
	_, err = fmt.Fprintf(a.out, "%s %s suspended %s\n", kind, printable(name), until)
	return err
}

type unsuspendCmd struct {
	serverFlags
	subjectFlags
	Rule string `help:"A suspension that a rule put in force, or a block, as the list names it." placeholder:"ID" xor:"subject"`
}

func (unsuspendCmd) Help() string { return "Example: ekiden unsuspend --domain example.jp" }

// Run lifts a suspension.
func (c unsuspendCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	subject := &adminpb.Subject{Kind: &adminpb.Subject_Rule{Rule: c.Rule}}
	if c.Rule == "" {
		if subject, err = c.subject(); err != nil {
			return err
		}
	}
	r, err := cl.Unsuspend(a.ctx, &adminpb.UnsuspendRequest{Subject: subject})
	if err != nil {
		return err
	}
	tellMissing(a, r.Missing)
	kind, name := subjectWords(subject)
	if a.json {
		return printJSON(a.out, map[string]string{"kind": kind, "subject": name, "state": "open"})
	}
	_, err = fmt.Fprintf(a.out, "%s %s no longer suspended\n", kind, printable(name))
	return err
}

func subjectWords(s *adminpb.Subject) (kind, name string) {
	switch k := s.GetKind().(type) {
	case *adminpb.Subject_Domain:
		kind, name = "domain", k.Domain
	case *adminpb.Subject_Receiver:
		kind, name = "receiver", k.Receiver
	case *adminpb.Subject_Source:
		kind, name = "source", k.Source
	case *adminpb.Subject_Tenant:
		kind, name = "tenant", k.Tenant
	case *adminpb.Subject_Group:
		kind, name = "group", k.Group
	case *adminpb.Subject_Rule:
		kind, name = "rule", k.Rule
	}
	if t := s.GetOfTenant(); t != "" {
		name += " tenant=" + t
	}
	if g := s.GetOfGroup(); g != "" {
		name += " group=" + g
	}
	return kind, name
}
