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

// take moves the next batch to dst: what waits, up to the bounds of a commit.
func (in *inbox) take(dst []*request) []*request {
	in.mu.Lock()
	defer in.mu.Unlock()
	n, size := 0, 0
	for n < len(in.waiting) && n < maxBatch && (n == 0 || size+in.waiting[n].size <= maxBatchBytes) {
		size += in.waiting[n].size
		n++
	}
	dst = append(dst, in.waiting[:n]...)
	left := copy(in.waiting, in.waiting[n:])
	clear(in.waiting[left:])
	in.waiting = in.waiting[:left]
	in.bytes -= size
	if n > 0 {
		in.room.Broadcast()
	}
	return dst
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
