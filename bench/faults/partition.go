package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/bench/members"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// The hosts of a divided cluster: three members, then these.
const (
	sinkHost = 3 + iota
	clientHost
	allHosts
)

// What a partition may take (goals of the protocol).
const (
	acceptWithin   = 15 * time.Second // no 250 on the majority's side for at most so long
	partitionRate  = 100              // messages per second at each member, meanwhile
	partitionSlow  = 100 * time.Millisecond
	partitionShort = 20 * time.Second // a cut lasts so long and up to 5 s more: a lease, its margin and a takeover pass
)

// Partition cuts members of a cluster of three off from one another, cfg.Runs times, while all of them reach receivers and
// clients: the case in which two could send the same mail. cfg.Messages wait at the member that is cut off.
func Partition(ctx context.Context, cfg Config) (Report, error) {
	cfg.Runs, cfg.Messages = or(cfg.Runs, 50), or(cfg.Messages, 6000)
	return cfg.divided(ctx, "partition")
}

// divided plays a fault from the client's host of a fresh network, as a child of its own: sockets belong to the namespace
// of who opens them.
func (c Config) divided(ctx context.Context, fault string) (Report, error) {
	c, remove, err := c.withDefaults()
	if err != nil {
		return Report{}, err
	}
	defer remove()
	net, err := newNetwork(ctx, allHosts)
	if err != nil {
		return Report{}, err
	}
	defer net.close()
	args := append(net.within(clientHost), c.Self, "faults", "divided", "--fault", fault, "--network", net.name, "--engine", c.Engine,
		"--dir", c.Dir, "--seed", strconv.FormatUint(c.Seed, 10), "--runs", strconv.Itoa(c.Runs), "--messages", strconv.Itoa(c.Messages))
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, c.Progress
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	err = cmd.Run()
	var r Report
	if decoded := json.Unmarshal(out.Bytes(), &r); decoded != nil {
		return r, fmt.Errorf("faults: %s: %w", fault, errors.Join(err, decoded))
	}
	return r, err
}

// Divided is what runs on the client's host of the network that is called name.
func Divided(ctx context.Context, cfg Config, fault, name string) (Report, error) {
	cfg, remove, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	defer remove()
	net := &network{name: name}
	switch fault {
	case "partition":
		return cfg.partitions(ctx, net)
	case "stop":
		return cfg.stops(ctx, net)
	default:
		return Report{}, fmt.Errorf("faults: no fault %q in a divided network", fault)
	}
}

// parted is what one run came to.
type parted struct {
	kind                               string
	tally                              tally
	bound, takeovers, overlap, crossed int
	silence                            time.Duration // without a 250 on the majority's side
}

func (c Config) partitions(ctx context.Context, net *network) (Report, error) {
	c.say("partition: %d runs from seed %d, backlog %d", c.Runs, c.Seed, c.Messages)
	var r Report
	var accepted, lost, wrong, copies, bound, overlap, takeovers int
	var silences []time.Duration
	for run := range c.Runs {
		k, err := c.partition(ctx, net, run, &r)
		if err != nil {
			return r, fmt.Errorf("partition: run %d of seed %d: %w", run, c.Seed, err)
		}
		t := k.tally
		c.say("partition run=%d kind=%s accepted=%d lost=%d dup=%d bound=%d takeovers=%d crossed=%d overlap=%d silence_ms=%d", run, k.kind,
			t.Accepted, t.Lost+t.Refused, t.copies, k.bound, k.takeovers, k.crossed, k.overlap, k.silence.Milliseconds())
		accepted, lost, wrong = accepted+t.Accepted, lost+t.Lost+t.Refused, wrong+t.Wrong+t.altered
		copies, bound, overlap, takeovers = max(copies, t.copies), max(bound, k.bound), overlap+k.overlap, takeovers+k.takeovers
		silences = append(silences, k.silence)
	}
	_, silence := median(silences)
	r.Line = fmt.Sprintf("faults partition runs=%d messages=%d lost=%d dup_max=%d bound=%d wrong=%d takeovers=%d overlap=%d silence_ms_max=%d seed=%d",
		c.Runs, accepted, lost, copies, bound, wrong, takeovers, overlap, silence, c.Seed)
	return r, nil
}

// schedule is who is cut off how.
type schedule struct {
	kind    string
	victim  int // by index
	ways    []way
	flapped bool // cut and healed in turn each second
	lasts   time.Duration
}

