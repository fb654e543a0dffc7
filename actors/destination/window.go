package destination

import (
	"github.com/ekiden-mta/ekiden/actors/protocol"
)

// ref is one waiting parcel in the order of the queue. It holds the key beside the pointer, so that ordering does not
// touch the parcel.
type ref struct {
	rank uint64 // 255 - priority, so that smaller is sooner
	due  int64  // Unix milliseconds
	seq  uint64
	p    *protocol.Parcel
}

func refTo(p *protocol.Parcel) ref {
	d := &p.Job.Delivery
	return ref{rank: uint64(255 - d.Priority), due: d.Due.UnixMilli(), seq: uint64(d.Seq), p: p}
}

// before is the order of the queue: priority (larger first), due time, Seq (requirement R35).
func (a *ref) before(b *ref) bool {
	if a.rank != b.rank {
		return a.rank < b.rank
	}
	if a.due != b.due {
		return a.due < b.due
	}
	return a.seq < b.seq
}

// window is a binary heap of what waits in memory. Mail that comes in order is appended and never moved.
type window []ref

func (w *window) push(r ref) {
	h := append(*w, r)
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !r.before(&h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = r
	*w = h
}

// pop takes the first one; the window must not be empty.
func (w *window) pop() *protocol.Parcel {
	h := *w
	first := h[0].p
	last := len(h) - 1
	r := h[last]
	h[last] = ref{}
	h = h[:last]
	if last > 0 {
		h.sink(0, r)
	}
	*w = h
	return first
}

// sink puts r into the hole at i, or below it.
func (w window) sink(i int, r ref) {
	for {
		child := 2*i + 1
		if child >= len(w) {
			break
		}
		if child+1 < len(w) && w[child+1].before(&w[child]) {
			child++
		}
		if !w[child].before(&r) {
			break
		}
		w[i] = w[child]
		i = child
	}
	w[i] = r
}

// filter keeps what keep says and restores the order.
func (w *window) filter(keep func(*protocol.Parcel) bool) {
	h := *w
	n := 0
	for i := range h {
		if keep(h[i].p) {
			h[n] = h[i]
			n++
		}
	}
	clear(h[n:])
	h = h[:n]
	for i := n/2 - 1; i >= 0; i-- {
		h.sink(i, h[i])
	}
	*w = h
}
