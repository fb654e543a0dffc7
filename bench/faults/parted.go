package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/process"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// errNoLeader is reported for a cluster whose members name none.
var errNoLeader = errors.New("no member is said to lead")

// leader asks who leads, and returns its index.
func (t *trio) leader(ctx context.Context) (int, error) {
	raw, err := t.Members[0].Post(ctx, adminService+"ListMembers", `{}`)
	if err != nil {
		return 0, err
	}
	var list struct {
		Members []struct {
			Name   string
			Leader bool
		}
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return 0, fmt.Errorf("faults: list members: %w", err)
	}
	for _, said := range list.Members {
		for i, m := range t.Members {
			if said.Leader && said.Name == m.Name {
				return i, nil
			}
		}
	}
	return 0, fmt.Errorf("faults: %w: %.200s", errNoLeader, raw)
}

// sinkWithin starts the receivers, behind the command within: that of another host, or none.
func (c Config) sinkWithin(ctx context.Context, within []string, addr, metrics, record string, extra ...string) (*sinkProcess, error) {
	command := slices.Concat(within, []string{c.Self, "sink", "--listen", addr, "--metrics", metrics, "--record", record}, extra)
	p, err := process.Start("sink", command[0], command[1:], os.Stderr)
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	line, err := p.Line(ctx, "sink ready ", 20*time.Second)
	if err != nil {
		p.Kill()
		return nil, fmt.Errorf("faults: %w", err)
	}
	words := process.Words(line)
	return &sinkProcess{Process: p, addr: words["smtp"], metrics: words["metrics"]}, nil
}

// arrived waits until everything promised is in the record, at most for patience: a member that comes back counts nothing
// as waiting between the queue it gave up and the one it begins, though it is about to bring mail home.
func (t *trio) arrived(ctx context.Context, patience time.Duration) error {
	for begun := clock.Wall(); ; {
		sum, err := check(t.ledger, t.record)
		if err != nil || sum.Lost == 0 || clock.Since(begun) > patience {
			return err
		}
		if err := rest(ctx, time.Second); err != nil {
			return err
		}
	}
}

// silence is the longest time between from and to without a 250 for a token that starts with prefix.
func (t *trio) silence(prefix string, from, to time.Time) (time.Duration, error) {
	last, longest := from, time.Duration(0)
	promises, err := t.promises(prefix)
	if err != nil {
		return 0, err
	}
	// Sessions write their lines in the order of the answers, give or take a moment.
	for _, p := range promises {
		if p.at.After(from) && p.at.Before(to) {
			longest = max(longest, p.at.Sub(last))
			last = p.at
		}
	}
	return max(longest, to.Sub(last)), nil
}

// promise is one line of the ledger.
type promise struct {
	token string
	at    time.Time
}

// promises reads the ledger's lines for tokens that start with prefix.
func (t *trio) promises(prefix string) ([]promise, error) {
	var list []promise
	err := eachLine(t.ledger, func(line []byte) error {
		words := strings.SplitN(string(line), " ", 3)
		if len(words) < 3 || !strings.HasPrefix(words[0], prefix) {
			return nil
		}
		at, err := time.Parse(time.RFC3339Nano, words[1])
		list = append(list, promise{words[0], at})
		return err
	})
	return list, err
}

// judgePartition holds a run against what must hold.
func (t *trio) judgePartition(ctx context.Context, s *sinkProcess, where, prefix string, victim int, struck time.Time, k *parted, r *Report) error {
	counters, err := s.counters(ctx)
	if err != nil {
		return err
	}
	if err := s.Stop(); err != nil {
		return err
	}
	if k.tally, err = check(t.ledger, t.record); err != nil {
		return err
	}
	k.tally.judge(r, where)
	// Every takeover may repeat what was in doubt and what the standby had not heard of; a cut alone what was in doubt.
	if k.bound = k.takeovers * (int(counters.MaxOpen) + creditWindow); k.tally.copies > k.bound {
		r.broke("%s: %d copies in %d takeovers, the bound is %d", where, k.tally.copies, k.takeovers, k.bound)
	}
	if k.silence > acceptWithin {
		r.broke("%s: the majority took nothing for %s, want %s", where, k.silence.Round(time.Millisecond), acceptWithin)
	}
	if err := t.overlap(prefix, victim, struck, k); err != nil {
		return err
	}
	if k.overlap > 0 {
		r.broke("%s: two owners sent: %d messages left the member that was cut off after another had begun to send its mail", where, k.overlap)
	}
	return nil
}

// overlap looks at the mail that the victim had accepted before the cut: once another member has sent one of these, the
// victim may send none. crossed counts those that the other sent. With several takeovers in one run mail may rightly come
// back to the victim, so that only the bound on copies tells.
func (t *trio) overlap(prefix string, victim int, struck time.Time, k *parted) error {
	promises, err := t.promises(prefix)
	if err != nil {
		return err
	}
	old := map[string]bool{}
	for _, p := range promises {
		if p.at.Before(struck) {
			old[p.token] = true
		}
	}
	list, err := t.arrivals()
	if err != nil {
		return err
	}
	for _, a := range list {
		switch {
		case !old[a.token]:
		case a.source != hostAddr(victim):
			k.crossed++
		case k.crossed > 0 && k.takeovers <= 1:
			k.overlap++
		}
	}
	return nil
}
