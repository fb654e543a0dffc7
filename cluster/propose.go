package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	// maxEntry bounds an entry of raft's log. The ledger's commands are smaller.
	maxEntry = 1 << 20
	// bulkFrom is the size from which an entry goes through the limiter of imports.
	bulkFrom = 16 << 10
	// bulkAtOnce is how many large entries a leader has under way. A renewal waits behind no more than these.
	bulkAtOnce = 2
	// defaultPatience is how long a proposal is tried where the context has no end.
	defaultPatience = 10 * time.Second
	retryPause      = 50 * time.Millisecond
)

// outcome is what became of handing an entry to a leader.
type outcome int

const (
	notDone   outcome = iota // it is in no log and will be in none
	committed                // it is agreed on
	uncertain                // either
)

// Propose has the members agree on cmd, whoever leads, and returns what the ledger answered, which may be a refusal: see
// Result.Err. When it returns without an error, the command is on the disks of a majority and in this member's own book.
// The command is applied once, however often it had to be handed on. It must not be changed any more.
//
// Errors: ErrNoQuorum (nothing was done), ErrUncertain, ErrStopped, and those of encoding. A context without an end is
// given ten seconds.
func (c *Cluster) Propose(ctx context.Context, cmd ledger.Command) (ledger.Result, error) {
	sealed, err := ledger.EncodeSealed(c.cfg.Box, cmd)
	if err != nil {
		return ledger.Result{}, fmt.Errorf("propose: %w", err)
	}
	r, err := c.propose(ctx, sealed, ledger.Prepare(c.cfg.Box, cmd))
	if err != nil {
		return r, fmt.Errorf("propose %T: %w", cmd, err)
	}
	return r, nil
}

// propose proposes a sealed command, with what it is prepared as for this member's book, or nil.
func (c *Cluster) propose(ctx context.Context, sealed []byte, prepared *ledger.Prepared) (ledger.Result, error) {
	ctx, cancel := patience(ctx)
	defer cancel()
	var id proposalID
	_, _ = rand.Read(id[:]) // never fails (Go 1.24)
	entry := packEntry(id, sealed)
	if len(entry) > maxEntry {
		return ledger.Result{}, ledger.ErrTooLarge
	}
	p := c.fsm.expect(id, sealed, prepared)
	defer c.fsm.forget(id)
	for {
		index, what, err := c.submit(ctx, entry, p)
		switch what {
		case committed:
			if r, known := p.wait(ctx, c.ctx); known {
				return r, nil
			}
			return ledger.Result{Index: index}, fmt.Errorf("%w: agreed on as entry %d, not yet in this member's book", ErrUncertain, index)
		case uncertain:
			r, done, err := c.resolve(ctx, p)
			if done || err != nil {
				return r, err
			}
		}
		if !pause(ctx, retryPause) {
			return ledger.Result{}, c.gaveUp(err)
		}
	}
}

// resolve finds out what became of a proposal whose leader was lost with it: once an entry of a later leader is agreed on,
// every entry before it either is as well or never will be, and this member's own book tells.
func (c *Cluster) resolve(ctx context.Context, p *proposal) (r ledger.Result, done bool, err error) {
	if err := c.Barrier(ctx); err != nil {
		if r, known := p.now(); known {
			return r, true, nil
		}
		return r, false, fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	r, known := p.now()
	if !known && p.isLost() {
		return r, false, fmt.Errorf("%w: this member was given a snapshot meanwhile", ErrUncertain)
	}
	return r, known, nil
}

// Barrier returns when everything that was agreed on before the call is in this member's book, and this was agreed with a
// majority. Errors as Propose.
func (c *Cluster) Barrier(ctx context.Context) error {
	ctx, cancel := patience(ctx)
	defer cancel()
	for {
		index, what, err := c.submit(ctx, []byte{entryNoop}, nil)
		if what == committed {
			if c.fsm.waitApplied(ctx, c.ctx, index) {
				return nil
			}
			return c.gaveUp(ctx.Err())
		}
		if !pause(ctx, retryPause) {
			return c.gaveUp(err)
		}
	}
}

// gaveUp names the reason for which a proposal that was in no log was given up.
func (c *Cluster) gaveUp(last error) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if last == nil {
		return ErrNoQuorum
	}
	return fmt.Errorf("%w: %w", ErrNoQuorum, last)
}

// submit hands an entry to whoever leads, once. p, which may be nil, ends the wait as soon as this member has applied it.
func (c *Cluster) submit(ctx context.Context, entry []byte, p *proposal) (uint64, outcome, error) {
	e := c.engine.Load()
	switch {
	case c.ctx.Err() != nil:
		return 0, notDone, context.Cause(c.ctx)
	case e == nil:
		return 0, notDone, raft.ErrRaftShutdown
	case e.raft.State() == raft.Leader:
		return c.append(ctx, e, entry, p)
	case c.peers == nil:
		return 0, notDone, raft.ErrNotLeader
	}
	_, leader := e.raft.LeaderWithID()
	if leader == "" || string(leader) == c.cfg.Name {
		return 0, notDone, raft.ErrNotLeader
	}
	return c.peers.submit(ctx, string(leader), entry)
}

// append puts an entry into the log of this member, which leads, and waits until a majority has it.
func (c *Cluster) append(ctx context.Context, e *engine, entry []byte, p *proposal) (uint64, outcome, error) {
	if len(entry) >= bulkFrom {
		select {
		case c.bulk <- struct{}{}:
			defer func() { <-c.bulk }()
		case <-ctx.Done():
			return 0, notDone, ctx.Err()
		case <-e.ctx.Done():
			return 0, notDone, raft.ErrRaftShutdown
		}
	}
	f := e.raft.Apply(entry, remaining(ctx))
	answer := make(chan error, 1)
	go func() { answer <- f.Error() }()
	var settled <-chan struct{}
	if p != nil {
		settled = p.done
	}
	select {
	case <-settled:
		return 0, committed, nil
	case err := <-answer:
		switch {
		case err == nil:
			return f.Index(), committed, nil
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout):
			return 0, notDone, err
		}
		return 0, uncertain, err
	case <-ctx.Done():
		return 0, uncertain, ctx.Err()
	case <-e.ctx.Done(): // raft answers its futures when it shuts down, unless it hangs
		return 0, uncertain, raft.ErrRaftShutdown
	}
}

// now returns the result where it is known already.
func (p *proposal) now() (ledger.Result, bool) {
	select {
	case <-p.done:
		return p.result, !p.lost
	default:
		return ledger.Result{}, false
	}
}

func (p *proposal) isLost() bool {
	select {
	case <-p.done:
		return p.lost
	default:
		return false
	}
}

// wait waits for the result until one of the contexts ends.
func (p *proposal) wait(ctx, also context.Context) (ledger.Result, bool) {
	select {
	case <-p.done:
	case <-ctx.Done():
	case <-also.Done():
	}
	return p.now()
}

// patience gives a context without an end one.
func patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ends := ctx.Deadline(); ends {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultPatience)
}

func remaining(ctx context.Context) time.Duration {
	if end, ends := ctx.Deadline(); ends {
		return max(time.Millisecond, end.Sub(clock.Wall()))
	}
	return defaultPatience
}

// pause waits d, and tells whether there is time left.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
