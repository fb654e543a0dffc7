package faults

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Config is one series of faults.
type Config struct {
	Engine      string        // binary; "" = the ekiden beside Self
	Self        string        // ekiden-bench, for the sink and the slow clients; "" = this program
	Dir         string        // in which a directory for the data is made, and removed; "" = the system's for such things
	Seed        uint64        // of every schedule; 0 = from the time
	Runs        int           // kill: runs; power: images
	Messages    int           // 0 = as the fault has it
	Connections int           // slow: clients
	Hold        time.Duration // slow: how long they stay
	Late        time.Duration // dot: how late the late answer is
	Hang        bool          // dot: also a receiver that never answers, which takes the engine's 600 s
	Progress    io.Writer     // what is being done; nil = silent
}

// ErrMissing is reported where the machine lacks what a fault needs: loop devices, the right to mount, a tool.
var ErrMissing = errors.New("this machine cannot play this fault")

// maxBroken is how many broken promises a report spells out.
const maxBroken = 20

// Report is what a fault came to.
type Report struct {
	Line   string   `json:"line"`             // the summary
	Broken []string `json:"broken,omitempty"` // promises that did not hold; none = passed
}

// broke notes a promise that did not hold.
func (r *Report) broke(format string, args ...any) {
	if len(r.Broken) < maxBroken {
		r.Broken = append(r.Broken, fmt.Sprintf(format, args...))
	}
}

// OK tells whether every promise held.
func (r *Report) OK() bool { return len(r.Broken) == 0 }

// withDefaults fills in what is open and makes the directory; remove takes it away again.
func (c Config) withDefaults() (cfg Config, remove func(), err error) {
	if c.Self == "" {
		if c.Self, err = os.Executable(); err != nil {
			return c, nil, fmt.Errorf("faults: %w", err)
		}
	}
	if c.Engine, err = engine.Find(c.Engine, c.Self); err != nil {
		return c, nil, fmt.Errorf("faults: no engine: %w", err)
	}
	if c.Seed == 0 {
		c.Seed = uint64(clock.Wall().UnixNano()) % 1e9
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if c.Dir != "" {
		if err = os.MkdirAll(c.Dir, 0o700); err != nil {
			return c, nil, fmt.Errorf("faults: %w", err)
		}
	}
	if c.Dir, err = os.MkdirTemp(c.Dir, "ekiden-faults-"); err != nil {
		return c, nil, fmt.Errorf("faults: %w", err)
	}
	dir := c.Dir
	return c, func() { _ = os.RemoveAll(dir) }, nil
}

func (c Config) say(format string, args ...any) { fmt.Fprintf(c.Progress, format+"\n", args...) }

// dice returns the random numbers of one run; run n is the same whatever ran before it.
func (c Config) dice(n int) *rand.Rand { return rand.New(rand.NewPCG(c.Seed, uint64(n))) }

func or(n, standard int) int {
	if n <= 0 {
		return standard
	}
	return n
}

// receiverConnections is what the engine may hold at the sink: the largest bound on copies there can be.
const receiverConnections = 64

// settings let loopback relay, try again soon, and hold many connections to a receiver that bears everything. Each of
// crowds is an address with a server composition, and so a hundred sessions (requirement R8), of its own.
func settings(crowds ...string) string {
	const composition = `
      - name: %s
        networks: ["%s"]
        retry: {interval: 1s, lifetime: 2h}`
	var b strings.Builder
	b.WriteString("tenants:\n  - name: default\n    compositions:")
	network := "127.0.0.0/8"
	if len(crowds) > 0 {
		network = "127.0.0.1/32"
	}
	fmt.Fprintf(&b, composition, "default", network)
	for i, addr := range crowds {
		fmt.Fprintf(&b, composition, "crowd"+strconv.Itoa(i), addr+"/32")
	}
	fmt.Fprintf(&b, `
receivers:
  - {name: bench, domains: ["*"], connections: %d, per_connection: -1, rate: -1, connection_rate: -1, tls: opportunistic, block_pause: 1s}
`, receiverConnections)
	return b.String()
}

// median returns the middle and the largest of ds in milliseconds, 0 for none.
func median(ds []time.Duration) (middle, largest int64) {
	if len(ds) == 0 {
		return 0, 0
	}
	ds = slices.Sorted(slices.Values(ds))
	return ds[len(ds)/2].Milliseconds(), ds[len(ds)-1].Milliseconds()
}

// copyFile copies the first n octets of from behind what to holds; n < 0 = all.
func copyFile(to, from string, n int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	var r io.Reader = in
	if n >= 0 {
		r = io.LimitReader(in, n)
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Close())
}

// notes makes a directory for what is written down meanwhile, in memory where the machine has it, so that it does not
// disturb the disk that is hurt.
func notes(dir string) (string, func(), error) {
	if d, err := os.MkdirTemp("/dev/shm", "ekiden-faults-"); err == nil {
		return d, func() { _ = os.RemoveAll(d) }, nil
	}
	d := filepath.Join(dir, "notes")
	return d, func() {}, os.MkdirAll(d, 0o700)
}

// first returns the first n lines of text, for the words of a report.
func first(text string, n int) string {
	lines := strings.SplitN(strings.TrimSpace(text), "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], " | ")
}
