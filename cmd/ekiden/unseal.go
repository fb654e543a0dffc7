package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
)

type unsealCmd struct {
	serverFlags
	CodeFile string `help:"Read the recovery code from this file instead of standard input." placeholder:"FILE"`
}

func (unsealCmd) Help() string { return "Example: ekiden unseal --code-file code.txt" }

// maxCodeFile bounds what is read of a code, in octets.
const maxCodeFile = 4096

// Run sends the recovery code. The code is never an argument: other users of the machine could read it there.
func (c unsealCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	code, err := c.code(a)
	if err != nil {
		return err
	}
	r, err := cl.Unseal(a.ctx, &adminpb.UnsealRequest{Code: code})
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.out, map[string]string{"state": r.State})
	}
	line := r.State
	// How much waits is good to know, but no reason to call the unsealing failed.
	if n, err := cl.GetCounters(a.ctx, &adminpb.GetCountersRequest{}); err == nil && len(n.Buckets) > 0 {
		line += "; " + number(n.Buckets[0].Counters.GetUndelivered()) + " deliveries waiting"
	}
	_, err = fmt.Fprintln(a.out, line)
	return err
}

func (c unsealCmd) code(a *app) (string, error) {
	var in io.Reader = a.in
	if c.CodeFile != "" {
		f, err := os.Open(c.CodeFile)
		if err != nil {
			return "", badUsage(fmt.Errorf("--code-file: %w", err))
		}
		defer f.Close()
		in = f
	} else if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(a.err, "recovery code: ")
		raw, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.err)
		if err != nil {
			return "", fmt.Errorf("read code: %w", err)
		}
		return strings.TrimSpace(string(raw)), nil
	}
	s := bufio.NewScanner(io.LimitReader(in, maxCodeFile))
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		// The line that the first start printed may be stored as it was.
		if _, after, found := strings.Cut(line, "recovery code:"); found {
			line = strings.TrimSpace(after)
		}
		if line != "" {
			return line, nil
		}
	}
	if err := s.Err(); err != nil {
		return "", fmt.Errorf("read code: %w", err)
	}
	return "", badUsage(errors.New("no recovery code on standard input"))
}
