package events

import (
	"context"
	"encoding/binary"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/record"
)

// blank stands where an event was that is kept no longer: of no kind, at no time, of nobody. It keeps the places and the
// numbers of the others in its block, so that cursors outlive it.
func blank(dst []byte) []byte { return append(dst, 0, 0, 0) }

// Thinner takes the events of some tenants out of the log, block by block. It belongs to one goroutine.
type Thinner struct {
	log  *Log
	b    *Builder
	gone func(day uint16, tenant string) bool
	next Cursor
	end  uint16
}

// Thin prepares to take out what gone names, of the days from one to before another. gone is told the day that a block is
// filed under.
func (l *Log) Thin(from, before uint16, gone func(day uint16, tenant string) bool) (*Thinner, error) {
	b, err := NewBuilder()
	if err != nil {
		return nil, err
	}
	return &Thinner{log: l, b: b, gone: gone, next: Cursor{Day: from}, end: before}, nil
}

// Next returns records for the committer that replace those of the next blocks, up to about limit; more tells whether it
// is to be called again.
func (t *Thinner) Next(ctx context.Context, limit int) (recs []Record, more bool, err error) {
	l := t.log
	if !l.enter() {
		return nil, false, ErrClosed
	}
	defer l.leave()
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixBlock}})
	defer it.Close()
	seen := 0
	for it.Seek(key(prefixBlock, t.next.Day, t.next.Block)); it.Valid(); it.Next() {
		at, ok := parseKey(it.Item().Key())
		if !ok {
			continue
		}
		if at.Day >= t.end {
			return recs, false, nil
		}
		if t.next = at; len(recs) >= limit || seen == chunkBlocks {
			return recs, true, nil
		}
		if seen++; ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		raw, err := l.block(txn, at)
		if err == nil {
			recs, err = t.thin(recs, at, raw)
		}
		if err != nil { // what cannot be read goes with its day
			l.skip(at, err)
		}
	}
	return recs, false, nil
}

// thin appends the block and its index without the events that go; nothing where none does.
func (t *Thinner) thin(recs []Record, at Cursor, raw string) ([]Record, error) {
	r := record.NewReader(raw)
	shares, err := readShares(&r)
	if err != nil {
		return recs, err
	}
	n := r.UintMax(maxBlockSize)
	kept := Pack{}
	out, changed := []byte(nil), false
	var e mail.Event
	for range n {
		if decode(&r, &e); r.Err() != nil {
			return recs, r.Err()
		}
		switch {
		case e.Kind == 0:
			out = blank(out)
		case t.gone(at.Day, e.Tenant):
			out, changed = blank(out), true
		default:
			t.log.Pack(&kept, &e)
			out = Append(out, &e)
		}
	}
	if !changed {
		return recs, nil
	}
	head := []byte{blockVersion}
	staying := shares[:0]
	for _, s := range shares {
		if !t.gone(at.Day, s.tenant) {
			staying = append(staying, s)
		}
	}
	head = binary.AppendUvarint(head, uint64(len(staying)))
	for _, s := range staying {
		head = binary.AppendUvarint(record.AppendString(head, s.tenant), s.n)
	}
	head = append(binary.AppendUvarint(head, n), out...)
	l := t.log
	block := l.ring.Seal(nil, t.b.pack(nil, head), l.identity(nil, prefixBlock, at.Block))
	index := l.ring.Seal(nil, appendIndex(nil, &kept), l.identity(nil, prefixIndex, at.Block))
	return append(recs, Record{key(prefixBlock, at.Day, at.Block), block}, Record{key(prefixIndex, at.Day, at.Block), index}), nil
}
