package replica

import (
	"errors"
	"os"
)

// records reads the log and calls live for each record that lives, or dead for each key known to be deleted.
func (l *lineage) records(live func(key, value []byte) error, dead func(key []byte) error) error {
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
			picked = l.pick(picked[:0], seg.id, off, b, dead != nil)
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

// pick selects the changes of a block that are the latest word: of live records, or of deleted keys.
func (l *lineage) pick(dst []Op, seg uint32, off int64, b *block, dead bool) []Op {
	if b.kind != kindFrame && b.kind != kindFill && b.kind != kindCopy {
		return dst
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur == nil {
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
			if dead && l.isDead(d) || !dead && l.livesAt(d, loc{seg, uint32(off), uint32(size)}) {
				dst = append(dst, op)
			}
		}
		off += int64(size)
		p = rest
	}
	return dst
}

func (l *lineage) livesAt(d digest, at loc) bool {
	if was, ok := l.cur.live[d]; ok {
		return was == at
	}
	if _, gone := l.cur.dead[d]; gone || l.old == nil {
		return false
	}
	was, ok := l.old.live[d]
	return ok && was == at
}

func (l *lineage) isDead(d digest) bool {
	if _, ok := l.cur.live[d]; ok {
		return false
	}
	if _, ok := l.cur.dead[d]; ok {
		return true
	}
	if l.old == nil {
		return false
	}
	_, ok := l.old.dead[d]
	return ok
}
