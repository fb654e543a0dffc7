package events

import (
	"context"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/record"
)

// The index records of many blocks are gathered into a segment: all their fingerprints with the blocks that hold them,
// cut by the leading bits of the fingerprint into shards of some hundred bytes. To look for one address in a day of a
// million events is to read a few dozen shards, not tens of thousands of index records. A segment never spans two days.

const (
	prefixSegment = 'w' // day (2) | first block (8) | shard (2); shard headShard tells how far the segment reaches

	segmentPrints  = 64 << 10 // fingerprints that make a segment
	shardPrints    = 64       // fingerprints of one shard, on average
	maxShardBits   = 10
	headShard      = 1<<16 - 1
	segmentVersion = 1
	maxSegment     = 1 << 20 // blocks, at most: one event each makes two fingerprints
)

// segment is what is kept in memory of one.
type segment struct {
	day         uint16
	shardBits   uint8
	first, last uint64 // blocks
	min, max    int64  // ms: times of its events
}

func (s *segment) shardOf(print uint32) uint16 { return uint16(uint64(print) >> (32 - s.shardBits)) }

func segmentKey(day uint16, first uint64, shard uint16) []byte {
	return binary.BigEndian.AppendUint16(key(prefixSegment, day, first), shard)
}

// segmentIdentity is what a shard is bound to.
func (l *Log) segmentIdentity(first uint64, shard uint16) []byte {
	return binary.BigEndian.AppendUint16(l.identity(nil, prefixSegment, first), shard)
}

// loadSegments reads the heads.
func (l *Log) loadSegments(txn *badger.Txn) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixSegment}})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		at, ok := parseKey(it.Item().Key()[:min(11, len(it.Item().Key()))])
		if !ok {
			continue
		}
		// The head is the last record of a segment: without it the segment was not written to its end.
		it.Seek(segmentKey(at.Day, at.Block, headShard))
		if !it.Valid() {
			return nil
		}
		sealed, err := it.Item().ValueCopy(nil)
		if err != nil {
			return err
		}
		s := segment{day: at.Day, first: at.Block}
		plain, err := l.ring.Open(nil, sealed, l.segmentIdentity(at.Block, headShard))
		if err == nil {
			err = s.parseHead(string(plain))
		}
		if err != nil { // its blocks are found by their own index records
			l.skip(at, err)
			continue
		}
		l.segments = append(l.segments, s)
	}
	return nil
}

func (s *segment) parseHead(plain string) error {
	r := record.NewReader(plain)
	if r.Byte() != segmentVersion {
		return record.ErrDamaged
	}
	s.shardBits = uint8(r.UintMax(maxShardBits))
	s.last = s.first + r.UintMax(maxSegment)
	s.min, s.max = r.Int(), r.Int()
	return r.Err()
}

// posting is a fingerprint and a block that holds it, counted from the first of the segment.
type posting struct{ print, block uint32 }

// Gather returns the records of the next segment for the committer, and the call that makes searches use it, once they
// are durable; nothing while too few blocks lie behind the newest segment. One caller at a time.
func (l *Log) Gather() (recs []Record, use func(), err error) {
	if !l.enter() {
		return nil, nil, ErrClosed
	}
	defer l.leave()
	l.mu.Lock()
	from, last := Cursor{Day: l.oldest}, l.last
	if n := len(l.segments); n > 0 {
		from = Cursor{Day: l.segments[n-1].day, Block: l.segments[n-1].last + 1}
	}
	l.mu.Unlock()
	if last.Block < from.Block || last.Day <= from.Day && (last.Block-from.Block)*2 < segmentPrints/maxPrintsGuess {
		return nil, nil, nil
	}
	s, list, whole, err := l.postings(from)
	if err != nil || !whole {
		return nil, nil, err
	}
	return l.shards(&s, list), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if s.day >= l.oldest {
			l.segments = append(l.segments, s)
		}
	}, nil
}

// maxPrintsGuess is how many fingerprints the block of a full commit has: fewer blocks than would make a segment at
// that rate are not worth looking at.
const maxPrintsGuess = 512

// postings reads the index records of one day from the cursor on until they make a segment; whole tells whether they do.
func (l *Log) postings(from Cursor) (s segment, list []posting, whole bool, err error) {
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixIndex}, PrefetchValues: true, PrefetchSize: 100})
	defer it.Close()
	for it.Seek(key(prefixIndex, from.Day, from.Block)); it.Valid(); it.Next() {
		at, ok := parseKey(it.Item().Key())
		if !ok {
			continue
		}
		if s.first != 0 && (at.Day != s.day || at.Block-s.first >= maxSegment || len(list) >= segmentPrints) {
			whole = true
			break
		}
		sealed, err := it.Item().ValueCopy(nil)
		if err != nil {
			return s, nil, false, err
		}
		plain, err := l.ring.Open(nil, sealed, l.identity(nil, prefixIndex, at.Block))
		var x indexRecord
		if err == nil {
			x, err = parseIndex(string(plain))
		}
		if err != nil { // what it should say is in the block
			l.skip(at, err)
			if x, err = l.indexAnew(txn, at); err != nil {
				continue
			}
		}
		if s.first == 0 {
			s = segment{day: at.Day, first: at.Block, min: x.min, max: x.max}
		}
		s.last, s.min, s.max = at.Block, min(s.min, x.min), max(s.max, x.max)
		for i := 0; i < len(x.prints); i += 4 {
			list = append(list, posting{binary.BigEndian.Uint32([]byte(x.prints[i : i+4])), uint32(at.Block - s.first)})
		}
	}
	return s, list, whole, nil
}

