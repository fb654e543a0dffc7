package main

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/node"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

type applyCmd struct {
	serverFlags
	File   string  `short:"f" help:"Settings file." placeholder:"FILE" required:""`
	DryRun bool    `help:"Only print the difference."`
	Base   *uint64 `help:"Refuse unless this revision is in force (settings export --json tells it)." placeholder:"REVISION"`
}

func (applyCmd) Help() string {
	return `Example: ekiden apply -f settings.yaml --dry-run

The file takes the place of all settings on every member: what it does not name is removed. The difference is printed
first; where somebody else changes the settings between that and the change, nothing is changed and the exit code is 1.`
}

// Run prints what changes, then changes it.
func (c applyCmd) Run(a *app) error {
	yaml, raw, err := settingsToApply(c.File)
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ApplySettings(a.ctx, &adminpb.ApplySettingsRequest{Yaml: yaml, DryRun: true, Base: c.Base})
	if err != nil {
		return c.explain(err, raw)
	}
	if !a.json {
		for _, line := range lines(r.Difference) {
			if line != "" {
				fmt.Fprintln(a.out, printable(line))
			}
		}
	}
	changes := len(r.Changes) > 0
	if changes && !c.DryRun {
		// The difference that was shown is the one that is made.
		base := r.Revision
		r, err = cl.ApplySettings(a.ctx, &adminpb.ApplySettingsRequest{Yaml: yaml, Base: &base})
		if err != nil {
			return c.explain(err, raw)
		}
	}
	switch {
	case a.json:
		return printProto(a.out, r)
	case !changes:
		_, err = fmt.Fprintf(a.out, "nothing to change; revision %d is in force\n", r.Revision)
	case c.DryRun:
		_, err = fmt.Fprintf(a.out, "not applied; revision %d is in force\n", r.Revision)
	default:
		_, err = fmt.Fprintf(a.out, "applied as revision %d\n", r.Revision)
	}
	return err
}

// settingsToApply checks a settings file as "ekiden check" does, and returns what to send: the file as it is (raw), or
// with its rules file written into it.
func settingsToApply(path string) (yaml string, raw bool, err error) {
	s, src, problems, err := readSettings(path)
	switch {
	case err != nil:
		return "", false, badUsage(err)
	case len(problems) > 0:
		return "", false, badUsage(&node.ConfigError{Problems: problems})
	case s.Receivers.File == "":
		return string(src), true, nil
	}
	src, err = settings.Encode(s)
	return string(src), false, err
}

// explain puts the node's complaints beside the lines of the file: it may be stricter than this version. The lines of a
// file that was sent as it is (raw) are those of the file.
func (c applyCmd) explain(err error, raw bool) error {
	var call *connect.Error
	if !errors.As(err, &call) {
		return err
	}
	if call.Code() == connect.CodeAborted {
		return fmt.Errorf("nothing was changed: %s; export the settings, put your change into them, and apply them again", call.Message())
	}
	for _, d := range call.Details() {
		value, broken := d.Value()
		list, ok := value.(*adminpb.SettingsProblems)
		if broken != nil || !ok {
			continue
		}
		bad := &node.ConfigError{}
		for _, p := range list.Problems {
			one := node.Problem{File: c.File, Key: p.Key, Text: p.Text}
			if raw {
				one.Line = int(p.Line)
			}
			bad.Problems = append(bad.Problems, one)
		}
		return badUsage(bad)
	}
	return err
}
