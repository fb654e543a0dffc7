package replica

import (
	"errors"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// event steps the machine with something that happened outside.
func (s *Shipper) event(e any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(e)
}

// advance steps the machine and wakes who has to act on it. s.mu is held.
func (s *Shipper) advance(e any) {
	held, settled, pinned := s.core.held, s.core.settled, s.core.pinned()
	s.todo = append(s.todo, s.core.step(clock.Wall(), e)...)
	if s.core.settled != settled {
		if f := s.win.get(s.core.settled); f != nil {
			s.settled = f.outcomes
		}
	}
	if s.core.pinned() != pinned || s.core.fenced {
		s.room.Signal()
	}
	moved := s.core.held != held || s.core.settled != settled
	if len(s.todo) > 0 || moved && !(s.holds.empty() && s.settles.empty()) {
		s.poke()
	}
}

// poke wakes the loop.
func (s *Shipper) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// loop runs the effects of the machine, ends waits, and lets time pass.
func (s *Shipper) loop() {
	defer s.ended.Done()
	beat := time.NewTicker(max(s.cfg.Patience/8, time.Millisecond))
	defer beat.Stop()
	var over []waiter
	for {
		select {
		case <-s.wake:
		case <-beat.C:
			s.event(tick{renewed: clock.Wall().Add(-s.cfg.Renewed())})
		case <-s.ctx.Done():
			s.finish()
			return
		}
		s.mu.Lock()
		todo := s.todo
		s.todo = nil
		for _, e := range todo {
			s.act(e)
		}
		s.mu.Unlock()
		for s.release(&over) {
		}
	}
}

// outcome is the end of a wait.
type outcome struct {
	exposed bool
	err     error
}

// release calls those whose wait is over; false where nobody's was.
func (s *Shipper) release(over *[]waiter) bool {
	var ends [64]outcome
	*over = (*over)[:0]
	s.mu.Lock()
	for _, q := range []*waiters{&s.holds, &s.settles} {
		for !q.empty() && len(*over) < len(ends) {
			exposed, err, ready := s.ready(q.first())
			if !ready {
				break
			}
			ends[len(*over)] = outcome{exposed, err}
			*over = append(*over, q.pop())
		}
	}
	s.busy = len(*over) > 0
	s.mu.Unlock()
	for i, w := range *over {
		if w.held != nil {
			w.held(ends[i].exposed, ends[i].err)
		} else {
			w.settled(ends[i].err)
		}
	}
	clear(*over)
	return len(*over) > 0
}

// act does what the machine decided. s.mu is held.
func (s *Shipper) act(e effect) {
	switch e := e.(type) {
	case dial:
		if old := s.lines[e.name]; old != nil {
			old.cancel()
		}
		l := newLine(s, e.name)
		s.lines[e.name] = l
		s.ended.Add(1)
		go l.run()
	case hangup:
		if l := s.lines[e.name]; l != nil {
			l.cancel()
			delete(s.lines, e.name)
		}
	case shorten:
		if e.short {
			s.cfg.Log.Warn("replica: too few standbys", "lineage", s.cfg.Lineage, "copies", s.cfg.Copies, "strict", s.cfg.Strict)
		} else {
			s.cfg.Log.Info("replica: standbys again", "lineage", s.cfg.Lineage, "exposed", s.exposed)
		}
		if f := s.cfg.OnDegraded; f != nil {
			s.later(func() { f(e.short) })
		}
	case tell:
		s.cfg.Log.Info("replica: full standbys", "lineage", s.cfg.Lineage, "members", e.full)
		if f := s.cfg.OnStandbys; f != nil {
			s.later(func() { f(e.full) })
		}
	case fence:
		s.cfg.Log.Error("replica: the lineage has another owner", "lineage", s.cfg.Lineage, "epoch", e.epoch)
		if f := s.cfg.OnFenced; f != nil {
			s.later(func() { f(e.epoch) })
		}
	}
}

// later queues a call of one of the owner's functions. s.mu is held.
func (s *Shipper) later(f func()) {
	s.calls = append(s.calls, f)
	select {
	case s.told <- struct{}{}:
	default:
	}
}

// caller calls the owner's functions, one at a time.
func (s *Shipper) caller() {
	defer s.ended.Done()
	for {
		select {
		case <-s.told:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		calls := s.calls
		s.calls = nil
		s.mu.Unlock()
		for _, f := range calls {
			f()
		}
	}
}

// finish ends every wait and connection.
func (s *Shipper) finish() {
	var over []waiter
	for s.release(&over) {
	}
	s.mu.Lock()
	for _, l := range s.lines {
		l.cancel()
	}
	s.mu.Unlock()
}

// Close ends all connections; who waits hears ErrClosed. Frames not acknowledged by then may or may not be held.
func (s *Shipper) Close() error {
	s.mu.Lock()
	s.closed = true
	s.room.Broadcast()
	s.mu.Unlock()
	s.cancel()
	s.ended.Wait()
	return nil
}

// Standby is how a candidate stands.
type Standby struct {
	Member string
	State  string // idle, dialing, filling, primed, full
	Acked  uint64 // last frame on its disk
}

// Status is what a shipper has to tell.
type Status struct {
	Next     uint64 // number of the next frame
	Held     uint64 // frames up to it are held, or were let go by policy
	Short    bool   // too few standbys: the policy acts
	Fenced   bool
	Exposed  uint64 // waits that ended exposed, since the start
	Unacked  uint64 // outcomes that no standby acknowledged
	Window   int    // octets of frames in memory
	Standbys []Standby
}

// Status tells how shipping stands.
func (s *Shipper) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Next: s.core.next, Held: s.core.held, Short: s.core.short, Fenced: s.core.fenced, Exposed: s.exposed,
		Unacked: s.outcomes - s.settled, Window: s.win.bytes}
	for _, name := range s.core.order {
		m := s.core.members[name]
		st.Standbys = append(st.Standbys, Standby{Member: name, State: m.state.String(), Acked: m.acked})
	}
	return st
}

// errGone: the machine gave a connection up.
var errGone = errors.New("the connection was given up")
