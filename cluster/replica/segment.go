package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
)

// segment is one file of a lineage's log. Only the last one is written to.
type segment struct {
	id      uint32
	size    int64 // octets
	live    int64 // octets of changes that are the latest word on a live key of the current generation
	damaged bool  // cannot be read in full, or is not there
}

const segmentSuffix = ".seg"

func segmentPath(dir string, id uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%08x%s", id, segmentSuffix))
}

// parseSegmentName returns the id of a segment's file.
func parseSegmentName(name string) (uint32, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(hex) != 8 {
		return 0, false
	}
	id, err := strconv.ParseUint(hex, 16, 32)
	return uint32(id), err == nil
}

// segmentHead is the first block of a segment: what must be known where the segments before it are gone.
type segmentHead struct {
	lineage mail.Lineage
	progress
}

func (h *segmentHead) encode(dst []byte, epoch uint64) []byte {
	b := beginBlock(dst)
	b = binary.BigEndian.AppendUint32(b, uint32(h.lineage))
	b = binary.BigEndian.AppendUint64(b, h.run)
	b = binary.BigEndian.AppendUint64(b, h.fill)
	b = append(b, flagsOf(h.full, false))
	return endBlock(b, kindHead, epoch, h.high)
}

func parseSegmentHead(b *block) (h segmentHead, err error) {
	p := b.payload
	if len(p) != 21 || p[20] > flagFull {
		return h, fmt.Errorf("%w: head of a segment", ErrMalformed)
	}
	h.lineage = mail.Lineage(binary.BigEndian.Uint32(p))
	h.progress = progress{run: binary.BigEndian.Uint64(p[4:]), high: b.number, fill: binary.BigEndian.Uint64(p[12:]),
		full: p[20] == flagFull}
	return h, nil
}

// scanned is what reading a segment came upon.
type scanned struct {
	bad   error // why reading stopped being plain; nil: the whole segment is good
	end   int64 // offset after the last good block before the first bad octet
	after bool  // good blocks were found behind bad octets
}

// scanSegment calls each for every block of a segment that passes its checksum, in order, and goes on behind damage at
// the next block that does. off is the block's place in the file. An error of each ends the scan.
func scanSegment(path string, each func(off int64, b *block) error) (s scanned, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	r := newBlockReader(f, MaxPayload)
	for {
		b, err := r.next()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return s, nil
		default:
			s.bad = err
			return s, s.salvage(f, each)
		}
		if err := each(s.end, &b); err != nil {
			return s, err
		}
		s.end += int64(len(b.raw))
	}
}

// salvage looks for good blocks behind the first bad octet.
func (s *scanned) salvage(f *os.File, each func(off int64, b *block) error) error {
	info, err := f.Stat()
	if err != nil || info.Size() <= s.end {
		return err
	}
	rest := make([]byte, info.Size()-s.end)
	n, _ := f.ReadAt(rest, s.end) // what cannot be read is damage, too
	rest = rest[:n]
	magic := binary.BigEndian.AppendUint32(nil, blockMagic)
	for at := 1; at < len(rest); {
		i := bytes.Index(rest[at:], magic)
		if i < 0 {
			return nil
		}
		at += i
		b, err := cutBlock(rest[at:])
		if err != nil {
			at++
			continue
		}
		s.after = true
		if err := each(s.end+int64(at), &b); err != nil {
			return err
		}
		at += len(b.raw)
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
