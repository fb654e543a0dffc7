package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

const (
	walSegment   = 16 << 20 // octets of a file of raft's log, allocated before it is written
	logCache     = 128      // entries held in memory for followers: of an import 32 MB
	keepSnapshot = 2
	// snapshotEvery is the number of entries after which the book is written out. An idle cluster makes one or two a
	// second, so this is half a day.
	snapshotEvery = 1 << 16
	// trailing is the number of entries kept behind a snapshot: a member that is away for less needs none, and installing
	// one may loop (hashicorp/raft#697).
	trailing      = 100_000
	trailingAlone = 128
	// shutdownWait bounds the wait for raft's goroutines; they wait for the disk no longer than diskPatience each.
	shutdownWait = 3 * diskPatience
)

// engine is one incarnation of raft. The watchdog replaces it when it is stuck.
type engine struct {
	raft   *raft.Raft
	trans  raft.Transport
	begun  time.Time       // by the machine's clock
	ctx    context.Context // ends with this incarnation
	cancel context.CancelFunc
}

// openDisk opens raft-wal in dir, which is made if missing.
func openDisk(dir string, log *slog.Logger) (disk, error) {
	path := filepath.Join(dir, "log")
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("raft's log: %w", err)
	}
	w, err := wal.Open(path, wal.WithSegmentSize(walSegment), wal.WithLogger(&raftLog{log: log}))
	if err != nil {
		return nil, fmt.Errorf("raft's log in %s: %w", path, err)
	}
	return w, nil
}

func (c *Cluster) snapshots() (raft.SnapshotStore, error) {
	s, err := raft.NewFileSnapshotStoreWithLogger(c.cfg.Dir, keepSnapshot, &raftLog{log: c.log})
	if err != nil {
		return nil, fmt.Errorf("raft's snapshots: %w", err)
	}
	return s, nil
}

func (c *Cluster) raftConfig(snaps raft.SnapshotStore) (*raft.Config, error) {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(c.cfg.Name)
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = elections, elections, elections
	conf.SnapshotThreshold = snapshotEvery
	conf.TrailingLogs = trailing
	if c.Alone() {
		conf.TrailingLogs = trailingAlone
		// A lone member elects itself at once (kick); were that to fail, it is not to take long either.
		conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = aloneElection, aloneElection, aloneElection
	}
	conf.ShutdownOnRemove = false
	conf.BatchApplyCh = true
	conf.NoLegacyTelemetry = true
	conf.Logger = &raftLog{log: c.log}
	list, err := snaps.List()
	if err != nil {
		return nil, fmt.Errorf("raft's snapshots: %w", err)
	}
	// The book is on disk with its own index: an older snapshot has nothing for it.
	conf.NoSnapshotRestoreOnStart = len(list) > 0 && c.cfg.Ledger.AppliedIndex() >= list[0].Index
	return conf, nil
}

// startEngine starts an incarnation from what the disk holds.
func (c *Cluster) startEngine() error {
	snaps, err := c.snapshots()
	if err != nil {
		return err
	}
	conf, err := c.raftConfig(snaps)
	if err != nil {
		return err
	}
	cache, err := raft.NewLogCache(logCache, c.logs)
	if err != nil {
		return fmt.Errorf("raft's log: %w", err)
	}
	e := &engine{trans: c.transport(), begun: clock.Wall()}
	e.ctx, e.cancel = context.WithCancel(c.ctx)
	e.raft, err = raft.NewRaft(conf, c.fsm, cache, c.logs, snaps, e.trans)
	if err != nil {
		e.cancel()
		return fmt.Errorf("start raft: %w", errors.Join(err, closeTransport(e.trans)))
	}
	c.engine.Store(e)
	if !c.Alone() {
		c.tasks.Go(func() { c.followLeadership(e) })
	}
	return nil
}

func (c *Cluster) transport() raft.Transport {
	if c.Alone() {
		addr, t := raft.NewInmemTransport(aloneAddress)
		t.Connect(addr, t)
		return t
	}
	return &raftTransport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: c.port.stream(), MaxPool: 3, Timeout: 10 * time.Second, Logger: &raftLog{log: c.log},
			// No pipeline: one whose follower refuses an entry, as one does whose disk hangs, may stand still for good, and its
			// heartbeats go on, also from a leader that has stepped down, so that nobody asks for votes (hashicorp/raft#612).
			MaxRPCsInFlight:       1,
			ServerAddressProvider: addresses{c},
		}),
		doubt: c.inDoubt,
	}
}

func closeTransport(t raft.Transport) error {
	if t, ok := t.(raft.WithClose); ok {
		return t.Close()
	}
	return nil
}

// stop ends an incarnation. Its connections go first, so that members stop hearing heartbeats even where its goroutines
// hang, and none of these waits for a member that does not answer; LeadershipTransfer is not used, because a leader may
// refuse work for ever after one that was interrupted (hashicorp/raft#696). It reports whether everything ended.
func (e *engine) stop(log *slog.Logger) bool {
	e.cancel()
	if err := closeTransport(e.trans); err != nil {
		log.Debug("raft: close the transport", "err", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.raft.Shutdown().Error() }()
	timer := time.NewTimer(shutdownWait)
	defer timer.Stop()
	select {
	case err := <-ended:
		if err != nil {
			log.Warn("raft: shut down", "err", err)
		}
		return true
	case <-timer.C:
		log.Error("raft does not shut down", "waited", shutdownWait)
		return false
	}
}

// askRestart has raft shut down and started anew. One request at a time: while one waits, another says nothing new.
func (c *Cluster) askRestart(why string) {
	select {
	case c.restarts <- why:
	default:
	}
}

// watch restarts raft when it is asked to, and after the log's disk has answered again: what was given up on may have
// reached it, so raft must read it anew.
func (c *Cluster) watch() {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case why := <-c.restarts:
			c.restart(why)
		case <-tick.C:
			if e := c.engine.Load(); e != nil {
				c.fresh.note(e.raft)
			}
			if lapsed, drained := c.logs.Lapsed(); lapsed && drained {
				c.restart("the log's disk answers again")
			}
		}
	}
}

func (c *Cluster) restart(why string) {
	e := c.engine.Swap(nil)
	if e == nil {
		return
	}
	c.log.Warn("raft is restarted", "why", why)
	if !e.stop(c.log) {
		// Two incarnations must not write one log. Members go on without this one.
		c.fail(fmt.Errorf("raft hangs: %s", why))
		return
	}
	c.logs.Renew()
	c.restarted.Add(1)
	if err := c.startEngine(); err != nil {
		c.fail(err)
		return
	}
	if c.Alone() {
		c.kick(c.engine.Load())
	}
}
