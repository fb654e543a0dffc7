package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/ekiden-mta/ekiden/mail"
)

// lineage is what a standby has of one queue: a log of blocks in segments, and in memory where each live record lies.
//
// A generation begins with each fill. While one is filled, the records of the ones before (old) still count where no later
// one, here or at another standby, has a word on a key; when it is full, the old ones and their segments go.
type lineage struct {
	id    mail.Lineage
	dir   string
	size  int64 // of a segment
	log   *slog.Logger
	names *digester

	dirty   chan struct{} // capacity 1: something was written that is not synced
	done    chan struct{} // closed when the syncer has ended
	rotated func()        // tells the store that there may be something to collect

	syncing sync.Mutex // one sync at a time, and what follows from it

	mu       sync.Mutex
	epoch    uint64 // the fence, durable
	segs     []*segment
	tail     *os.File     // the last of segs; nil: none yet
	cur      *layer       // nil: nothing was ever shipped
	old      []generation // that still count, the latest first
	begun    uint32       // first segment of cur's generation
	headless bool         // while it is read: the generation's begin is in no segment any more
	known    progress     // as written
	synced   progress     // as acknowledged
	session  *session     // the owner's connection
	closed   bool
	err      error // a write or a sync failed: nothing is taken any more
}

// progress is how far a generation has come.
type progress struct {
	run, high, fill uint64
	full            bool
}

// generation is an earlier fill and what was shipped after it.
type generation struct {
	*layer
	Generation
}

// removable is the last segment that nobody needs once what is written is on disk; 0: none.
type removable uint32

// Errors of a standby.
var (
	// ErrOrder: a frame does not follow the one before, or a fill is not what was announced.
	ErrOrder = errors.New("frame out of order")
	// ErrClosed: the store or the shipper was closed.
	ErrClosed = errors.New("replica closed")
)

// take writes blocks of the owner and brings the index up to date. raw slices of blocks that follow one another are
// adjacent in memory. Nothing is acknowledged here.
func (l *lineage) take(from *session, blocks []block) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(from); err != nil {
		return err
	}
	from.sent = true
	for len(blocks) > 0 && blocks[0].kind == kindFrame && blocks[0].number <= l.known.high {
		blocks = blocks[1:] // sent again after a lost connection
	}
	for len(blocks) > 0 {
		n, size, err := l.run(blocks)
		if err != nil {
			return err
		}
		if l.tail == nil || blocks[0].kind == kindBegin || l.last().size+size > l.size && l.last().size > l.size/2 {
			if err := l.rotate(); err != nil {
				return err
			}
		}
		off := l.last().size
		raw := blocks[0].raw[:size]
		if blocks[0].kind == kindFill {
			raw = l.unknown(&blocks[0])
		}
		if err := l.write(raw); err != nil {
			return err
		}
		for i := range blocks[:n] {
			l.apply(l.last(), off, &blocks[i])
			off += int64(len(blocks[i].raw))
		}
		blocks = blocks[n:]
	}
	l.wake()
	return nil
}

// usable tells why nothing can be taken from a connection.
func (l *lineage) usable(from *session) error {
	switch {
	case l.err != nil:
		return l.err
	case l.closed:
		return ErrClosed
	case from.epoch < l.epoch:
		return &RefusedError{Epoch: l.epoch, Why: "the lineage has another owner"}
	case l.session != from:
		return fmt.Errorf("%w: the owner has a newer connection", ErrOrder)
	}
	return nil
}

