package sim

import "time"

// event is something that will happen.
type event struct {
	at    time.Duration // since the beginning
	order int
	slot  int // of what is to be done, in agenda.do
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.order < o.order }

// deed is what is to be done, and the incarnation of the node that it dies with; 0 = none. A session that is to come back
// from waiting is by far the most frequent, and needs no function.
type deed struct {
	node int
	do   func()
	rise *sess
	gen  int // of the wait it comes back from
}

// agenda is a heap of events by time, then by the order they were made in. It holds no pointers: events are moved about
// far more often than they are made, and the collector must not have to look on.
type agenda struct {
	heap []event
	do   []deed // by slot
	free []int  // slots
	made int
}

// push adds what is to be done at a moment since the beginning.
func (a *agenda) push(at time.Duration, do deed) {
	var slot int
	if n := len(a.free); n > 0 {
		slot, a.free = a.free[n-1], a.free[:n-1]
		a.do[slot] = do
	} else {
		slot = len(a.do)
		a.do = append(a.do, do)
	}
	a.made++
	e := event{at: at, order: a.made, slot: slot}
	h := append(a.heap, e)
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(&h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
	a.heap = h
}

// pop takes the first event; there must be one.
func (a *agenda) pop() (at time.Duration, do deed) {
	h := a.heap
	first, last := h[0], len(h)-1
	e := h[last]
	h = h[:last]
	a.heap = h
	for i := 0; i < last; {
		child := 2*i + 1
		if child+1 < last && h[child+1].before(&h[child]) {
			child++
		}
		if child >= last || !h[child].before(&e) {
			h[i] = e
			break
		}
		h[i] = h[child]
		i = child
	}
	do = a.do[first.slot]
	a.do[first.slot] = deed{}
	a.free = append(a.free, first.slot)
	return first.at, do
}
