package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
)

// An entry of raft's log is a version octet, the proposal's id, and the sealed command. The leader's no-op has the
// octet alone.
const (
	entryNoop    = 0
	entryCommand = 1
)

// proposalID tells one proposal from every other, so that who proposed it recognises it when it is applied, whichever
// leader it came through.
type proposalID [16]byte

// packEntry returns an entry's bytes.
func packEntry(id proposalID, sealed []byte) []byte {
	b := make([]byte, 0, 1+len(id)+len(sealed))
	b = append(b, entryCommand)
	b = append(b, id[:]...)
	return append(b, sealed...)
}

// unpackEntry undoes packEntry; a no-op has no command.
func unpackEntry(b []byte) (id proposalID, sealed []byte, err error) {
	switch {
	case len(b) == 1 && b[0] == entryNoop:
		return id, nil, nil
	case len(b) > 1+len(id) && b[0] == entryCommand:
		copy(id[:], b[1:])
		return id, b[1+len(id):], nil
	}
	return id, nil, errors.New("raft entry of an unknown kind")
}

// fsm is what raft applies committed entries to: the ledger's store. Entries that the store has applied already, after a
// restart, are answered Skipped by it. It also tells proposers on this member what became of their proposals.
type fsm struct {
	book *ledger.Store
	fail func(error) // the book cannot go on: it was given something it must not pass over

	mu       sync.Mutex
	applied  uint64        // raft's index of the last entry taken in, no-ops included
	moved    chan struct{} // closed when applied grows
	proposed map[proposalID]*proposal
}

// proposal is one that a goroutine of this member waits for.
type proposal struct {
	sealed   []byte           // the command
	prepared *ledger.Prepared // nil: not
	done     chan struct{}    // closed when result or lost is set
	result   ledger.Result
	lost     bool // its entry, if there was one, came in by a snapshot: what became of it is not known
}

func newFSM(book *ledger.Store, fail func(error)) *fsm {
	return &fsm{book: book, fail: fail, moved: make(chan struct{}), proposed: map[proposalID]*proposal{}}
}

func (f *fsm) expect(id proposalID, sealed []byte, prepared *ledger.Prepared) *proposal {
	p := &proposal{sealed: sealed, prepared: prepared, done: make(chan struct{})}
	f.mu.Lock()
	f.proposed[id] = p
	f.mu.Unlock()
	return p
}

func (f *fsm) forget(id proposalID) {
	f.mu.Lock()
	delete(f.proposed, id)
	f.mu.Unlock()
}

// Apply is ApplyBatch of one entry.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries in one commit of the store, as far as that can hold them. Each response is a
// ledger.Result, or an error where this member cannot go on; it then applies nothing more.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	entries := make([]ledger.Entry, 0, len(logs))
	ids := make([]proposalID, 0, len(logs))
	from := make([]int, 0, len(logs))
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		id, sealed, err := unpackEntry(l.Data)
		if err != nil {
			err = fmt.Errorf("entry %d: %w", l.Index, err)
			f.fail(err)
			responses[i] = err
			return responses
		}
		if sealed == nil {
			responses[i] = ledger.Result{Code: ledger.OK, Index: l.Index}
			continue
		}
		entries = append(entries, ledger.Entry{Index: l.Index, Term: l.Term, Data: sealed})
		ids, from = append(ids, id), append(from, i)
	}
	var results []ledger.Result
	if len(entries) > 0 {
		f.prepare(ids, entries)
		var err error
		if results, err = f.book.ApplyBatch(entries); err != nil {
			f.fail(err)
			for _, i := range from {
				responses[i] = err
			}
			return responses
		}
		for n, i := range from {
			responses[i] = results[n]
		}
	}
	f.settle(logs[len(logs)-1].Index, ids, results)
	return responses
}

// prepare finds out which entries this member has proposed and prepared.
func (f *fsm) prepare(ids []proposalID, entries []ledger.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, id := range ids {
		// An id is not forged by mistake; but what is applied is what was agreed on, whatever its id.
		if p := f.proposed[id]; p != nil && bytes.Equal(p.sealed, entries[i].Data) {
			entries[i].Prepared = p.prepared
		}
	}
}

// settle tells waiting proposers their results, and whoever waits for the index.
func (f *fsm) settle(index uint64, ids []proposalID, results []ledger.Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, id := range ids {
		if p := f.proposed[id]; p != nil {
			p.result = results[i]
			p.lost = results[i].Code == ledger.Skipped
			delete(f.proposed, id)
			close(p.done)
		}
	}
	f.move(index)
}

// move notes how far the book is. The lock is held.
func (f *fsm) move(index uint64) {
	f.applied = index
	close(f.moved)
	f.moved = make(chan struct{})
}

// Applied returns raft's index of the last entry taken in.
func (f *fsm) Applied() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied
}

// waitApplied waits until the entry is in the book, or one of the contexts ends: then it returns false.
func (f *fsm) waitApplied(ctx, also context.Context, index uint64) bool {
	for {
		f.mu.Lock()
		applied, moved := f.applied, f.moved
		f.mu.Unlock()
		if applied >= index {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		case <-also.Done():
			return false
		}
	}
}

// Snapshot costs nothing; the book is read when raft persists it.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	s, err := f.book.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("snapshot of the ledger: %w", err)
	}
	return snapshot{s}, nil
}

// Restore replaces the book by what a leader sent, or by the newest snapshot on disk.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := f.book.Restore(r); err != nil {
		return fmt.Errorf("restore the ledger: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.move(f.book.AppliedIndex())
	for id, p := range f.proposed {
		p.lost = true
		delete(f.proposed, id)
		close(p.done)
	}
	return nil
}

type snapshot struct{ *ledger.Snapshot }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.Write(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}
