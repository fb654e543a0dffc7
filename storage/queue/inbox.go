package queue

import (
	"errors"
	"sync"
)

// inbox is where requests wait for the committer.
type inbox struct {
	mu      sync.Mutex
	room    *sync.Cond
	waiting []*request
	bytes   int
	passed  bool          // nothing but outcomes went into the last batch, though others waited
	ended   bool          // nothing is taken any more
	closed  error         // refusal for everything that comes
	wake    chan struct{} // capacity 1: there may be something
}

// Crowded tells whether so much waits for the committer, half of what may, that who must not wait should not call Put now.
func (s *Store) Crowded() bool {
	in := &s.inbox
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.waiting) >= maxPending/2 || in.bytes > maxPendBytes/2
}

// submit hands r to the committer, waiting for room where too much is under way.
func (s *Store) submit(r *request) {
	in := &s.inbox
	in.mu.Lock()
	for in.closed == nil && len(in.waiting) > 0 && (len(in.waiting) >= maxPending || in.bytes > maxPendBytes) {
		in.room.Wait()
	}
	if err := in.closed; err != nil {
		in.mu.Unlock()
		r.done(err)
		return
	}
	in.waiting = append(in.waiting, r)
	in.bytes += r.size
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// push hands r to the committer without waiting for room: what was committed has to be ended, also while the store
// closes.
func (s *Store) push(r *request) {
	in := &s.inbox
	in.mu.Lock()
	if err := in.closed; in.ended || errors.Is(err, ErrFailed) {
		in.mu.Unlock()
		r.done(err)
		return
	}
	in.waiting = append(in.waiting, r)
	in.bytes += r.size
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// end makes later pushes fail, unless something waits.
func (in *inbox) end() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended = len(in.waiting) == 0
	return in.ended
}

// take moves the next batch to dst: what waits, up to the bounds of a commit. Where that is not all, outcomes go first, as far as half of a
// batch: a connection waits for each (rule D6), and behind large messages they would wait for several commits, so that mail went out more slowly
// than it came in. What an outcome is about has been committed, so that it may overtake whatever waits. Where nothing else fits beside them, the
// next batch is in plain order: nobody is passed over twice.
func (in *inbox) take(dst []*request) []*request {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.waiting) <= maxBatch && in.bytes <= maxBatchBytes {
		dst = append(dst, in.waiting...)
		clear(in.waiting)
		in.waiting, in.bytes, in.passed = in.waiting[:0], 0, false
	} else {
		if !in.passed {
			dst = in.pick(dst, maxBatch/2, maxBatchBytes/2, func(r *request) bool { return r.outcome })
		}
		outcomes := len(dst)
		dst = in.pick(dst, maxBatch, maxBatchBytes, func(*request) bool { return true })
		in.passed = outcomes > 0 && len(dst) == outcomes
	}
	if len(dst) > 0 {
		in.room.Broadcast()
	}
	return dst
}

// pick moves what is meant to batch, in order, up to so many requests and octets in all. One request may exceed the octets alone.
func (in *inbox) pick(batch []*request, most, octets int, meant func(*request) bool) []*request {
	size := 0
	for _, r := range batch {
		size += r.size
	}
	kept, full := in.waiting[:0], false
	for _, r := range in.waiting {
		m := meant(r)
		full = full || m && (len(batch) >= most || len(batch) > 0 && size+r.size > octets)
		if full || !m {
			kept = append(kept, r)
			continue
		}
		batch = append(batch, r)
		size += r.size
		in.bytes -= r.size
	}
	clear(in.waiting[len(kept):])
	in.waiting = kept
	return batch
}

// refuse makes every later request hear err. What waits stays for the committer.
func (in *inbox) refuse(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed == nil || errors.Is(err, ErrFailed) {
		in.closed = err
	}
	in.room.Broadcast()
}
