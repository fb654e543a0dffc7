package replica

// window keeps the latest frames: those somebody has yet to acknowledge, and as many older ones as fit, so that a
// standby whose connection broke goes on where it was. Not safe for concurrent use.
type window struct {
	limit  int    // octets
	bytes  int    // that the frames' buffers take
	next   uint64 // number of the next frame
	frames []*frame
	begin  int // of the ring in frames
	count  int
	spare  [][]byte
	turn   int // of spare: replaced next
}

// frame is an encoded block, and what it settles.
type frame struct {
	raw      []byte
	number   uint64
	readers  int    // connections that are writing it
	outcomes uint64 // of all frames up to this one
}

const (
	spareFrames = 16
	spareSize   = 1 << 20 // larger buffers are left to the collector of garbage
)

// buffer returns an empty buffer that a frame of size fits in: one that is spare and not much too large, for the window
// counts what its buffers take; else a new one.
func (w *window) buffer(size int) []byte {
	for i, b := range w.spare {
		if cap(b) >= size && cap(b) <= 2*size {
			last := len(w.spare) - 1
			w.spare[i], w.spare = w.spare[last], w.spare[:last]
			return b[:0]
		}
	}
	return make([]byte, 0, size+size/4)
}

// low is the number of the oldest frame kept; next where there is none.
func (w *window) low() uint64 { return w.next - uint64(w.count) }

// get returns frame n, nil where it is not kept.
func (w *window) get(n uint64) *frame {
	if n < w.low() || n >= w.next {
		return nil
	}
	return w.frames[(w.begin+int(n-w.low()))%len(w.frames)]
}

// room tells whether a frame whose buffer takes size fits, after frames below pinned made room.
func (w *window) room(size int, pinned uint64) bool {
	for w.count > 0 && w.bytes+size > w.limit && w.low() < pinned {
		f := w.frames[w.begin]
		w.frames[w.begin] = nil
		w.begin = (w.begin + 1) % len(w.frames)
		w.count--
		w.bytes -= cap(f.raw)
		if f.readers == 0 && cap(f.raw) <= spareSize {
			w.keep(f.raw)
		}
	}
	return w.count == 0 || w.bytes+size <= w.limit
}

// keep has b used again, in place of another where there are enough: the sizes follow those of the frames.
func (w *window) keep(b []byte) {
	if len(w.spare) < spareFrames {
		w.spare = append(w.spare, b)
		return
	}
	w.spare[w.turn] = b
	w.turn = (w.turn + 1) % spareFrames
}

// push appends frame next.
func (w *window) push(f *frame) {
	if w.count == len(w.frames) {
		grown := make([]*frame, max(64, 2*len(w.frames)))
		for i := range w.count {
			grown[i] = w.frames[(w.begin+i)%len(w.frames)]
		}
		w.frames, w.begin = grown, 0
	}
	w.frames[(w.begin+w.count)%len(w.frames)] = f
	w.count++
	w.bytes += cap(f.raw)
	w.next++
}
