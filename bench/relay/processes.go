package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/bench/process"
	"github.com/ekiden-mta/ekiden/bench/sink"
)

const (
	poll       = 50 * time.Millisecond // between looks at a counter
	listenWait = 10 * time.Second      // for a peer to start
)

// sinkProcess is `ekiden-bench sink` as a child.
type sinkProcess struct {
	*process.Process
	addr    string
	metrics string
	record  string
}

func (c Config) startSink(ctx context.Context, addr, record string) (*sinkProcess, error) {
	args := []string{"sink", "--listen", addr, "--metrics", "127.0.0.1:0", "--record", record}
	if c.TLS {
		args = append(args, "--starttls")
	}
	p, err := process.Start("sink", c.Self, args, os.Stderr)
	if err != nil {
		return nil, err
	}
	line, err := p.Line(ctx, "sink ready ", 10*time.Second)
	if err != nil {
		p.Kill()
		return nil, err
	}
	words := process.Words(line)
	return &sinkProcess{Process: p, addr: words["smtp"], metrics: words["metrics"], record: record}, nil
}

// counters asks the sink.
func (s *sinkProcess) counters(ctx context.Context) (sink.Counters, error) {
	var c sink.Counters
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.metrics+"/counters", nil)
	if err != nil {
		return c, fmt.Errorf("relay: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, fmt.Errorf("relay: ask sink: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		return c, fmt.Errorf("relay: ask sink: %w", err)
	}
	return c, nil
}

// listens waits until something accepts connections at addr, for wait at most.
func listens(ctx context.Context, addr string, wait time.Duration) error {
	n, err := await(ctx, 1, wait, func() (int64, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return 0, nil // not yet
		}
		return 1, c.Close()
	}, func() {})
	if err == nil && n == 0 {
		err = fmt.Errorf("relay: nothing listens at %s", addr)
	}
	return err
}

// await waits until count reaches want, or stands still for quiet. look is called at every poll.
func await(ctx context.Context, want int64, quiet time.Duration, count func() (int64, error), look func()) (int64, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	still := time.NewTimer(quiet)
	defer still.Stop()
	for last := int64(-1); ; {
		n, err := count()
		if err != nil || n >= want {
			return n, err
		}
		if n != last {
			last = n
			still.Reset(quiet)
		}
		look()
		select {
		case <-tick.C:
		case <-still.C:
			return n, nil
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// arrived waits until the sink took want deliveries, or took none for quiet.
func (s *sinkProcess) arrived(ctx context.Context, want int64, quiet time.Duration, look func()) (int64, error) {
	return await(ctx, want, quiet, func() (int64, error) {
		c, err := s.counters(ctx)
		return c.Deliveries, err
	}, look)
}

// settled waits for want deliveries and then for those that should not come.
func (s *sinkProcess) settled(ctx context.Context, want int64, quiet time.Duration, look func()) error {
	n, err := s.arrived(ctx, want, quiet, look)
	if err == nil && n >= want {
		_, err = s.arrived(ctx, want*2+1, 6*poll, look)
	}
	return err
}

// loadRun is one run of `ekiden-bench load` as a child.
type loadRun struct {
	load.Result
	cpu time.Duration
}

// startLoad starts a load that sends messages to target and keeps a ledger; more are further arguments of its.
func (c Config) startLoad(target, ledger string, messages int, more ...string) (*process.Process, error) {
	args := []string{"load", "--json", "--target", target, "--ledger", ledger,
		"--messages", strconv.Itoa(messages), "--sessions", strconv.Itoa(c.Sessions), "--size", strconv.Itoa(c.Size),
		"--domains", strconv.Itoa(c.Domains), "--recipients", strconv.Itoa(c.Recipients),
		"--per-connection", strconv.Itoa(c.PerConnection)}
	if c.Rate > 0 {
		args = append(args, "--rate", strconv.FormatFloat(c.Rate, 'f', -1, 64))
	}
	if c.Pipeline {
		args = append(args, "--pipeline")
	}
	if c.TLS {
		args = append(args, "--tls")
	}
	return process.Start("load", c.Self, append(args, more...), os.Stderr)
}

// finish waits for a load and reads its result.
func finish(ctx context.Context, p *process.Process) (loadRun, error) {
	var r loadRun
	werr := p.Wait(ctx)
	if ctx.Err() != nil {
		p.Kill()
		return r, werr
	}
	r.cpu = p.Used()
	for _, line := range p.Rest() {
		if strings.HasPrefix(line, "{") {
			if err := json.Unmarshal([]byte(line), &r.Result); err != nil {
				return r, fmt.Errorf("relay: load's result: %w", err)
			}
		}
	}
	return r, werr
}
