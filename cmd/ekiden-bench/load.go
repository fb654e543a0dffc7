package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/load"
)

type loadCommand struct {
	Target        string        `help:"Relay to send to." required:"" placeholder:"ADDR"`
	Messages      int           `help:"Messages to get accepted." required:"" placeholder:"N"`
	Sessions      int           `help:"Connections at once." default:"1"`
	Size          int           `help:"Octets of a message." default:"1024"`
	Domains       int           `help:"Recipients spread over d0.example to dN-1.example." default:"1"`
	DomainFile    string        `help:"Take recipient domains from this file instead, one per line." type:"existingfile" placeholder:"FILE"`
	Local         []string      `help:"Begin of recipients' local parts, used in turn." default:"u"`
	Recipients    int           `help:"Recipients per message." default:"1"`
	Rate          float64       `help:"Messages per second over all sessions, 0: as fast as answered." default:"0"`
	PerConnection int           `help:"Messages per connection, 0: connections are kept." default:"0"`
	Pipeline      bool          `help:"One round trip per message instead of one per command."`
	TLS           bool          `help:"STARTTLS first." name:"tls"`
	Auth          string        `help:"AUTH PLAIN with these." placeholder:"USER:PASS"`
	From          string        `help:"Sender." default:"bench@load.example"`
	Headers       []string      `help:"Headers to add." placeholder:"K:V" sep:"none"`
	Steering      []string      `help:"Header names the relay removes, beside the standard ones."`
	Ledger        string        `help:"File that takes a line per 250: token, time, SHA-256, Message-ID, time of MAIL, SHA-256 without steering headers, recipients." placeholder:"FILE"`
	Prefix        string        `help:"Begin of every token (default: from the time)."`
	Reconnect     time.Duration `help:"Try again for so long when the relay is gone." default:"0s"`
	Timeout       time.Duration `help:"Longest wait for an answer." default:"5m"`
	JSON          bool          `help:"Print the result as JSON." name:"json"`
}

// Help is the example shown with --help.
func (loadCommand) Help() string {
	return `Example:
  ekiden-bench load --target 127.0.0.1:2525 --messages 10000 --sessions 50 --ledger ledger.txt`
}

func (c *loadCommand) Run(ctx context.Context, io *streams) error {
	cfg := load.Config{
		Target: c.Target, Messages: c.Messages, Sessions: c.Sessions, Size: c.Size, Domains: c.Domains,
		LocalParts: c.Local, Recipients: c.Recipients, Rate: c.Rate, PerConnection: c.PerConnection,
		Pipeline: c.Pipeline, TLS: c.TLS, From: c.From, Steering: c.Steering, Ledger: c.Ledger, Prefix: c.Prefix,
		Reconnect: c.Reconnect, Timeout: c.Timeout,
	}
	cfg.User, cfg.Password, _ = strings.Cut(c.Auth, ":")
	for _, text := range c.Headers {
		h, err := load.ParseHeader(text)
		if err != nil {
			return err
		}
		cfg.Headers = append(cfg.Headers, h)
	}
	if c.DomainFile != "" {
		var err error
		if cfg.DomainList, err = lines(c.DomainFile); err != nil {
			return err
		}
	}
	res, err := load.Run(ctx, cfg)
	if c.JSON {
		if jerr := io.json(res); jerr != nil {
			return jerr
		}
	} else {
		fmt.Fprintf(io.out, "load accepted=%d refused=%d deferred=%d cut=%d reconnects=%d rate=%.0f/s elapsed=%s\n",
			res.Accepted, res.Refused, res.Deferred, res.Cut, res.Reconnects, res.Rate, res.Elapsed.Round(time.Millisecond))
	}
	return err
}

// lines reads the non-empty lines of a file.
func lines(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var out []string
	for sc := bufio.NewScanner(f); ; {
		if !sc.Scan() {
			if len(out) == 0 && sc.Err() == nil {
				return nil, fmt.Errorf("%w: %s holds no domain", load.ErrConfig, path)
			}
			return out, sc.Err()
		}
		if line := strings.TrimSpace(sc.Text()); line != "" {
			out = append(out, line)
		}
	}
}
