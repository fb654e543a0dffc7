package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/cluster/placement"
)

// What the whole cluster may have of a receiver at once is shared out by the member that leads (requirement N6).
const (
	pathShares = "/member/shares"
	shareEvery = placement.Lease / 4  // between renewals
	shareTry   = time.Second          // one question
	shareLook  = placement.Margin / 2 // how often to look whether a share has run out meanwhile
	maxShares  = 1 << 20              // octets of a question or an answer
)

// shares is this member's part in it: what it lends while it leads, and what its engine has.
type shares struct {
	member *member
	mu     sync.Mutex
	bank   placement.Bank
}

// lend answers a member's asks, if this one leads.
func (s *shares) lend(name string, asks []placement.Ask) ([]int, error) {
	m := s.member.node.member.Load() // nil until it takes part in the agreement
	if m == nil {
		return nil, placement.ErrNotOwner
	}
	since, proven, leads := m.agreed.Reign()
	if !leads {
		return nil, placement.ErrNotOwner
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bank.Ask(s.member.boot.Now(), since, proven, name, asks)
}

// serve answers the other members.
func (s *shares) serve(mux *http.ServeMux) {
	answer(mux, http.MethodPost, pathShares, maxShares, func(ctx context.Context, asks []placement.Ask) ([]int, error) {
		return s.lend(peerName(ctx), asks)
	})
}

// ask has the member that leads lend to this one.
func (s *shares) ask(ctx context.Context, asks []placement.Ask) ([]int, error) {
	m := s.member
	if m.agreed.Leads() {
		return s.lend(m.node.cfg.Node.Name, asks)
	}
	leader := m.agreed.Leader()
	if leader == "" {
		return nil, errors.New("nobody leads")
	}
	ctx, cancel := context.WithTimeout(ctx, shareTry)
	defer cancel()
	var units []int
	if err := m.peers.call(ctx, http.MethodPost, leader, pathShares, asks, maxShares, &units); err != nil {
		return nil, err
	}
	if len(units) != len(asks) {
		return nil, fmt.Errorf("%s answered %d of %d asks", leader, len(units), len(asks))
	}
	return units, nil
}

// share keeps the engine's connections within its share of what all members may have, until ctx ends.
func (e *engine) share(ctx context.Context, m *member, lack <-chan struct{}) {
	totals := e.actors.Totals()
	tick := time.NewTicker(shareEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-lack:
		}
		asked := m.boot.Now()
		demands := totals.Demands()
		if len(demands) == 0 {
			continue
		}
		units, err := m.shares.ask(ctx, asksOf(demands))
		if err != nil {
			m.node.log.Debug("no share of connections: those there are end with their present message", "error", err)
		}
		for i, u := range units {
			totals.Fill(demands[i].Limit, asked, u)
		}
		e.actors.Reshare()
	}
}

// lapse ends connections whose share has run out while a question about it is under way, until ctx ends: the member that
// leads lends it to others a moment later.
func (e *engine) lapse(ctx context.Context) {
	tick := time.NewTicker(shareLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if e.actors.Totals().Over() {
			e.actors.Reshare()
		}
	}
}

func asksOf(demands []source.Demand) []placement.Ask {
	asks := make([]placement.Ask, len(demands))
	for i, d := range demands {
		asks[i] = placement.Ask{Limit: d.Limit, Total: d.Most, Has: d.Has, Wants: d.Wants}
	}
	return asks
}

// divide has the engine share what the whole cluster may have; alone, it has all of it.
func (e *engine) divide(m *member) {
	if m.node.wire == nil {
		return
	}
	lack := make(chan struct{}, 1)
	e.actors.Totals().Divide(func() source.Share { return &placement.Purse{} }, m.boot.Now, func() {
		select {
		case lack <- struct{}{}:
		default:
		}
	})
	e.done.Go(func() { e.share(e.life, m, lack) })
	e.done.Go(func() { e.lapse(e.life) })
}
