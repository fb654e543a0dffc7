package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A block is the unit of the wire and of the segments alike, so that a standby writes what it read:
//
//	magic (4) | size of the payload (4) | CRC-32C (4) | kind (1) | zero (3) | epoch (8) | number (8) | payload
//
// Numbers are big-endian. The checksum covers everything but itself.
const (
	blockMagic = 0xEB1DE501 // the last octet is the version of the layout
	headerSize = 32

	// MaxPayload bounds one block, octets: a commit of one message of the largest size and what goes with it.
	MaxPayload = 160 << 20
	// MaxKey bounds a key, octets. An empty key is none.
	MaxKey = 64
)

// kind tells what a block says. Those that carry changes are also what segments consist of.
type kind uint8

const (
	kindHead  kind = 1 // first of a segment: what was known when it was begun
	kindFrame kind = 2 // changes of one commit; number: the frame's
	kindFill  kind = 3 // records that lived when the fill began or later; number: of the chunk, from 1
	kindBegin kind = 4 // a fill begins; number: the first frame that follows
	kindFull  kind = 5 // a fill is complete; number: chunks sent
	kindCopy  kind = 6 // live records of a segment that is given up; segments only
	kindClose kind = 7 // the store was closed in order; segments only

	kindHello   kind = 16 // who opens a connection and what for
	kindState   kind = 17 // what the standby has
	kindAck     kind = 18 // number: every frame up to it is on disk
	kindRefused kind = 19 // epoch: the one the standby knows; payload: why, for the log
	kindRecords kind = 20 // live records, in answer to a fetch
	kindEnd     kind = 21 // no more records; number: blocks sent
)

// Errors of foreign bytes.
var (
	// ErrMalformed: the bytes are no block, or a block says what it may not.
	ErrMalformed = errors.New("malformed block")
	// ErrChecksum: a block was damaged on its way or on its disk.
	ErrChecksum = errors.New("block fails its checksum")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the fixed part of a block.
type header struct {
	kind   kind
	epoch  uint64
	number uint64
	size   int // of the payload
	sum    uint32
}

// parseHeader reads the first headerSize octets of b. The checksum is not looked at yet.
func parseHeader(b []byte) (h header, err error) {
	if binary.BigEndian.Uint32(b) != blockMagic {
		return h, fmt.Errorf("%w: no magic", ErrMalformed)
	}
	size := binary.BigEndian.Uint32(b[4:])
	if size > MaxPayload {
		return h, fmt.Errorf("%w: payload of %d octets", ErrMalformed, size)
	}
	if b[13]|b[14]|b[15] != 0 {
		return h, fmt.Errorf("%w: reserved octets are set", ErrMalformed)
	}
	h = header{kind: kind(b[12]), size: int(size), sum: binary.BigEndian.Uint32(b[8:])}
	h.epoch, h.number = binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])
	return h, nil
}

// checksum of a whole block.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, b[:8]), castagnoli, b[12:])
}

// beginBlock makes room for a header in dst; what is appended then is the payload.
func beginBlock(dst []byte) []byte { return append(dst, make([]byte, headerSize)...) }

// endBlock completes the block that begins at b[0].
func endBlock(b []byte, k kind, epoch, number uint64) []byte {
	binary.BigEndian.PutUint32(b, blockMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-headerSize))
	b[12], b[13], b[14], b[15] = byte(k), 0, 0, 0
	binary.BigEndian.PutUint64(b[16:], epoch)
	binary.BigEndian.PutUint64(b[24:], number)
	binary.BigEndian.PutUint32(b[8:], checksum(b))
	return b
}

// block is one block in memory: the whole of it and its payload, valid as long as the buffer it was read into.
type block struct {
	header
	raw     []byte
	payload []byte
}

// cutBlock takes the first block of b. A prefix of a block answers io.ErrUnexpectedEOF.
func cutBlock(b []byte) (blk block, err error) {
	if len(b) < headerSize {
		return blk, io.ErrUnexpectedEOF
	}
	if blk.header, err = parseHeader(b); err != nil {
		return blk, err
	}
	end := headerSize + blk.size
	if len(b) < end {
		return blk, io.ErrUnexpectedEOF
	}
	blk.raw, blk.payload = b[:end], b[headerSize:end]
	if checksum(blk.raw) != blk.sum {
		return blk, ErrChecksum
	}
	return blk, nil
}

// blockReader reads blocks from a stream into one buffer that grows with what really comes, never with what a header
// announces.
type blockReader struct {
	r          io.Reader
	buf        []byte
	start, end int // unread octets in buf
	limit      int // largest payload taken
}

// Sizes of a reader's buffer: what it starts with, and what it falls back to after something large.
const (
	readBuffer = 64 << 10
	keepBuffer = 1 << 20
)

func newBlockReader(r io.Reader, limit int) *blockReader {
	return &blockReader{r: r, buf: make([]byte, readBuffer), limit: limit}
}

// buffered tells whether another whole block is there already, without reading.
func (r *blockReader) buffered() bool {
	have := r.end - r.start
	return have >= headerSize && have-headerSize >= int(binary.BigEndian.Uint32(r.buf[r.start+4:]))
}

// next returns the next block; it is valid until the call after. io.EOF ends a stream between blocks only.
func (r *blockReader) next() (block, error) {
	for {
		if have := r.end - r.start; have >= headerSize {
			h, err := parseHeader(r.buf[r.start:])
			if err != nil {
				return block{}, err
			}
			if h.size > r.limit {
				return block{}, fmt.Errorf("%w: payload of %d octets where %d are the most", ErrMalformed, h.size, r.limit)
			}
			if have >= headerSize+h.size {
				blk, err := cutBlock(r.buf[r.start:r.end])
				r.start += headerSize + h.size
				return blk, err
			}
		}
		if err := r.fill(); err != nil {
			if errors.Is(err, io.EOF) && r.end > r.start {
				err = io.ErrUnexpectedEOF
			}
			return block{}, err
		}
	}
}

// fill reads more octets, making room first.
func (r *blockReader) fill() error {
	if r.start == r.end && len(r.buf) > keepBuffer {
		r.buf = make([]byte, readBuffer)
	}
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	}
	n, err := r.r.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
