package replica

import (
	"errors"
	"os"
)

// The log is given up at its head only. A deletion is a change like any other and lies behind what it deletes, so as
// long as segments go in order no record can outlive its deletion. Where the head holds live records they are written
// again at the tail, but only when the whole log is more than twice what lives: then each octet copied frees one.

// copyChunk is how much is copied under one hold of the lock, octets.
const copyChunk = 256 << 10

// outlived is the last segment that no generation needs once what is written now is on disk. l.mu is held.
func (l *lineage) outlived() (last removable) {
	if !l.known.full {
		return 0
	}
	for _, seg := range l.segs[:max(len(l.segs)-1, 0)] {
		if seg.id >= l.begun && (seg.live != 0 || seg.damaged) {
			break
		}
		last = removable(seg.id)
	}
	return last
}

// remove deletes the segments up to last in order, each name durably gone before the next: their order is what keeps
// the dead dead. l.syncing is held.
func (l *lineage) remove(last removable) {
	for {
		l.mu.Lock()
		if l.closed || len(l.segs) < 2 || l.segs[0].id > uint32(last) {
			l.mu.Unlock()
			return
		}
		seg := l.segs[0]
		l.segs = l.segs[1:]
		l.mu.Unlock()
		err := os.Remove(segmentPath(l.dir, seg.id))
		if err == nil || errors.Is(err, os.ErrNotExist) {
			err = syncDir(l.dir)
		}
		if err != nil {
			l.mu.Lock()
			_ = l.fail(err)
			l.mu.Unlock()
			return
		}
	}
}

// sparse returns the head of the log where copying it is worth its while, else nil.
func (l *lineage) sparse() *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.err != nil || !l.known.full || len(l.segs) < 2 || l.damaged() {
		return nil
	}
	var size, live int64
	for _, s := range l.segs {
		size += s.size
		live += s.live
	}
	l.cur.shrink()
	if size-live <= live+2*l.size {
		return nil
	}
	return l.segs[0]
}

// collect copies the live records of the head to the tail and gives the head up, as long as that pays.
func (l *lineage) collect() error {
	for {
		seg := l.sparse()
		if seg == nil {
			return nil
		}
		c := copier{l: l, seg: seg}
		found, err := scanSegment(segmentPath(l.dir, seg.id), c.block)
		if err == nil && found.bad != nil {
			l.spoil(seg)
			err = found.bad
		}
		if err == nil {
			err = c.flush()
		}
		if err != nil {
			return err
		}
		l.syncOnce()
		l.mu.Lock()
		stays := l.segs[0] == seg
		l.mu.Unlock()
		if stays {
			return nil // the lineage failed, or a new generation was begun meanwhile
		}
	}
}

// spoil marks a segment as damaged and lets the owner come again, who then fills the lineage anew.
func (l *lineage) spoil(seg *segment) {
	l.mu.Lock()
	seg.damaged = true
	s := l.session
	l.mu.Unlock()
	if s != nil {
		s.end()
	}
}

// copier gathers the changes of a segment that are still the latest word.
type copier struct {
	l   *lineage
	seg *segment
	ops []byte
	at  []loc // where each of ops lies now
}

func (c *copier) block(off int64, b *block) error {
	if b.kind != kindFrame && b.kind != kindFill && b.kind != kindCopy {
		return nil
	}
	off += headerSize
	for p := b.payload; len(p) > 0; {
		_, rest, err := cutOp(p)
		if err != nil {
			return err
		}
		size := len(p) - len(rest)
		if p[0] == opSet {
			c.ops = append(c.ops, p[:size]...)
			c.at = append(c.at, loc{c.seg.id, uint32(off), uint32(size)})
		}
		off += int64(size)
		p = rest
		if len(c.ops) >= copyChunk {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes what lives of the gathered changes to the tail.
func (c *copier) flush() error {
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.err != nil || l.tail == nil || !l.known.full {
		return ErrClosed
	}
	b := beginBlock(nil)
	rest := c.ops
	for _, at := range c.at {
		op, next, err := cutOp(rest)
		if err != nil {
			return err
		}
		if l.cur.live[l.names.of(op.Key)] == at {
			b = append(b, rest[:at.size]...)
		}
		rest = next
	}
	c.ops, c.at = c.ops[:0], c.at[:0]
	if len(b) == headerSize {
		return nil
	}
	if l.last().size+int64(len(b)) > l.size && l.last().size > l.size/2 {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	raw := endBlock(b, kindCopy, l.epoch, 0)
	off := l.last().size
	if err := l.write(raw); err != nil {
		return err
	}
	blk, err := cutBlock(raw)
	if err != nil {
		return err
	}
	l.apply(l.last(), off, &blk)
	return nil
}
