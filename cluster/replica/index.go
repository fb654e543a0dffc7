package replica

import (
	"encoding/binary"
	"hash/maphash"
)

// digest stands for a key in memory. 96 bits of a hash seeded per process: among ten million keys two meet with a
// chance of 1e-15, and nobody outside can aim at it.
type digest [3]uint32

// digester makes digests. They mean nothing outside their digester.
type digester struct{ a, b maphash.Seed }

func newDigester() digester { return digester{maphash.MakeSeed(), maphash.MakeSeed()} }

func (d *digester) of(key []byte) digest {
	var w [12]byte
	binary.LittleEndian.PutUint64(w[:], maphash.Bytes(d.a, key))
	binary.LittleEndian.PutUint32(w[8:], uint32(maphash.Bytes(d.b, key)))
	return digest{binary.LittleEndian.Uint32(w[:]), binary.LittleEndian.Uint32(w[4:]), binary.LittleEndian.Uint32(w[8:])}
}

// loc is where a record's latest change lies: segment, offset of the change, its size in octets.
type loc struct{ seg, off, size uint32 }

// layer is the records of one generation: what came since a fill began. 24 octets per live key and slot, so 28 to 57
// with what the map leaves free.
type layer struct {
	live map[digest]loc
	dead map[digest]struct{} // deleted since the fill began; nil: the layer is full and need not know
	peak int                 // most live keys since the map was made
}

func newLayer(full bool) *layer {
	l := &layer{live: map[digest]loc{}}
	if !full {
		l.dead = map[digest]struct{}{}
	}
	return l
}

// knows tells whether the layer has the last word on a key.
func (l *layer) knows(d digest) bool {
	if _, ok := l.live[d]; ok {
		return true
	}
	_, ok := l.dead[d]
	return ok
}

// under lays a later layer over this one.
func (l *layer) under(later *layer) {
	for d, at := range later.live {
		l.live[d] = at
		delete(l.dead, d)
	}
	for d := range later.dead {
		delete(l.live, d)
		if l.dead != nil {
			l.dead[d] = struct{}{}
		}
	}
}

// shrink gives memory back after the queue drained: a map keeps the size it once had.
func (l *layer) shrink() {
	l.peak = max(l.peak, len(l.live))
	if l.peak < 1<<16 || len(l.live) > l.peak/4 {
		return
	}
	fresh := make(map[digest]loc, len(l.live))
	for d, at := range l.live {
		fresh[d] = at
	}
	l.live, l.peak = fresh, len(fresh)
}