// run returns how many blocks, and octets, may go to disk in one write, and that they follow what is there.
func (l *lineage) run(blocks []block) (n int, size int64, err error) {
	next := l.known
	for i := range blocks {
		b := &blocks[i]
		if b.epoch != l.epoch {
			return 0, 0, fmt.Errorf("%w: block of epoch %d at %d", ErrOrder, b.epoch, l.epoch)
		}
		alone := b.kind == kindBegin || b.kind == kindFill || blocks[0].kind == kindFill
		if i > 0 && (alone || size+int64(len(b.raw)) > l.size) {
			return i, size, nil
		}
		ok := true
		switch b.kind {
		case kindBegin:
			ok = len(b.payload) == 8 && b.number > 0
			next = progress{high: b.number - 1}
		case kindFrame:
			ok = (l.cur != nil || i > 0) && b.number == next.high+1
			next.high++
		case kindFill:
			ok = (l.cur != nil || i > 0) && !next.full && b.number == next.fill+1
			next.fill++
		case kindFull:
			ok = (l.cur != nil || i > 0) && !next.full && b.number == next.fill && len(b.payload) == 0
			next.full = true
		default:
			ok = false
		}
		if !ok {
			return 0, 0, fmt.Errorf("%w: kind %d, number %d after %d", ErrOrder, b.kind, b.number, l.known.high)
		}
		size += int64(len(b.raw))
	}
	return len(blocks), size, nil
}

// unknown leaves in a chunk of a fill what the generation has no word on: what came since is newer, and what was deleted
// since stays so. So the log holds only what takes effect, and its order alone tells the truth.
func (l *lineage) unknown(b *block) []byte {
	out, dropped := beginBlock(nil), false
	for p := b.payload; len(p) > 0; {
		op, rest, err := cutOp(p)
		if err != nil {
			break // checked before
		}
		if l.cur.knows(l.names.of(op.Key)) {
			dropped = true
		} else {
			out = append(out, p[:len(p)-len(rest)]...)
		}
		p = rest
	}
	if !dropped {
		return b.raw
	}
	out = endBlock(out, b.kind, b.epoch, b.number)
	b.raw, b.payload = out, out[headerSize:]
	return out
}

func (l *lineage) last() *segment { return l.segs[len(l.segs)-1] }

// wake tells the syncer. l.mu is held.
func (l *lineage) wake() {
	if l.closed {
		return
	}
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

// fail ends the lineage's service: after a failed write or sync nothing proves what is on disk.
func (l *lineage) fail(err error) error {
	if l.err == nil {
		l.err = l.named(err)
		l.log.Error("replica failed: restart to use it again", "lineage", l.id, "error", err)
	}
	return l.err
}

// named says which lineage an error is about.
func (l *lineage) named(err error) error { return fmt.Errorf("replica of %08x: %w", uint32(l.id), err) }

// write appends whole blocks to the tail. What a full disk cut short is taken off again: the owner sends it anew when there
// is room.
func (l *lineage) write(raw []byte) error {
	n, err := l.tail.Write(raw)
	if err != nil {
		if short := l.tail.Truncate(l.last().size); short != nil {
			return l.fail(errors.Join(err, short))
		}
		return l.named(err)
	}
	l.last().size += int64(n)
	return nil
}

// rotate syncs the tail, ends it, and begins the next segment. Where there is no room for that, the tail stays.
func (l *lineage) rotate() error {
	id := uint32(1)
	if len(l.segs) > 0 {
		id = l.last().id + 1
	}
	if l.tail != nil {
		if err := l.tail.Sync(); err != nil {
			return l.fail(err)
		}
	}
	path := segmentPath(l.dir, id)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return l.named(err)
	}
	head := segmentHead{lineage: l.id, progress: l.known}
	n, err := f.Write(head.encode(nil, l.epoch))
	if err != nil {
		if left := errors.Join(f.Close(), os.Remove(path)); left != nil {
			return l.fail(errors.Join(err, left))
		}
		return l.named(err)
	}
	if l.tail != nil {
		if err := l.tail.Close(); err != nil {
			return l.fail(errors.Join(err, f.Close()))
		}
	}
	l.tail = f
	l.segs = append(l.segs, &segment{id: id, size: int64(n)})
	l.rotated()
	if err := syncDir(l.dir); err != nil {
		return l.fail(err)
	}
	return nil
}

// segment returns the segment of an id; segs has no holes.
func (l *lineage) segment(id uint32) *segment { return l.segs[id-l.segs[0].id] }

