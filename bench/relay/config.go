package relay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Config is one run.
type Config struct {
	Messages      int
	Size          int // octets
	Sessions      int
	Domains       int
	Recipients    int
	PerConnection int     // 0 = connections are kept
	Pipeline      bool    // the load pipelines
	Engine        string  // binary; "" = the ekiden beside Self
	Target, Sink  string  // an engine that already runs, and where it delivers to; both or neither
	TLS           bool    // STARTTLS on both sides
	DKIM          bool    // sign with a fresh key
	Tool          string  // "" or postfix: smtp-source and smtp-sink as load and sink
	Connections   int     // the engine may hold at the sink, default 64 as for any relay the operator names
	Backlog       int     // accept this many with receivers down instead
	Drain         bool    // then let the receivers come back
	Restart       bool    // with a kill -9 before
	Compare       string  // "", bare, webhooks or standby: hold two engines against one another, see RunCompared
	Pairs         int     // so often, default 5
	Suppressed    int     // addresses on the block list of the one that has everything on
	Rate          float64 // messages per second of the load, 0 = as fast as answered
	Urgent        int     // and send so many of priority 90 while the backlog goes out
	Self          string  // this program, for load and sink
	Dir           string  // data of the run; "" = a temporary one, removed
	Profile       string  // file for a CPU profile of the engine's first ten seconds; "" = none
	Quiet         time.Duration
	Progress      io.Writer // what is being done, nil = silent
}

// ErrConfig is reported for a run that makes no sense.
var ErrConfig = errors.New("bad benchmark configuration")

func (c Config) withDefaults() (Config, error) {
	c.Messages, c.Size, c.Sessions = orElse(c.Messages, 100000), orElse(c.Size, 1024), orElse(c.Sessions, 100)
	c.Pairs = orElse(c.Pairs, 5)
	c.Domains, c.Recipients, c.Connections = orElse(c.Domains, 1), orElse(c.Recipients, 1), orElse(c.Connections, 64)
	if c.Quiet == 0 {
		c.Quiet = 30 * time.Second
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if c.Self == "" {
		var err error
		if c.Self, err = os.Executable(); err != nil {
			return c, fmt.Errorf("relay: %w", err)
		}
	}
	switch {
	case (c.Target == "") != (c.Sink == ""):
		return c, fmt.Errorf("%w: --target and --sink go together: where an engine listens and where it delivers to", ErrConfig)
	case c.Compare != "" && c.Compare != compareBare && c.Compare != compareWebhooks && c.Compare != compareStandby:
		return c, fmt.Errorf("%w: compare %q: want bare, webhooks or standby", ErrConfig, c.Compare)
	case c.Compare != "" && (c.Target != "" || c.Backlog > 0 || c.Tool != "" || c.DKIM):
		return c, fmt.Errorf("%w: --compare needs two engines of its own, and none of --tool, --dkim, --accept-only", ErrConfig)
	case c.Compare != compareBare && c.Suppressed > 0:
		return c, fmt.Errorf("%w: --suppressed goes with --compare bare", ErrConfig)
	case c.Tool != "" && c.Tool != "postfix":
		return c, fmt.Errorf("%w: tool %q: want postfix", ErrConfig, c.Tool)
	case c.Tool != "" && (c.Domains > 1 || c.Recipients > 1 || c.TLS):
		return c, fmt.Errorf("%w: postfix's smtp-source sends to one recipient in the clear", ErrConfig)
	case c.Backlog > 0 && c.Target != "":
		return c, fmt.Errorf("%w: a backlog needs an engine of its own", ErrConfig)
	case c.Profile != "" && (c.Target != "" || c.Backlog > 0 || c.Compare != ""):
		return c, fmt.Errorf("%w: --profile goes with one engine that is started for the run and relays", ErrConfig)
	case (c.Drain || c.Restart || c.Urgent > 0) && c.Backlog == 0:
		return c, fmt.Errorf("%w: --drain, --restart and --urgent go with --accept-only", ErrConfig)
	}
	return c, nil
}

func orElse(n, standard int) int {
	if n <= 0 {
		return standard
	}
	return n
}

func (c Config) say(format string, args ...any) { fmt.Fprintf(c.Progress, format+"\n", args...) }

// settings are the engine's for a measurement: one receiver that bears everything, so that nothing but the engine is
// measured, and a short pause once it was found dead.
func (c Config) settings() string { return c.settingsWith("") }

// settingsWith is settings with more of the tenant.
func (c Config) settingsWith(tenant string) string {
	dkim := ""
	if c.DKIM {
		dkim = "\n        dkim: [{domain: load.example, selector: bench}]"
	}
	priority := ""
	if c.Urgent > 0 {
		priority = "\n        priority: [{name: urgent, header: X-Urgent, pattern: 'yes', priority: 90}]"
	}
	return fmt.Sprintf(`tenants:
  - name: default%s
    compositions:
      - name: default
        networks: ["127.0.0.0/8"]
        retry: {interval: 1s, lifetime: 2h}%s%s
receivers:
  - {name: bench, domains: ["*"], connections: %d, per_connection: -1, rate: -1, connection_rate: -1, tls: opportunistic, block_pause: 1s}
`, tenant, dkim, priority, c.Connections)
}

// workDir returns where the engine's data goes (a real disk) and where ledgers go (memory, so that writing them down
// does not disturb the disk that is measured), and what removes both.
func (c Config) workDir() (data, notes string, remove func(), err error) {
	if data, err = os.MkdirTemp(c.Dir, "ekiden-bench-"); err != nil {
		return "", "", nil, fmt.Errorf("relay: %w", err)
	}
	notes, err = os.MkdirTemp("/dev/shm", "ekiden-bench-")
	if err != nil {
		notes = data
	}
	return data, notes, func() {
		_ = os.RemoveAll(data)
		_ = os.RemoveAll(notes)
	}, nil
}
