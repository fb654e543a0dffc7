package events

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/record"
)

// Key prefixes of this room: blocks, their index, and the mark that product time once went back.
const (
	prefixBlock = 'e'
	prefixIndex = 'x'
	keyBackward = "y"
)

const (
	blockVersion = 2
	indexVersion = 1

	// Below this size compression gains less than it costs.
	compressFrom = 1 << 10
	// A block of one commit: 256 requests, or one message to thousands of recipients.
	maxBlockSize = 64 << 20

	formRaw  = 0
	formZstd = 1
)

// Cursor is a position in the log: the next event to read. The zero Cursor stands at the oldest event kept. Blocks are
// numbered without end and never renumbered, so a cursor outlives restarts; one that points into purged days goes on
// with the oldest event kept.
type Cursor struct {
	Day   uint16 // days since 1970, UTC, of the product clock when the block was written
	Block uint64
	Index uint32 // within the block
}

// ErrCursor is reported for a text that String did not write.
var ErrCursor = errors.New("event cursor is malformed")

// String returns the form that APIs hand out: 28 hexadecimal digits.
func (c Cursor) String() string { return fmt.Sprintf("%04x%016x%08x", c.Day, c.Block, c.Index) }

// ParseCursor reads the form String writes; "" is the zero Cursor.
func ParseCursor(s string) (Cursor, error) {
	var c Cursor
	if s == "" {
		return c, nil
	}
	if len(s) != 28 {
		return c, ErrCursor
	}
	if _, err := fmt.Sscanf(s, "%04x%016x%08x", &c.Day, &c.Block, &c.Index); err != nil {
		return Cursor{}, ErrCursor
	}
	return c, nil
}

func key(prefix byte, day uint16, block uint64) []byte {
	k := make([]byte, 11)
	k[0] = prefix
	binary.BigEndian.PutUint16(k[1:], day)
	binary.BigEndian.PutUint64(k[3:], block)
	return k
}

func parseKey(k []byte) (c Cursor, ok bool) {
	if len(k) != 11 {
		return c, false
	}
	return Cursor{Day: binary.BigEndian.Uint16(k[1:]), Block: binary.BigEndian.Uint64(k[3:])}, true
}

// Pack is the events of one request, packed by the goroutine that makes the request so that the committer need not.
// The zero value is ready; Reset makes it ready again.
type Pack struct {
	raw      []byte
	n        int
	tenants  []share
	prints   []uint32
	kinds    uint64 // a bit for each kind of event
	min, max int64  // ms since 1970
}

// Reset empties p and keeps its memory.
func (p *Pack) Reset() { *p = Pack{raw: p.raw[:0], prints: p.prints[:0], tenants: p.tenants[:0]} }

// Len returns the number of events.
func (p *Pack) Len() int { return p.n }

// Size returns the packed size in bytes.
func (p *Pack) Size() int { return len(p.raw) }

// Pack adds e to p.
func (l *Log) Pack(p *Pack, e *mail.Event) {
	at := e.At.UnixMilli()
	if p.n == 0 || at < p.min {
		p.min = at
	}
	if p.n == 0 || at > p.max {
		p.max = at
	}
	p.n++
	p.kinds |= 1 << e.Kind
	p.tenants = raise(p.tenants, e.Tenant, 1)
	p.raw = Append(p.raw, e)
	p.prints = append(p.prints, l.prints.ofMessage(e.Message), l.prints.ofAddress(e.To))
}

// Record is one entry for the commit.
type Record struct{ Key, Value []byte }

// Builder gathers the packs of one commit into a block and its index record. It belongs to the committer.
type Builder struct {
	all    Pack
	raw    []byte // block before compression
	packed []byte
	out    []byte // sealed records
	index  []byte
	aad    [13]byte
	at     Cursor
	recs   [3]Record
	enc    *zstd.Encoder
}

// NewBuilder returns an empty builder.
func NewBuilder() (*Builder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("open compressor: %w", err)
	}
	return &Builder{enc: enc}, nil
}

// Reset empties b for the next commit. What Seal returned is no longer valid.
func (b *Builder) Reset() { b.all.Reset() }

// Add takes over a copy of p.
func (b *Builder) Add(p *Pack) {
	if p.n == 0 {
		return
	}
	if b.all.n == 0 || p.min < b.all.min {
		b.all.min = p.min
	}
	if b.all.n == 0 || p.max > b.all.max {
		b.all.max = p.max
	}
	b.all.n += p.n
	b.all.kinds |= p.kinds
	for _, t := range p.tenants {
		b.all.tenants = raise(b.all.tenants, t.tenant, t.n)
	}
	b.all.raw = append(b.all.raw, p.raw...)
	b.all.prints = append(b.all.prints, p.prints...)
}