// apply brings the index up to date with a block at off of seg, when it is taken and when it is read again.
func (l *lineage) apply(seg *segment, off int64, b *block) {
	switch b.kind {
	case kindBegin:
		l.begin(seg)
		l.known = progress{run: binary.BigEndian.Uint64(b.payload), high: b.number - 1}
	case kindFrame:
		l.known.high = b.number
		l.changes(seg, off, b.payload)
	case kindFill:
		l.known.fill = b.number
		l.changes(seg, off, b.payload)
	case kindCopy:
		l.changes(seg, off, b.payload)
	case kindFull:
		l.known.full = true
		l.cur.dead, l.old = nil, nil
	}
}

// changes walks the changes of a payload.
func (l *lineage) changes(seg *segment, off int64, payload []byte) {
	off += headerSize
	for len(payload) > 0 {
		op, rest, err := cutOp(payload)
		if err != nil {
			return // checked before it was written, and by its checksum since
		}
		size := len(payload) - len(rest)
		d := l.names.of(op.Key)
		if op.Delete {
			l.unset(d)
		} else {
			l.set(d, loc{seg.id, uint32(off), uint32(size)})
		}
		off += int64(size)
		payload = rest
	}
}

func (l *lineage) set(d digest, at loc) {
	if was, ok := l.cur.live[d]; ok {
		l.segment(was.seg).live -= int64(was.size)
	} else if l.cur.dead != nil {
		delete(l.cur.dead, d)
	}
	l.cur.live[d] = at
	l.segment(at.seg).live += int64(at.size)
}

func (l *lineage) unset(d digest) {
	if was, ok := l.cur.live[d]; ok {
		l.segment(was.seg).live -= int64(was.size)
		delete(l.cur.live, d)
	}
	if l.cur.dead != nil {
		l.cur.dead[d] = struct{}{}
	}
}

// begin starts a generation in seg. What is known so far becomes an old one. Where fill after fill is not completed, the
// oldest of these are laid one over the other.
func (l *lineage) begin(seg *segment) {
	if l.cur != nil {
		l.old = slices.Insert(l.old, 0, generation{l.cur, Generation{High: l.known.high, Full: l.known.full}})
	}
	if last := len(l.old) - 1; last == maxOlder { // only the last may be full: what is laid together is not
		l.old[last-1].under(l.old[last-2].layer)
		l.old[last-1].High = l.old[last-2].High // late rather than not at all: what it alone knows must come
		l.old = slices.Delete(l.old, last-2, last-1)
	}
	l.cur = newLayer(false)
	l.begun = seg.id
}

// sync runs until the lineage is closed: one fsync for all that was written meanwhile, then one acknowledgement.
func (l *lineage) sync() {
	defer close(l.done)
	for range l.dirty {
		l.syncOnce()
	}
}

// syncOnce makes durable what is written now, tells the owner, and removes what is not needed any more.
func (l *lineage) syncOnce() {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	f, upTo, gone := l.tail, l.known, l.outlived()
	asker := l.session // one that sent nothing yet, or comes meanwhile, may be about to fill a new generation
	if asker != nil && !asker.sent {
		asker = nil
	}
	l.mu.Unlock()
	if f == nil {
		return
	}
	err := f.Sync()
	l.mu.Lock()
	if errors.Is(err, os.ErrClosed) {
		if l.tail != f && l.tail != nil {
			l.wake() // a new segment was begun, and what was in the old one synced with that
		}
		l.mu.Unlock()
		return
	}
	if err != nil {
		_ = l.fail(err)
	}
	s := l.session
	if l.err != nil {
		l.mu.Unlock()
		if s != nil {
			s.end()
		}
		return
	}
	l.synced = upTo
	l.mu.Unlock()
	if s != nil && s == asker {
		s.acknowledge(ack{high: upTo.high, fill: upTo.fill, full: upTo.full})
	}
	l.remove(gone)
}

// state is what others are told of the lineage. l.mu is held.
func (l *lineage) state() State {
	st := State{Epoch: l.epoch, Run: l.synced.run, High: l.synced.high, Full: l.synced.full && !l.damaged(),
		Damaged: l.damaged()}
	for _, g := range l.old {
		st.Older = append(st.Older, Generation{High: g.High, Full: g.Full && !st.Damaged})
	}
	return st
}

func (l *lineage) damaged() bool {
	for _, s := range l.segs {
		if s.damaged {
			return true
		}
	}
	return false
}
