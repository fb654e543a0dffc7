package cluster

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"
)

// Remains is what a stopped member has on disk, for an operator who must decide which member the cluster goes on from:
// the one with the highest Last, and among those the highest Term.
type Remains struct {
	Applied  uint64 // index of the last entry in the book
	Last     uint64 // index of the last entry in the log, agreed on or not
	Term     uint64 // of that entry
	Snapshot uint64 // index of the newest snapshot, 0 without one
	Members  []Peer // the last configuration in the log
}

// Inspect reads what the member of cfg, which must not be running, has. It changes nothing.
func Inspect(cfg Config) (Remains, error) {
	r := Remains{}
	err := withRemains(cfg, func(logs raftDisk, snaps raft.SnapshotStore, conf *raft.Config) error {
		list, err := snaps.List()
		if err != nil {
			return err
		}
		members := raft.Configuration{}
		if len(list) > 0 {
			r.Snapshot, r.Last, r.Term = list[0].Index, list[0].Index, list[0].Term
			members = list[0].Configuration
		}
		r.Applied = cfg.Ledger.AppliedIndex()
		first, err := logs.FirstIndex()
		if err != nil {
			return err
		}
		last, err := logs.LastIndex()
		if err != nil {
			return err
		}
		for i := max(first, 1); i <= last; i++ {
			var l raft.Log
			if err := logs.GetLog(i, &l); err != nil {
				return err
			}
			if l.Type == raft.LogConfiguration {
				members = raft.DecodeConfiguration(l.Data)
			}
			r.Last, r.Term = l.Index, l.Term
		}
		for _, s := range members.Servers {
			r.Members = append(r.Members, Peer{string(s.ID), string(s.Address), s.Suffrage == raft.Voter})
		}
		return nil
	})
	return r, err
}

// Recover makes the member of cfg, which must not be running, go on with the given members after a majority was lost for
// good. Whatever is in its log counts as agreed on, and what only the lost members had is gone: the caller has shown the
// operator Inspect's answer of every member left, and had it confirmed. It is done on one member; the others are started
// with empty raft directories, or with the same members on every one that is left.
func Recover(cfg Config, members []Peer) error {
	return withRemains(cfg, func(logs raftDisk, snaps raft.SnapshotStore, conf *raft.Config) error {
		var failed error
		f := &recoverFSM{fsm: newFSM(cfg.Ledger, func(err error) { failed = err })}
		if list, err := snaps.List(); err != nil {
			return err
		} else if len(list) > 0 {
			f.keep = cfg.Ledger.AppliedIndex() >= list[0].Index
		}
		_, trans := raft.NewInmemTransport(aloneAddress)
		err := raft.RecoverCluster(conf, f, logs, logs, snaps, trans, configuration(members))
		if f.taken != nil {
			f.taken.Release() // RecoverCluster does not, and the book could not be closed
		}
		return errors.Join(err, failed)
	})
}

// raftDisk is the stores that raft's functions want.
type raftDisk interface {
	raft.LogStore
	raft.StableStore
}

func withRemains(cfg Config, do func(raftDisk, raft.SnapshotStore, *raft.Config) error) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	d, err := openDisk(cfg.Dir, cfg.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	c := &Cluster{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	snaps, err := c.snapshots()
	if err != nil {
		return err
	}
	conf, err := c.raftConfig(snaps)
	if err != nil {
		return err
	}
	if err := do(d, snaps, conf); err != nil {
		return fmt.Errorf("remains of %s: %w", cfg.Name, err)
	}
	return nil
}

// recoverFSM leaves the book as it is where it is further than the snapshot that raft begins with.
type recoverFSM struct {
	*fsm
	keep  bool
	taken raft.FSMSnapshot
}

// Snapshot remembers what it took.
func (f *recoverFSM) Snapshot() (raft.FSMSnapshot, error) {
	s, err := f.fsm.Snapshot()
	f.taken = s
	return s, err
}

// Restore takes a snapshot in, unless the book has it.
func (f *recoverFSM) Restore(r io.ReadCloser) error {
	if f.keep {
		return r.Close()
	}
	return f.fsm.Restore(r)
}
