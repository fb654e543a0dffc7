package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// ErrDisk means that the disk below raft's log did not answer in time, or answered with an error. The node steps down,
// votes for nobody and asks for no vote until the disk has answered again for a while.
var ErrDisk = errors.New("the raft log's disk does not answer")

// disk is what a log store keeps: raft's log and its vote. raft-wal and raft-boltdb both are one.
type disk interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// patientStore bounds every wait for the disk. hashicorp/raft waits for its stores without end, on the goroutine that would
// step down, while its heartbeats go on from others: a leader whose disk hangs stays leader for ever and commits nothing
// (hashicorp/raft#503, #612, #614). With an error after the time-out it steps down, and others elect another.
//
// All writes go through one goroutine in the order they were asked for. While one hangs the store is sick: every other write
// is refused at once, except the current term, which raft may not be refused (it panics) and which only waits in line:
// since what hangs is before it and what depends on it (a vote, an entry) is refused, nothing is promised that the disk
// might lose.
//
// A write given up on may still reach the disk, so raft's idea of its log is wrong from then on. The store stays sick until
// its line is worked off and Renew was called by somebody who has shut raft down and starts it anew from the disk.
//
// Reads are bounded as well; they come from the page cache or from raft's own cache and rarely reach the disk.
type patientStore struct {
	disk    disk
	timeout time.Duration
	log     *slog.Logger

	work chan func()   // to the writer
	done chan struct{} // closed by Close
	owed []byte        // the key of a term that could not be written, nil when nothing is owed; the writer's own
	term uint64        // that term: nothing else is written before it

	mu      sync.Mutex
	waiting int           // writes handed to the writer and not finished
	failed  error         // what the last finished write failed with; nil after one that succeeded
	lapsed  bool          // a write was given up on since Renew
	last    time.Duration // clock.BootTime of the latest time-out or error; 0 when there was none
}

// termsInLine is how many terms may wait behind a hanging write: elections are two seconds apart, so this is half an hour
// of them. After that the store blocks, as raft would without it.
const termsInLine = 1024

func newPatientStore(d disk, timeout time.Duration, log *slog.Logger) *patientStore {
	p := &patientStore{disk: d, timeout: timeout, log: log, work: make(chan func(), termsInLine), done: make(chan struct{})}
	go p.write()
	return p
}

func (p *patientStore) write() {
	for {
		select {
		case f := <-p.work:
			f()
		case <-p.done:
			return
		}
	}
}

// Sick tells whether a write hangs or the last one failed.
func (p *patientStore) Sick() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sick()
}

func (p *patientStore) sick() bool { return p.lapsed || p.failed != nil }

// Lapsed tells whether a write was given up on, and whether the line has been worked off since, so that raft may be
// started anew from what the disk holds.
func (p *patientStore) Lapsed() (lapsed, drained bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lapsed, p.waiting == 0
}

// Renew makes a store well whose line has been worked off. Raft must not be running.
func (p *patientStore) Renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == 0 {
		p.lapsed, p.failed = false, nil
	}
}

// SickWithin tells whether the disk has failed to answer within the last d: then the node asks for no votes, because a
// disk that hung once hangs again, and a candidate with a longer log would be elected again and again (raft#614).
func (p *patientStore) SickWithin(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sick() || p.last != 0 && clock.BootTime()-p.last < d
}

// do has f run in line and waits for it no longer than the time-out. A sick store takes nothing but what must be in line.
func (p *patientStore) do(what string, mustQueue bool, f func() error) error {
	answer := make(chan error, 1)
	p.mu.Lock()
	sick := p.sick()
	// A store whose last write failed may be well again: one write at a time finds out.
	if sick && !mustQueue && (p.lapsed || p.waiting > 0) {
		p.mu.Unlock()
		return fmt.Errorf("%s: %w", what, ErrDisk)
	}
	p.waiting++
	p.mu.Unlock()
	job := func() {
		err := p.pay()
		if err == nil {
			err = f()
		}
		p.mu.Lock()
		p.waiting--
		p.failed = err
		if err != nil {
			p.last = clock.BootTime()
		}
		p.mu.Unlock()
		answer <- err
	}
	select {
	case p.work <- job:
	case <-p.done:
		return fmt.Errorf("%s: %w", what, ErrDisk)
	}
	if sick && mustQueue {
		return nil
	}
	return p.wait(what, mustQueue, answer)
}

// pay writes a term that is owed. A later one takes its place.
func (p *patientStore) pay() error {
	if p.owed == nil {
		return nil
	}
	err := p.disk.SetUint64(p.owed, p.term)
	if err == nil {
		p.owed = nil
	}
	return err
}

