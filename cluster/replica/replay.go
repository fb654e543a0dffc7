package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"github.com/ekiden-mta/ekiden/mail"
)

// fenceFile holds the epoch of a lineage: 8 octets, and their CRC-32C.
const fenceFile = "fence"

// openLineage opens or makes the directory of a lineage and reads its log.
func openLineage(s *Store, id mail.Lineage) (*lineage, error) {
	dir, log := filepath.Join(s.cfg.Dir, fmt.Sprintf("%08x", uint32(id))), s.cfg.Log
	l := &lineage{id: id, dir: dir, size: s.cfg.SegmentSize, names: &s.names, log: log, rotated: s.wakeCollector,
		dirty: make(chan struct{}, 1), done: make(chan struct{})}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	if err := l.readFence(); err != nil {
		return nil, err
	}
	if err := l.list(); err != nil {
		return nil, err
	}
	for i := 0; i < len(l.segs); i++ {
		if err := l.replay(i); err != nil {
			return nil, fmt.Errorf("read %s: %w", segmentPath(dir, l.segs[i].id), err)
		}
	}
	if l.headless && !l.known.full {
		l.segs[0].damaged = true // a generation is given up from its head on only when it is full
	}
	if l.damaged() {
		log.Error("replica damaged: what can be read is kept until the owner fills it anew", "lineage", id)
	}
	// What was replayed was written before; whether it was synced then is not known.
	if l.tail != nil {
		if err := l.tail.Sync(); err != nil {
			return nil, err
		}
	}
	l.synced = l.known
	l.syncing.Lock()
	l.remove(l.outlived())
	l.syncing.Unlock()
	go l.sync()
	return l, nil
}

// list finds the segments. One that is missing between others stands in the list as damaged.
func (l *lineage) list() error {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	var ids []uint32
	for _, e := range entries {
		if id, ok := parseSegmentName(e.Name()); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if len(ids) > 0 && ids[len(ids)-1]-ids[0] > maxSegments {
		return fmt.Errorf("segments %08x to %08x in %s cannot be of one log", ids[0], ids[len(ids)-1], l.dir)
	}
	for _, id := range ids {
		for len(l.segs) > 0 && l.last().id+1 < id {
			l.segs = append(l.segs, &segment{id: l.last().id + 1, damaged: true})
		}
		l.segs = append(l.segs, &segment{id: id})
	}
	return nil
}

// maxSegments bounds a log: 64 TiB with the default size.
const maxSegments = 1 << 20

// replay reads segment i of the list. A torn end of the last one is cut off: it was never acknowledged.
func (l *lineage) replay(i int) error {
	seg := l.segs[i]
	if seg.damaged {
		return nil
	}
	path := segmentPath(l.dir, seg.id)
	found, err := scanSegment(path, func(off int64, b *block) error {
		if err := l.replayBlock(seg, off, b); err != nil {
			seg.damaged = true
			l.log.Error("replica: block does not fit", "lineage", l.id, "segment", seg.id, "offset", off, "error", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	seg.size = info.Size()
	last := i == len(l.segs)-1
	if found.bad != nil && (!last || found.after) {
		seg.damaged = true
		l.log.Error("replica: segment damaged", "lineage", l.id, "segment", seg.id, "offset", found.end, "error", found.bad)
	}
	if !last {
		return nil
	}
	if found.bad != nil && !found.after {
		l.log.Warn("replica: torn end of the log cut off", "lineage", l.id, "segment", seg.id, "offset", found.end,
			"octets", seg.size-found.end)
		if found.end == 0 { // begun and not even its head written
			l.segs = l.segs[:i]
			if err := os.Remove(path); err != nil || i == 0 {
				return err
			}
			return l.openTail()
		}
		if err := os.Truncate(path, found.end); err != nil {
			return err
		}
		seg.size = found.end
	}
	return l.openTail()
}

func (l *lineage) openTail() error {
	if l.last().damaged && l.last().size == 0 {
		return nil
	}
	f, err := os.OpenFile(segmentPath(l.dir, l.last().id), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l.tail = f
	return nil
}

// replayBlock applies a block of a segment, and tells where it does not continue what came before.
func (l *lineage) replayBlock(seg *segment, off int64, b *block) error {
	var gap error
	switch b.kind {
	case kindHead:
		h, err := parseSegmentHead(b)
		if err != nil {
			return err
		}
		if h.lineage != l.id {
			return fmt.Errorf("segment of lineage %d", uint32(h.lineage))
		}
		return l.replayHead(seg, &h)
	case kindBegin:
		if len(b.payload) != 8 || b.number == 0 {
			return fmt.Errorf("%w: begin of a fill", ErrMalformed)
		}
		l.headless = false
	case kindFrame:
		if l.cur != nil && b.number != l.known.high+1 {
			gap = fmt.Errorf("%w: frame %d after %d", ErrOrder, b.number, l.known.high)
		}
	case kindFill:
		if l.cur != nil && b.number != l.known.fill+1 {
			gap = fmt.Errorf("%w: chunk %d after %d", ErrOrder, b.number, l.known.fill)
		}
	case kindFull, kindCopy:
	case kindClose:
		return nil
	default:
		return fmt.Errorf("%w: kind %d in a segment", ErrMalformed, b.kind)
	}
	if l.cur == nil && b.kind != kindBegin { // the head or the begin is lost
		l.cur, l.begun = newLayer(false), seg.id
		gap = errors.Join(gap, fmt.Errorf("%w: changes before a begin", ErrOrder))
	}
	if b.kind == kindFrame || b.kind == kindFill || b.kind == kindCopy {
		if err := checkOps(b.payload); err != nil {
			return err
		}
	}
	l.apply(seg, off, b)
	return gap
}

// replayHead takes the state from the head of the first segment. The others repeat what is known.
func (l *lineage) replayHead(seg *segment, h *segmentHead) error {
	if seg == l.segs[0] && l.cur == nil {
		if h.run != 0 {
			l.cur, l.begun, l.known = newLayer(h.full), seg.id, h.progress
			l.headless = true
		}
		return nil
	}
	if h.progress != l.known {
		err := fmt.Errorf("%w: segment begins at frame %d after %d", ErrOrder, h.high, l.known.high)
		if h.run != 0 && l.cur != nil {
			l.known = h.progress
		}
		return err
	}
	return nil
}

func (l *lineage) readFence() error {
	b, err := os.ReadFile(filepath.Join(l.dir, fenceFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(b) != 12 || binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(b[:8], castagnoli) {
		// Taking it for 0 would let an owner in that was fenced off.
		return fmt.Errorf("%w: %s; give the lineage up with its directory, or restore the file", ErrChecksum,
			filepath.Join(l.dir, fenceFile))
	}
	l.epoch = binary.BigEndian.Uint64(b)
	return nil
}

// writeFence makes an epoch durable. l.mu is held.
func (l *lineage) writeFence(epoch uint64) error {
	b := binary.BigEndian.AppendUint64(nil, epoch)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	path := filepath.Join(l.dir, fenceFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(l.dir)
	}
	if err != nil {
		return fmt.Errorf("write fence: %w", err)
	}
	l.epoch = epoch
	return nil
}
