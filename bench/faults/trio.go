package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/load"
	"github.com/ekiden-mta/ekiden/bench/members"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// creditWindow is how many outcomes an owner may have that its standbys do not know (replication protocol: W).
const creditWindow = 500

// trio is a cluster of three with one receiver, one ledger and one record over all of them.
type trio struct {
	*members.Cluster
	cfg    Config
	dir    string
	sinkAt string
	ledger string
	record string
	remove func()
}

// newTrio starts the members. The receivers are not there yet.
func (c Config) newTrio(ctx context.Context, name string, rng *rand.Rand, edit func(*members.Config)) (*trio, error) {
	note, remove, err := notes(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	t := &trio{cfg: c, dir: filepath.Join(c.Dir, name), remove: remove,
		ledger: filepath.Join(note, "ledger"), record: filepath.Join(note, "record")}
	if t.sinkAt, err = engine.FreeAddr("127.0.0.1", rng.IntN); err == nil {
		m := members.Config{Engine: c.Engine, Dir: t.dir, Routes: map[string]string{"*": t.sinkAt}, Settings: settings()}
		if edit != nil {
			edit(&m)
		}
		t.Cluster, err = members.Form(ctx, m)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *trio) close() {
	if t.Cluster != nil {
		t.Crash()
	}
	t.remove()
	_ = os.RemoveAll(t.dir)
}

// load begins a load on one member.
func (t *trio) load(ctx context.Context, m *members.Member, cfg load.Config) *loading {
	cfg.Target, cfg.Ledger = m.SMTP, t.ledger
	return startLoad(ctx, cfg)
}

// verdict waits until everything has arrived, stops the receivers, and judges by what they have.
func (t *trio) verdict(ctx context.Context, s *sinkProcess, r *Report, where string) (tally, error) {
	if err := t.emptied(ctx, s, 2*time.Minute); err != nil {
		r.broke("%s: %v", where, err)
	}
	if err := s.Stop(); err != nil {
		return tally{}, err
	}
	sum, err := check(t.ledger, t.record)
	if err != nil {
		return sum, err
	}
	sum.judge(r, where)
	return sum, nil
}

// emptied waits until no member that runs has anything queued and the receivers have been still for a while.
func (t *trio) emptied(ctx context.Context, s *sinkProcess, patience time.Duration) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	begun, last, taken := clock.Wall(), clock.Wall(), int64(-1)
	waiting, adopting := -1.0, -1.0
	for {
		var sum, open float64
		ok := true
		for _, m := range t.Up() {
			v, err := m.Metrics(ctx)
			if err != nil {
				ok = false
				break
			}
			sum += v.Waiting()
			open += v.Sum("ekiden_takeovers_open")
		}
		c, err := s.counters(ctx)
		if ok && err == nil {
			waiting, adopting = sum, open
			if c.Deliveries != taken {
				taken, last = c.Deliveries, clock.Wall()
			}
			if waiting == 0 && adopting == 0 && clock.Since(last) >= still {
				return nil
			}
		}
		if clock.Since(begun) > patience {
			return fmt.Errorf("after %s %.0f deliveries wait and %.0f queues are being taken over", patience, waiting, adopting)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// arrival is one line of the record that tells of a delivery.
type arrival struct {
	at     time.Time
	token  string
	source string // address of the member that sent it
}

// arrivals reads the record, oldest first.
func (t *trio) arrivals() ([]arrival, error) {
	var list []arrival
	err := eachLine(t.record, func(line []byte) error {
		var a struct {
			Event, Token, Source string
			Time                 time.Time
		}
		if err := json.Unmarshal(line, &a); err != nil {
			return err
		}
		if a.Event == "message" {
			list = append(list, arrival{a.Time, a.Token, a.Source})
		}
		return nil
	})
	slices.SortFunc(list, func(a, b arrival) int { return a.at.Compare(b.at) })
	return list, err
}

// promised returns the tokens of the ledger that start with prefix.
func (t *trio) promised(prefix string) (map[string]bool, error) {
	tokens := map[string]bool{}
	err := eachLine(t.ledger, func(line []byte) error {
		token, _, _ := strings.Cut(string(line), " ")
		if strings.HasPrefix(token, prefix) {
			tokens[token] = true
		}
		return nil
	})
	return tokens, err
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