// indexAnew works out the index record of a block.
func (l *Log) indexAnew(txn *badger.Txn, at Cursor) (indexRecord, error) {
	raw, err := l.block(txn, at)
	if err != nil {
		return indexRecord{}, err
	}
	var p Pack
	if err := Decode(raw, func(_ uint32, e *mail.Event) bool { l.Pack(&p, e); return true }); err != nil {
		return indexRecord{}, err
	}
	return parseIndex(string(appendIndex(nil, &p)))
}

// shards cuts and seals a segment.
func (l *Log) shards(s *segment, list []posting) []Record {
	slices.SortFunc(list, func(a, b posting) int {
		if a.print != b.print {
			return int(int64(a.print) - int64(b.print))
		}
		return int(int64(a.block) - int64(b.block))
	})
	s.shardBits = uint8(min(bits.Len(uint(len(list)/shardPrints)), maxShardBits))
	recs := make([]Record, 0, 1<<s.shardBits+1)
	var plain []byte
	for begin := 0; begin < len(list); {
		shard := s.shardOf(list[begin].print)
		plain = append(plain[:0], segmentVersion)
		var before uint32
		end := begin
		for ; end < len(list) && s.shardOf(list[end].print) == shard; end++ {
			plain = binary.AppendUvarint(plain, uint64(list[end].print-before))
			plain = binary.AppendUvarint(plain, uint64(list[end].block))
			before = list[end].print
		}
		recs = append(recs, Record{segmentKey(s.day, s.first, shard), l.ring.Seal(nil, plain, l.segmentIdentity(s.first, shard))})
		begin = end
	}
	plain = append(plain[:0], segmentVersion, s.shardBits)
	plain = binary.AppendUvarint(plain, s.last-s.first)
	plain = binary.AppendVarint(binary.AppendVarint(plain, s.min), s.max)
	return append(recs, Record{segmentKey(s.day, s.first, headShard), l.ring.Seal(nil, plain, l.segmentIdentity(s.first, headShard))})
}

// walkSegments hands the blocks of segments that may match to visit, in order, and moves *next behind the newest
// segment. more is false where visit has had enough.
func (l *Log) walkSegments(ctx context.Context, m *matcher, next *Cursor, visit func(Cursor, string) bool) (more bool, err error) {
	l.mu.Lock()
	all := slices.Clone(l.segments)
	l.mu.Unlock()
	for i := range all {
		s := &all[i]
		switch {
		case s.last < next.Block || s.day < next.Day || s.day > m.maxDay:
			continue
		case m.since != 0 && s.max < m.since || m.end != 0 && s.min >= m.end:
		default:
			if err := ctx.Err(); err != nil {
				return false, err
			}
			more, err := l.walkSegment(s, m, next.Block, visit)
			if err != nil || !more {
				return false, err
			}
		}
		if *next = (Cursor{Day: s.day, Block: s.last + 1}); !m.reached(*next) {
			return false, nil
		}
	}
	return true, nil
}

// walkSegment visits what one segment has. A shard that cannot be read is made up for by looking at all its blocks.
func (l *Log) walkSegment(s *segment, m *matcher, from uint64, visit func(Cursor, string) bool) (more bool, err error) {
	if !l.enter() {
		return false, ErrClosed
	}
	txn := l.db.NewTransaction(false)
	blocks, err := l.postingsOf(txn, s, m.prints[0])
	txn.Discard()
	l.leave()
	if err != nil {
		at := Cursor{Day: s.day, Block: s.first}
		l.skip(at, err)
		blocks = blocks[:0]
		for n := s.first; n <= s.last; n++ {
			blocks = append(blocks, n)
		}
	}
	for _, n := range blocks {
		if n < from {
			continue
		}
		at := Cursor{Day: s.day, Block: n}
		raw, err := l.read(at)
		switch {
		case err == ErrClosed:
			return false, err
		case err != nil:
			l.skip(at, err)
			continue
		}
		if !visit(at, raw) {
			return false, nil
		}
	}
	return true, nil
}

// read is block under a transaction of its own, so that visit runs without one.
func (l *Log) read(at Cursor) (string, error) {
	if !l.enter() {
		return "", ErrClosed
	}
	defer l.leave()
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	return l.block(txn, at)
}

// postingsOf returns the blocks of s that hold a fingerprint, ascending.
func (l *Log) postingsOf(txn *badger.Txn, s *segment, print uint32) (blocks []uint64, err error) {
	shard := s.shardOf(print)
	item, err := txn.Get(segmentKey(s.day, s.first, shard))
	if err == badger.ErrKeyNotFound {
		return nil, nil // a shard nothing fell into is not written
	}
	if err != nil {
		return nil, err
	}
	sealed, err := item.ValueCopy(nil)
	if err != nil {
		return nil, err
	}
	plain, err := l.ring.Open(nil, sealed, l.segmentIdentity(s.first, shard))
	if err != nil {
		return nil, err
	}
	r := record.NewReader(string(plain))
	if r.Byte() != segmentVersion {
		return nil, record.ErrDamaged
	}
	for at := uint32(0); r.Left() > 0 && r.Err() == nil && at <= print; {
		at += uint32(r.UintMax(1<<32 - 1))
		if block := r.UintMax(maxSegment); at == print {
			blocks = append(blocks, s.first+block)
		}
	}
	return blocks, r.Err()
}
