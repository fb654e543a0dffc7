// Package clock is the only place that reads the time. Product time (retries, schedules, windows, retention) comes
// from a Clock, which tests may steer; network time-outs use Wall, which nothing steers.
//
// It must never know mail, and nothing else in the house may call time.Now.
package clock

import (
	"sync"
	"sync/atomic"
	"time"
)

// Wall returns the machine's time. For network deadlines and measurements only; decisions use a Clock.
func Wall() time.Time { return time.Now() }

// Since returns the monotonic time passed since t, which Wall returned.
func Since(t time.Time) time.Duration { return time.Since(t) }

// Clock is the product clock: the machine's time plus an offset that tests set. It runs at real pace.
// The zero value is ready and shows the machine's time. Safe for concurrent use.
type Clock struct {
	offset atomic.Int64
	mu     sync.Mutex
	timers map[*Timer]struct{}
}

// Now returns the product time.
func (c *Clock) Now() time.Time {
	off := c.offset.Load()
	if off == 0 {
		return time.Now()
	}
	return time.Now().Add(time.Duration(off))
}

// Set makes the clock show t from now on; timers that are due by then fire at once.
func (c *Clock) Set(t time.Time) { c.shift(time.Until(t)) }

// Advance moves the clock by d, forward or back.
func (c *Clock) Advance(d time.Duration) { c.shift(time.Duration(c.offset.Load()) + d) }

func (c *Clock) shift(offset time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset.Store(int64(offset))
	for t := range c.timers {
		t.t.Reset(max(0, t.at.Sub(c.Now())))
	}
}

// Timer calls a function once when product time reaches a moment.
type Timer struct {
	c  *Clock
	at time.Time
	t  *time.Timer
}

// At arranges for f to be called, in a goroutine of its own, when product time reaches at.
func (c *Clock) At(at time.Time, f func()) *Timer {
	t := &Timer{c: c, at: at}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timers == nil {
		c.timers = map[*Timer]struct{}{}
	}
	c.timers[t] = struct{}{}
	t.t = time.AfterFunc(max(0, at.Sub(c.Now())), func() {
		c.mu.Lock()
		// A timer fires only when product time has come: the clock may have been set back since it was armed.
		if wait := t.at.Sub(c.Now()); wait > 0 {
			t.t.Reset(wait)
			c.mu.Unlock()
			return
		}
		_, live := c.timers[t]
		delete(c.timers, t)
		c.mu.Unlock()
		if live {
			f()
		}
	})
	return t
}

// Stop keeps the timer from firing; it may already be firing.
func (t *Timer) Stop() {
	if t == nil {
		return
	}
	t.c.mu.Lock()
	delete(t.c.timers, t)
	t.c.mu.Unlock()
	t.t.Stop()
}
