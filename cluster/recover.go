package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
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
		members, newest, err := lastMembers(logs, snaps)
		if err != nil {
			return err
		}
		r.Applied, r.Snapshot, r.Last, r.Term = cfg.Ledger.AppliedIndex(), newest.snapshot, newest.index, newest.term
		for _, s := range members.Servers {
			r.Members = append(r.Members, Peer{string(s.ID), string(s.Address), s.Suffrage == raft.Voter})
		}
		return nil
	})
	return r, err
}

// newestEntry is how far a log and its snapshots go.
type newestEntry struct{ snapshot, index, term uint64 }

// lastMembers reads the last configuration that a log and its snapshots have, and how far they go.
func lastMembers(logs raft.LogStore, snaps raft.SnapshotStore) (members raft.Configuration, n newestEntry, err error) {
	list, err := snaps.List()
	if err != nil {
		return members, n, err
	}
	if len(list) > 0 {
		n = newestEntry{list[0].Index, list[0].Index, list[0].Term}
		members = list[0].Configuration
	}
	first, err := logs.FirstIndex()
	if err != nil {
		return members, n, err
	}
	last, err := logs.LastIndex()
	if err != nil {
		return members, n, err
	}
	for i := max(first, n.snapshot+1); i <= last; i++ {
		var l raft.Log
		if err := logs.GetLog(i, &l); err != nil {
			return members, n, err
		}
		if l.Type == raft.LogConfiguration {
			members = raft.DecodeConfiguration(l.Data)
		}
		n.index, n.term = l.Index, l.Term
	}
	return members, n, nil
}

// SeatAlone returns under which name the log in dir gives its only member a seat: "" where there is no log, where it knows
// several members, and where a running process holds it.
func SeatAlone(dir string) (name string, err error) {
	held, err := inUse(dir)
	if err != nil || held {
		return "", err
	}
	quiet := slog.New(slog.DiscardHandler)
	logs, err := openDisk(dir, quiet)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, keepSnapshot, &raftLog{log: quiet})
	if err != nil {
		return "", fmt.Errorf("raft's snapshots: %w", err)
	}
	members, _, err := lastMembers(logs, snaps)
	if err != nil {
		return "", fmt.Errorf("seat in %s: %w", dir, err)
	}
	if len(members.Servers) == 1 && members.Servers[0].Suffrage == raft.Voter {
		name = string(members.Servers[0].ID)
	}
	return name, nil
}

// inUse tells whether there is no log in dir to look at, or another process has it open. To open it then would wait for that
// process without end.
func inUse(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, "log", metadb.FileName), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("raft's log: %w", err)
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("raft's log: %w", err)
	}
	return false, nil
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
