package sim

import "time"

// event is something that will happen.
type event struct {
	at    time.Time
	order int
	do    func()
}

func (e *event) before(o *event) bool {
	if e.at.Equal(o.at) {
		return e.order < o.order
	}
	return e.at.Before(o.at)
}

// agenda is a heap of events by time, then by the order they were made in.
type agenda []event

func (a *agenda) push(e event) {
	h := append(*a, e)
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
	*a = h
}

// pop takes the first event; there must be one.
func (a *agenda) pop() event {
	h := *a
	first, last := h[0], len(h)-1
	e := h[last]
	h[last] = event{}
	h = h[:last]
	*a = h
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
	return first
}
