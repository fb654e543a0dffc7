package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/mail"
)

// probeBatch is how many addresses go in one call: few enough that a slow receiver does not outlast it.
const probeBatch = 50

type probeCmd struct {
	serverFlags
	File string `short:"f" help:"File of addresses, one a line; - for standard input." placeholder:"FILE" required:""`
	From string `help:"Sender to ask as; empty: the null sender." placeholder:"ADDRESS"`

	Source string `help:"Source IP to ask by; empty: one of the default pool that may." placeholder:"IP"`
}

// Help is the example shown with --help.
func (probeCmd) Help() string {
	return `Asks each receiver with MAIL, RCPT and RSET whether it takes the address, never with DATA, within the same limits and suspensions as mail. Prints
address, result (exists, unknown, reject, undetermined) and the receiver's words, separated by tabs.

Example: ekiden probe -f addresses.txt --from check@example.jp`
}

// Run asks for one batch after another.
func (c probeCmd) Run(a *app) error {
	addresses, err := c.addresses(a.in)
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(addresses, probeBatch) {
		r, err := cl.Probe(a.ctx, &adminpb.ProbeRequest{From: c.From, Source: c.Source, Addresses: batch})
		if err != nil {
			return err
		}
		for _, p := range r.Results {
			if a.json {
				err = printJSON(a.out, map[string]string{"address": p.Address, "result": p.Result, "reply": p.Reply})
			} else {
				_, err = fmt.Fprintf(a.out, "%s\t%s\t%s\n", printable(p.Address), p.Result, printable(p.Reply))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// addresses reads the file: blank lines and those that begin with # count for nothing, a duplicate once.
func (c probeCmd) addresses(stdin io.Reader) ([]string, error) {
	in := stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, badUsage(fmt.Errorf("-f: %w", err))
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	var list []string
	seen := map[string]bool{}
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		s := strings.TrimSpace(lines.Text())
		if s == "" || strings.HasPrefix(s, "#") || seen[s] {
			continue
		}
		if mail.Address(s).Check() != nil {
			return nil, badUsage(fmt.Errorf("%s:%d: %q is no address", c.File, n, s))
		}
		seen[s] = true
		list = append(list, s)
	}
	if err := lines.Err(); err != nil {
		return nil, badUsage(fmt.Errorf("%s: %w", c.File, err))
	}
	if len(list) == 0 {
		return nil, badUsage(errors.New("-f holds no addresses"))
	}
	return list, nil
}