func (p *patientStore) wait(what string, mustQueue bool, answer chan error) error {
	timer := time.NewTimer(p.timeout)
	defer timer.Stop()
	select {
	case err := <-answer:
		if err != nil {
			p.log.Error("raft log: disk error", "op", what, "err", err)
			if mustQueue {
				return nil // the store is sick now; see patientStore
			}
			return fmt.Errorf("%s: %w: %w", what, ErrDisk, err)
		}
		return nil
	case <-timer.C:
	case <-p.done:
	}
	p.mu.Lock()
	select {
	case err := <-answer: // it came while the lock was awaited
		p.mu.Unlock()
		if mustQueue {
			return nil
		}
		return err
	default:
	}
	p.lapsed = true
	p.last = clock.BootTime()
	p.mu.Unlock()
	p.log.Error("raft log: the disk does not answer", "op", what, "waited", p.timeout)
	if mustQueue {
		return nil
	}
	return fmt.Errorf("%s: no answer in %v: %w", what, p.timeout, ErrDisk)
}

func (p *patientStore) StoreLog(l *raft.Log) error { return p.StoreLogs([]*raft.Log{l}) }

func (p *patientStore) StoreLogs(logs []*raft.Log) error {
	return p.do("store", false, func() error { return p.disk.StoreLogs(logs) })
}

func (p *patientStore) DeleteRange(from, to uint64) error {
	return p.do("delete", false, func() error { return p.disk.DeleteRange(from, to) })
}

func (p *patientStore) Set(key, value []byte) error {
	key, value = append([]byte(nil), key...), append([]byte(nil), value...)
	return p.do("set", false, func() error { return p.disk.Set(key, value) })
}

// SetUint64 keeps raft's current term, and the term of its last vote, which must come before the vote or not at all. The
// error of a term makes raft panic, so a term is queued instead.
func (p *patientStore) SetUint64(key []byte, value uint64) error {
	key = append([]byte(nil), key...)
	if string(key) != "CurrentTerm" {
		return p.do("set", false, func() error { return p.disk.SetUint64(key, value) })
	}
	// Owed from the moment the writer comes to it: what was owed before is older.
	return p.do("term", true, func() error { p.owed, p.term = key, value; return p.pay() })
}

func (p *patientStore) Get(key []byte) ([]byte, error) {
	return read(p, func() ([]byte, error) { return p.disk.Get(key) })
}

func (p *patientStore) GetUint64(key []byte) (uint64, error) {
	return read(p, func() (uint64, error) { return p.disk.GetUint64(key) })
}

func (p *patientStore) FirstIndex() (uint64, error) { return read(p, p.disk.FirstIndex) }
func (p *patientStore) LastIndex() (uint64, error)  { return read(p, p.disk.LastIndex) }

// GetLog reads into a log of its own, because a read given up on may still end one day.
func (p *patientStore) GetLog(index uint64, into *raft.Log) error {
	l, err := read(p, func() (raft.Log, error) {
		var l raft.Log
		err := p.disk.GetLog(index, &l)
		return l, err
	})
	if err == nil {
		*into = l
	}
	return err
}

// IsMonotonic passes on whether the store can hold no gaps, which raft must know to install snapshots.
func (p *patientStore) IsMonotonic() bool {
	m, ok := p.disk.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// Close stops the writer and closes the disk, waiting no longer than the time-out for either.
func (p *patientStore) Close() error {
	closed := make(chan error, 1)
	defer close(p.done)
	select {
	case p.work <- func() { closed <- p.disk.Close() }:
	default:
		return fmt.Errorf("close: %w", ErrDisk)
	}
	timer := time.NewTimer(p.timeout)
	defer timer.Stop()
	select {
	case err := <-closed:
		return err
	case <-timer.C:
		return fmt.Errorf("close: no answer in %v: %w", p.timeout, ErrDisk)
	}
}

type answered[T any] struct {
	value T
	err   error
}

// read runs f on a goroutine of its own, for no longer than the store's time-out.
func read[T any](p *patientStore, f func() (T, error)) (T, error) {
	answer := make(chan answered[T], 1)
	go func() {
		v, err := f()
		answer <- answered[T]{v, err}
	}()
	timer := time.NewTimer(p.timeout)
	defer timer.Stop()
	select {
	case a := <-answer:
		return a.value, a.err
	case <-timer.C:
		p.mu.Lock()
		p.last = clock.BootTime()
		p.mu.Unlock()
		var none T
		return none, fmt.Errorf("read: no answer in %v: %w", p.timeout, ErrDisk)
	}
}
