package clock

import (
	"sync/atomic"
	"time"
)

// Boot is a clock that runs on while the machine is suspended and that nobody sets: the clock of leases. The zero value is
// ready and reads the machine's. A test may hold one node's back or make it run ahead. Safe for concurrent use.
type Boot struct{ offset atomic.Int64 }

// Now returns the time since an arbitrary moment before the process started. Only differences mean anything, and only
// on one machine.
func (b *Boot) Now() time.Duration { return BootTime() + time.Duration(b.offset.Load()) }

// Advance moves this clock by d, as a suspended machine would see it.
func (b *Boot) Advance(d time.Duration) { b.offset.Add(int64(d)) }
