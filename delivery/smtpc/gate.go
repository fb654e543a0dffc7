package smtpc

import (
	"fmt"
	"sync"
	"time"
)

// gate keeps rule D6 of a connection: no final dot before every earlier outcome is durable.
//
// A session that has its next write ready and only waits for the gate arms it and waits in the socket read, where it
// has to wait for the reply anyway. The goroutine that reports the last outcome durable then makes the write itself:
// one park and one wake less per message. What happened meanwhile is told apart by the state, under the mutex.
//
//	idle ──arm──▶ armed ──last outcome durable──▶ firing ──▶ written | stuck
//	                └──disarm, when the read ends first──▶ idle
type gate struct {
	mu      sync.Mutex
	cond    sync.Cond // firing is over
	pending int       // outcomes handed over and not yet durable
	err     error     // the store failed
	state   gateState
	wake    chan struct{} // for a session that waits without arming; nil = nobody waits
}

type gateState uint8

const (
	gateIdle gateState = iota
	gateArmed
	gateFiring
	gateWritten // the whole write is out
	gateStuck   // the session has to see to it: not cleared, store failed, or the socket did not take it all
)

// past is a deadline that ends a read at once.
var past = time.Unix(1, 0)

// expect counts an outcome that is about to be handed over.
func (g *gate) expect() {
	g.mu.Lock()
	g.pending++
	g.mu.Unlock()
}

// failure returns the error of the store, or nil.
func (g *gate) failure() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// wait blocks until the gate is open or the store failed.
func (g *gate) wait() error {
	for {
		g.mu.Lock()
		if err := g.err; g.pending <= 0 || err != nil {
			g.mu.Unlock()
			return err
		}
		if g.wake == nil {
			g.wake = make(chan struct{}, 1)
		}
		g.mu.Unlock()
		<-g.wake
	}
}

// fail ends every wait at this gate for good.
func (g *gate) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	g.rouse()
}

// rouse wakes a session that waits without having armed. The mutex is held.
func (g *gate) rouse() {
	if g.wake != nil {
		select {
		case g.wake <- struct{}{}:
		default:
		}
	}
}

// isOpen tells whether nothing is in the way of a final dot.
func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pending <= 0
}

// arm leaves the next write to the goroutine that opens the gate. False: the gate is open already.
func (g *gate) arm() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pending <= 0 || g.err != nil {
		return false
	}
	g.state = gateArmed
	return true
}

// disarm takes the write back after the session's read ended, and returns the state it found: gateArmed if nothing
// was written.
func (g *gate) disarm() gateState {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.state == gateFiring {
		g.cond.Wait()
	}
	state := g.state
	g.state = gateIdle
	return state
}

// onDurable is told that one outcome is durable, or that the store failed. It does not block.
func (s *Session) onDurable(err error) {
	g := &s.gate
	g.mu.Lock()
	g.pending--
	if err != nil && g.err == nil {
		g.err = fmt.Errorf("store: %w", err)
	}
	if g.pending > 0 && g.err == nil {
		g.mu.Unlock()
		return
	}
	if g.state != gateArmed {
		g.rouse()
		g.mu.Unlock()
		return
	}
	g.state = gateFiring
	failed := g.err != nil
	g.mu.Unlock()

	// The session's goroutine is in its read, or waits in disarm; its fields are ours until the state changes.
	done := false
	if !failed {
		done = s.fire()
	}

	g.mu.Lock()
	g.state = gateWritten
	if !done {
		g.state = gateStuck
		_ = s.c.conn.SetReadDeadline(past) // wakes the session; under the mutex, so that no later read suffers
	}
	g.cond.Signal()
	g.mu.Unlock()
}

// fire asks for clearance and tries to write s.out at one go. It returns whether all of it is out; s.cleared and
// s.sent tell how far it came.
func (s *Session) fire() bool {
	if s.cleared = s.work.Clear(s.departing.job); !s.cleared {
		return false
	}
	if err := s.c.raw.Write(s.tryWrite); err != nil || s.sent < len(s.out) {
		return false
	}
	s.work.Sent(s.departing.job)
	return true
}
