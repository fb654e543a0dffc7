package actors

import (
	"runtime"
	"sync"
)

// dispatcher runs actors on a few goroutines that stay: protoactor's own starts one for every wake-up, whose stack has
// to grow anew each time, which costs more than the step. Steps never block, so a few are enough.
type dispatcher struct {
	mu     sync.Mutex
	ready  sync.Cond
	queue  []func()
	head   int
	idle   int
	alive  int
	most   int
	closed bool
}

func newDispatcher() *dispatcher {
	d := &dispatcher{most: 2 * runtime.GOMAXPROCS(0)}
	d.ready.L = &d.mu
	return d
}

// Schedule implements protoactor's Dispatcher. It never blocks; what waits is bounded by the number of actors.
func (d *dispatcher) Schedule(f func()) {
	d.mu.Lock()
	if d.head > 1024 && d.head*2 > len(d.queue) {
		n := copy(d.queue, d.queue[d.head:])
		clear(d.queue[n:])
		d.queue, d.head = d.queue[:n], 0
	}
	d.queue = append(d.queue, f)
	switch {
	case d.idle > 0:
		d.idle--
		d.mu.Unlock()
		d.ready.Signal()
	case d.alive < d.most:
		d.alive++
		d.mu.Unlock()
		go d.work()
	default:
		d.mu.Unlock()
	}
}

// Throughput is how many messages an actor may handle before others get a turn.
func (d *dispatcher) Throughput() int { return 300 }

func (d *dispatcher) work() {
	d.mu.Lock()
	for {
		for d.head < len(d.queue) {
			f := d.queue[d.head]
			d.queue[d.head] = nil
			if d.head++; d.head == len(d.queue) {
				d.queue, d.head = d.queue[:0], 0
			}
			d.mu.Unlock()
			f()
			d.mu.Lock()
		}
		if d.closed {
			d.alive--
			d.mu.Unlock()
			return
		}
		d.idle++
		d.ready.Wait()
	}
}

// close lets the goroutines go once nothing is left to do. What is scheduled later still runs.
func (d *dispatcher) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.idle = 0
	d.ready.Broadcast()
}
