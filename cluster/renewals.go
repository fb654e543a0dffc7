package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
)

const (
	// renewalTick is how long the leader gathers renewals for one entry. It is lost to the owner, whose lease counts from
	// before it asked.
	renewalTick = 50 * time.Millisecond
	// maxRenewals bounds the lineages of one entry.
	maxRenewals = 4096
)

// renewal is one member's request.
type renewal struct {
	of     []ledger.LineageEpoch
	answer chan renewed // room for one
}

type renewed struct {
	stale []ledger.LineageEpoch
	err   error
}

// renewAtLeader has the leader, here or elsewhere, renew leases, and returns those whose epoch is over.
func (c *Cluster) renewAtLeader(ctx context.Context, of []ledger.LineageEpoch) ([]ledger.LineageEpoch, error) {
	e := c.engine.Load()
	if e == nil {
		return nil, raft.ErrRaftShutdown
	}
	if e.raft.State() == raft.Leader {
		return c.renewHere(ctx, of)
	}
	_, leader := e.raft.LeaderWithID()
	if leader == "" || string(leader) == c.cfg.Name {
		return nil, ErrNoQuorum
	}
	return c.peers.renew(ctx, string(leader), of)
}

// renewHere hands a request to the leader's batcher.
func (c *Cluster) renewHere(ctx context.Context, of []ledger.LineageEpoch) ([]ledger.LineageEpoch, error) {
	r := &renewal{of: of, answer: make(chan renewed, 1)}
	select {
	case c.renewals <- r:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case a := <-r.answer:
		return a.stale, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// batchRenewals makes one entry of all renewals that come within a tick, while e leads. granted is told after each.
func (c *Cluster) batchRenewals(ctx context.Context, e *engine, granted func()) {
	for {
		var batch []*renewal
		select {
		case r := <-c.renewals:
			batch = append(batch, r)
		case <-ctx.Done():
			return
		}
		n := len(batch[0].of)
		tick := time.NewTimer(renewalTick)
	gather:
		for n < maxRenewals/2 {
			select {
			case r := <-c.renewals:
				batch, n = append(batch, r), n+len(r.of)
			case <-tick.C:
				break gather
			}
		}
		tick.Stop()
		c.grant(ctx, e, batch)
		granted()
	}
}

// grant proposes a batch. An owner that hears nothing asks again: renewing twice does no harm.
func (c *Cluster) grant(ctx context.Context, e *engine, batch []*renewal) {
	cmd := &ledger.Renew{}
	for _, r := range batch {
		cmd.Lineages = append(cmd.Lineages, r.of...)
	}
	var result ledger.Result
	sealed, err := ledger.EncodeSealed(c.cfg.Box, cmd)
	if err == nil {
		var id proposalID
		f := e.raft.Apply(packEntry(id, sealed), c.cfg.Terms.Renew)
		done := make(chan error, 1)
		go func() { done <- f.Error() }()
		select {
		case err = <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err == nil {
			var ok bool
			if result, ok = f.Response().(ledger.Result); !ok {
				err = errors.New("the ledger gave no answer")
			} else if result.Code != ledger.OK {
				err = result.Err()
			}
		}
	}
	over := make(map[ledger.LineageEpoch]bool, len(result.Stale))
	for _, l := range result.Stale {
		over[l] = true
	}
	for _, r := range batch {
		a := renewed{err: err}
		for _, l := range r.of {
			if over[l] {
				a.stale = append(a.stale, l)
			}
		}
		r.answer <- a
	}
}
