package replica

import (
	"errors"
	"os"
)

// records reads the log and calls live for each record that lives in a generation, or dead for each key that it knows to be
// deleted. Generation 0 is the current one, the older ones follow.
func (l *lineage) records(of int, live func(key, value []byte) error, dead func(key []byte) error) error {
	var picked []Op
	for last := uint32(0); ; {
		l.mu.Lock()
		var seg segment
		for _, s := range l.segs {
			if s.id > last {
				seg = *s
				break
			}
		}
		l.mu.Unlock()
		if seg.id == 0 {
			return nil
		}
		last = seg.id
		_, err := scanSegment(segmentPath(l.dir, seg.id), func(off int64, b *block) error {
			picked = l.pick(picked[:0], of, seg.id, off, b, dead != nil)
			for i := range picked {
				var err error
				if dead != nil {
					err = dead(picked[i].Key)
				} else {
					err = live(picked[i].Key, picked[i].Value)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		// A segment that is gone held nothing, or its records came to lie behind.
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
}

// pick selects the changes of a block that are a generation's latest word: of live records, or of deleted keys.
func (l *lineage) pick(dst []Op, of int, seg uint32, off int64, b *block, dead bool) []Op {
	if b.kind != kindFrame && b.kind != kindFill && b.kind != kindCopy {
		return dst
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.layer(of)
	if from == nil {
		return dst
	}
	off += headerSize
	for p := b.payload; len(p) > 0; {
		op, rest, err := cutOp(p)
		if err != nil {
			return dst
		}
		size := len(p) - len(rest)
		if op.Delete == dead {
			d := l.names.of(op.Key)
			at, lives := from.live[d]
			_, gone := from.dead[d]
			if dead && gone || !dead && lives && at == (loc{seg, uint32(off), uint32(size)}) {
				dst = append(dst, op)
			}
		}
		off += int64(size)
		p = rest
	}
	return dst
}

// layer returns that of a generation, nil where there is none (any more). l.mu is held.
func (l *lineage) layer(of int) *layer {
	switch {
	case of == 0:
		return l.cur
	case of <= len(l.old):
		return l.old[of-1].layer
	}
	return nil
}
