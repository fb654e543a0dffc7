package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/mail"
)

type traceCmd struct {
	serverFlags
	What  string `arg:"" name:"id|address" help:"Message id (24 hexadecimal digits) or recipient address."`
	Limit int32  `help:"Events at most; the newest are kept." default:"200" placeholder:"N"`
}

func (traceCmd) Help() string { return "Example: ekiden trace someone@example.jp" }

// Run prints the life of a message and what it waits for.
func (c traceCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	req := &adminpb.TraceRequest{Limit: c.Limit}
	if strings.Contains(c.What, "@") {
		req.Address = c.What
	} else if _, err := mail.ParseMessageID(c.What); err == nil {
		req.Message = c.What
	} else {
		return badUsage(errors.New("trace needs a message id (24 hexadecimal digits) or an address"))
	}
	r, err := cl.Trace(a.ctx, req)
	if err != nil {
		return err
	}
	tellMissing(a, r.Missing)
	unknown := len(r.Events) == 0 && len(r.Waiting) == 0
	if a.json {
		if err := printProto(a.out, r); err != nil || !unknown {
			return err
		}
		return errSilent
	}
	if unknown {
		return fmt.Errorf("nothing is known about %s", c.What)
	}
	rows := [][]string{{"TIME", "STATUS", "MESSAGE", "TO", "TRY", "RECEIVER", "STAGE", "WHAT"}}
	for _, e := range r.Events {
		rows = append(rows, []string{moment(e.At), e.Status, e.Message, e.To, strconv.Itoa(int(e.Attempt)), e.Receiver, e.Stage, happened(e)})
	}
	if err := table(a.out, rows); err != nil {
		return err
	}
	for _, w := range r.Waiting {
		fmt.Fprintf(a.out, "\n%s to %s waits: %s\n", w.Message, printable(w.To), printable(waitingWords(w)))
		fmt.Fprintf(a.out, "  %s so far", plural(int64(w.Attempts), "try", "tries"))
		if w.Due != nil {
			fmt.Fprintf(a.out, ", due %s", moment(w.Due))
		}
		if w.Expires != nil {
			fmt.Fprintf(a.out, ", expires %s", moment(w.Expires))
		}
		fmt.Fprintln(a.out)
	}
	return nil
}

// plural is a number of things.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// happened says in one cell what an event tells beyond its status.
func happened(e *adminpb.Event) string {
	var parts []string
	if e.Status == "queued" {
		parts = append(parts, fmt.Sprintf("%d octets from %s", e.Size, e.From))
		if e.Client != "" {
			parts = append(parts, "by "+e.Client)
		}
		if e.Due != nil {
			parts = append(parts, "reserved for "+moment(e.Due))
		}
	}
	if e.Code != 0 {
		parts = append(parts, detailOf(e))
	} else if e.Detail != "" {
		parts = append(parts, e.Detail)
	}
	if e.Mx != "" {
		at := "at " + e.Mx
		if e.Remote != "" {
			at += " (" + e.Remote + ")"
		}
		if e.Source != "" {
			at += " from " + e.Source
		}
		parts = append(parts, at)
	}
	if e.InDoubt {
		parts = append(parts, "in doubt: the receiver may hold a copy")
	}
	if e.Next != nil {
		parts = append(parts, "next try "+moment(e.Next))
	}
	return strings.Join(parts, ", ")
}

// detailOf is the peer's reply, or our words where there was none (requirement R68, detail).
func detailOf(e *adminpb.Event) string {
	switch e.Status {
	case "lookup":
		return strings.TrimSpace(e.Reply + " " + e.Detail)
	case "connection":
		return strings.TrimSpace(fmt.Sprintf("%d succeeded, %d deferred, %d failed; %s %s", e.Served.GetSucceeded(), e.Served.GetDeferred(),
			e.Served.GetFailed(), e.Detail, greetingOf(e)))
	}
	if e.Code == 0 {
		return e.Detail
	}
	s := strconv.Itoa(int(e.Code))
	if e.Enhanced != "" {
		s += " " + e.Enhanced
	}
	if e.Reply != "" {
		s += " " + e.Reply
	}
	return s
}

// greetingOf is the greeting of a connection's host.
func greetingOf(e *adminpb.Event) string {
	if e.Code == 0 {
		return ""
	}
	return strconv.Itoa(int(e.Code)) + " " + e.Reply
}

func waitingWords(w *adminpb.Waiting) string {
	s := strings.ReplaceAll(w.Binding, "_", " ")
	if w.Detail != "" {
		s += ": " + w.Detail
	}
	if w.Until != nil {
		return s + ", until " + moment(w.Until)
	}
	return s
}
