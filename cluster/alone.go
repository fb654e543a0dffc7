package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const (
	aloneAddress  = "alone"
	aloneElection = 250 * time.Millisecond
)

// bootstrapAlone gives a new lone member its seat.
func (c *Cluster) bootstrapAlone() error {
	if c.Founded() {
		return nil
	}
	snaps, err := c.snapshots()
	if err != nil {
		return err
	}
	conf, err := c.raftConfig(snaps)
	if err != nil {
		return err
	}
	_, trans := raft.NewInmemTransport(aloneAddress)
	seat := configuration([]Peer{{Name: c.cfg.Name, Address: aloneAddress, Voter: true}})
	err = raft.BootstrapCluster(conf, c.logs, c.logs, snaps, trans, seat)
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("give the lone member its seat: %w", err)
	}
	return nil
}

// kick has a lone member stand for election at once, by the message with which a leader would ask it to. Otherwise it
// waited for the heartbeat of somebody who is not there.
func (c *Cluster) kick(e *engine) {
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax,
		ID: []byte(c.cfg.Name), Addr: []byte(aloneAddress)}}
	err := e.trans.TimeoutNow(raft.ServerID(c.cfg.Name), aloneAddress, req, &raft.TimeoutNowResponse{})
	if err != nil {
		c.log.Debug("raft: stand for election", "err", err)
	}
}

// waitAlone returns when a lone member leads and its book holds everything that its log does.
func (c *Cluster) waitAlone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c.kick(c.engine.Load())
	if err := c.Barrier(ctx); err != nil {
		return fmt.Errorf("lone member: %w", err)
	}
	return nil
}