// plan draws run's schedule: the four kinds in turn, the rest by dice.
func plan(run int, rng *rand.Rand, leader int) schedule {
	s := schedule{victim: rng.IntN(3), lasts: partitionShort + time.Duration(rng.IntN(5000))*time.Millisecond}
	out, in := true, true
	switch run % 4 {
	case 0:
		s.kind = "owner"
	case 1:
		s.kind, s.victim = "leader", leader
	case 2:
		out = rng.IntN(2) == 0
		if in = !out; out {
			s.kind = "one-way-out"
		} else {
			s.kind = "one-way-in"
		}
	case 3:
		s.kind, s.flapped = "flapping", true
	}
	for other := range 3 {
		if other != s.victim && out {
			s.ways = append(s.ways, way{s.victim, other})
		}
		if other != s.victim && in {
			s.ways = append(s.ways, way{other, s.victim})
		}
	}
	return s
}

// dividedTrio starts the members on the hosts of net.
func (c Config) dividedTrio(ctx context.Context, net *network, name string, rng *rand.Rand, oneKey bool) (*trio, error) {
	return c.newTrio(ctx, name, rng, func(m *members.Config) {
		m.OneKey = oneKey
		m.Routes = map[string]string{"*": hostAddr(sinkHost) + ":2526"}
		m.Settings = strings.ReplaceAll(m.Settings, "127.0.0.0/8", "10.231.0.0/16")
		for i := range 3 {
			m.Hosts, m.Within, m.Sources = append(m.Hosts, hostAddr(i)), append(m.Within, net.within(i)), append(m.Sources, []string{hostAddr(i)})
		}
	})
}

// partition is one run: receivers that are slow, mail that waits at the victim, load at all members, then the cut.
func (c Config) partition(ctx context.Context, net *network, run int, r *Report) (k parted, err error) {
	rng := c.dice(run)
	t, err := c.dividedTrio(ctx, net, fmt.Sprintf("parted%d", run), rng, false)
	if err != nil {
		return k, err
	}
	defer t.close()
	leader, err := t.leader(ctx)
	if err != nil {
		return k, err
	}
	plan := plan(run, rng, leader)
	k.kind = plan.kind
	s, err := c.sinkWithin(ctx, net.within(sinkHost), hostAddr(sinkHost)+":2526", hostAddr(sinkHost)+":2580", t.record, "--latency", partitionSlow.String())
	if err != nil {
		return k, err
	}
	defer s.Kill()
	prefix := func(m *members.Member) string { return fmt.Sprintf("p%d-%d-%s-", c.Seed, run, m.Name) }
	victim := t.Members[plan.victim]
	backlog := t.load(ctx, victim, load.Config{Messages: c.Messages, Sessions: 50, Domains: 20, Pipeline: true,
		Prefix: prefix(victim) + "b", Timeout: quiet})
	defer backlog.stop()
	if err := backlog.wait(ctx); err != nil {
		return k, fmt.Errorf("backlog: %w", err)
	}
	var runs []*loading
	for _, m := range t.Members {
		l := t.load(ctx, m, load.Config{Messages: 1e8, Rate: partitionRate, Sessions: 10, Domains: 20, Prefix: prefix(m) + "l", Reconnect: quiet, Timeout: quiet})
		defer l.stop()
		runs = append(runs, l)
	}
	if err := rest(ctx, time.Second+time.Duration(rng.IntN(1000))*time.Millisecond); err != nil {
		return k, err
	}
	struck := clock.Wall()
	if err := net.play(ctx, plan); err != nil {
		return k, err
	}
	healed := clock.Wall()
	if err := rest(ctx, 3*time.Second); err != nil {
		return k, err
	}
	for _, l := range runs {
		l.stop()
	}
	if err := t.emptied(ctx, s, 3*time.Minute); err != nil {
		r.broke("run %d (%s): after the healing: %v", run, plan.kind, err)
	}
	if err := t.arrived(ctx, time.Minute); err != nil {
		return k, err
	}
	for _, m := range t.Up() {
		if v, err := m.Metrics(ctx); err == nil {
			k.takeovers += int(v.Sum("ekiden_takeovers_total"))
		}
	}
	for i, m := range t.Members {
		if i != plan.victim {
			gap, err := t.silence(prefix(m), struck, healed)
			if err != nil {
				return k, err
			}
			k.silence = max(k.silence, gap)
		}
	}
	return k, t.judgePartition(ctx, s, fmt.Sprintf("run %d (%s)", run, plan.kind), prefix(victim), plan.victim, struck, &k, r)
}

// play cuts, waits and heals.
func (n *network) play(ctx context.Context, s schedule) error {
	for begun := clock.Wall(); clock.Since(begun) < s.lasts; {
		lasts := s.lasts
		if s.flapped {
			lasts = time.Second
		}
		if err := n.cut(ctx, s.ways); err != nil {
			return err
		}
		err := errors.Join(rest(ctx, lasts), n.heal(context.WithoutCancel(ctx), s.ways))
		if err == nil && s.flapped {
			err = rest(ctx, time.Second)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
