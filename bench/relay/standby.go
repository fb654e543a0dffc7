package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/bench/members"
	"github.com/ekiden-mta/ekiden/bench/process"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// standby is a second member beside the one that is measured. It keeps a copy of its queue and does nothing else.
type standby struct {
	cluster *members.Cluster
	cpu     time.Duration // when the turn began
	costs   []float64     // CPU per message of each turn, us
}

// copyWait is how long the standby may take to have a copy of the empty queue.
const copyWait = 30 * time.Second

// form starts both members as cfg says, and returns the measured one when the other has all of its queue.
func (s *standby) form(ctx context.Context, cfg engine.Config) (*engine.Engine, error) {
	var err error
	s.cluster, err = members.Form(ctx, members.Config{Engine: cfg.Path, Dir: filepath.Join(cfg.Dir, "cluster"), Count: 2,
		Routes: cfg.Routes, Settings: cfg.Settings, Testing: cfg.Testing, OneKey: true, Sources: [][]string{{}, {}}})
	if err != nil {
		return nil, err
	}
	owner := s.cluster.Members[0]
	for begun := clock.Wall(); ; {
		full, err := copied(ctx, owner)
		if err == nil && full {
			return owner.Engine, nil
		}
		if clock.Since(begun) > copyWait {
			s.cluster.Crash()
			return nil, fmt.Errorf("relay: no standby has a copy after %s: %w", copyWait, err)
		}
		select {
		case <-time.After(2 * poll):
		case <-ctx.Done():
			s.cluster.Crash()
			return nil, ctx.Err()
		}
	}
}

// copied tells whether a member's queue has a standby that acknowledges, as the member says.
func copied(ctx context.Context, m *members.Member) (bool, error) {
	raw, err := m.Post(ctx, "/ekiden.admin.v1.AdminService/ListMembers", "{}")
	if err != nil {
		return false, err
	}
	var list struct {
		Members []struct {
			Name     string
			Lineages []struct {
				Standbys []struct{ Acknowledging bool }
			}
		}
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return false, err
	}
	for _, v := range list.Members {
		for _, l := range v.Lineages {
			for _, b := range l.Standbys {
				if v.Name == m.Name && b.Acknowledging {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// begin and end measure what the standby, if there is one, spends on a turn.
func (s *standby) begin() (err error) {
	if s != nil {
		s.cpu, err = process.CPU(s.cluster.Members[1].PID())
	}
	return err
}

func (s *standby) end(messages int) error {
	if s == nil {
		return nil
	}
	cpu, err := process.CPU(s.cluster.Members[1].PID())
	s.costs = append(s.costs, perMessage(cpu-s.cpu, messages))
	return err
}