// Seal returns the records of the block, for the commit of the same requests; nothing for no events. now is product
// time. After the commit the caller says so by Committed; without it the block number is used again.
func (l *Log) Seal(b *Builder, now time.Time) []Record {
	if b.all.n == 0 {
		return nil
	}
	last := l.End()
	b.at = Cursor{Day: max(dayOf(now), last.Day), Block: last.Block + 1}
	recs := b.recs[:0]
	if dayOf(now) < last.Day && l.backward.CompareAndSwap(false, true) {
		recs = append(recs, Record{[]byte(keyBackward), []byte{1}})
	}

	b.raw = l.appendShares(append(b.raw[:0], blockVersion), b.all.tenants)
	b.raw = binary.AppendUvarint(b.raw, uint64(b.all.n))
	b.raw = append(b.raw, b.all.raw...)
	b.packed = b.pack(b.packed[:0], b.raw)
	b.out = l.ring.Seal(b.out[:0], b.packed, l.identity(b.aad[:0], prefixBlock, b.at.Block))
	block := b.out
	b.index = appendIndex(b.index[:0], &b.all)
	b.out = l.ring.Seal(b.out, b.index, l.identity(b.aad[:0], prefixIndex, b.at.Block))
	recs = append(recs,
		Record{key(prefixBlock, b.at.Day, b.at.Block), b.out[:len(block):len(block)]},
		Record{key(prefixIndex, b.at.Day, b.at.Block), b.out[len(block):]})
	return recs
}

// pack appends a block as it is sealed.
func (b *Builder) pack(dst, raw []byte) []byte {
	if len(raw) < compressFrom {
		return append(append(dst, formRaw), raw...)
	}
	return b.enc.EncodeAll(raw, append(dst, formZstd))
}

// identity is what a record of this room is bound to.
func (l *Log) identity(dst []byte, kind byte, block uint64) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(l.lineage))
	dst = binary.BigEndian.AppendUint64(dst, block)
	return append(dst, kind)
}

// appendIndex writes the index record: times of the block, then its fingerprints, sorted and each once.
func appendIndex(dst []byte, p *Pack) []byte {
	dst = append(dst, indexVersion)
	dst = binary.AppendVarint(dst, p.min)
	dst = binary.AppendVarint(dst, p.max)
	slices.Sort(p.prints)
	p.prints = slices.Compact(p.prints)
	for _, f := range p.prints {
		dst = binary.BigEndian.AppendUint32(dst, f)
	}
	return dst
}

// indexRecord is an opened index record.
type indexRecord struct {
	min, max int64
	prints   string // 4 bytes each, ascending
}

func parseIndex(s string) (indexRecord, error) {
	r := record.NewReader(s)
	if r.Byte() != indexVersion {
		return indexRecord{}, record.ErrDamaged
	}
	x := indexRecord{min: r.Int(), max: r.Int()}
	if r.Left()%4 != 0 {
		r.Fail()
	}
	x.prints = r.Bytes(uint64(r.Left()))
	return x, r.Err()
}

// has tells whether f is among the fingerprints.
func (x *indexRecord) has(f uint32) bool {
	lo, hi := 0, len(x.prints)/4
	for lo < hi {
		mid := (lo + hi) / 2
		p := x.prints[mid*4:]
		switch v := uint32(p[0])<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3]); {
		case v == f:
			return true
		case v < f:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return false
}

// unpack turns the payload of a block, opened, into the events' bytes.
func (l *Log) unpack(payload []byte) (string, error) {
	if len(payload) == 0 {
		return "", record.ErrDamaged
	}
	switch payload[0] {
	case formRaw:
		return string(payload[1:]), nil
	case formZstd:
		raw, err := l.dec.DecodeAll(payload[1:], nil)
		if err != nil {
			return "", fmt.Errorf("%w: %w", record.ErrDamaged, err)
		}
		return string(raw), nil
	}
	return "", record.ErrDamaged
}

// Decode calls f for every event of an unpacked block, with its index, until f returns false.
func Decode(raw string, f func(i uint32, e *mail.Event) bool) error {
	r := record.NewReader(raw)
	shares, err := readShares(&r)
	if err != nil {
		return err
	}
	n := r.UintMax(maxBlockSize)
	var e mail.Event
	for i := range n {
		decode(&r, &e)
		if err := r.Err(); err != nil {
			return err
		}
		if e.Kind == 0 { // kept no longer
			continue
		}
		e.Sequence = take(shares, e.Tenant)
		if !f(uint32(i), &e) {
			return nil
		}
	}
	return r.Err()
}

// dayOf is the day a block is filed under.
func dayOf(t time.Time) uint16 { return uint16(min(max(t.Unix()/86400, 0), 1<<16-1)) }
