package events

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/klauspost/compress/zstd"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// ErrClosed is reported by a search or a follower whose log was closed.
var ErrClosed = errors.New("event log is closed")

// Blocks kept in memory while somebody follows the log. A follower that falls behind reads from disk.
const recentBlocks = 64

// Log is the event log of one store. Safe for concurrent use, but for Seal and Committed, which are the committer's.
type Log struct {
	db      *badger.DB
	ring    *seal.Ring
	lineage mail.Lineage
	log     *slog.Logger
	prints  printKey
	dec     *zstd.Decoder

	life     sync.RWMutex // held for reading while a transaction is open
	closed   chan struct{}
	backward atomic.Bool // product time went back once: blocks may hold events older than their day
	damaged  atomic.Uint64

	mu        sync.Mutex
	last      Cursor                  // of the newest block; Index 0
	oldest    uint16                  // no block of an earlier day exists
	known     uint64                  // of blocks above this number, which were written since the log was opened, …
	newest    [mail.EventKinds]uint64 // … the newest one with an event of a kind; 0 = none
	sequences map[string]uint64       // newest number by tenant
	segments  []segment               // by day and first block
	followers int
	recent    [recentBlocks]recentBlock
	wake      chan struct{} // closed by the next commit
}

type recentBlock struct {
	at  Cursor
	raw string
}

// Open returns the log that lies in db. floor is a block number that was used already, whatever the disk still has.
func Open(db *badger.DB, ring *seal.Ring, lineage mail.Lineage, floor uint64, log *slog.Logger) (*Log, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxBlockSize),
		zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("open decompressor: %w", err)
	}
	l := &Log{db: db, ring: ring, lineage: lineage, log: log, dec: dec,
		prints: newPrintKey(ring.Index("event fingerprints", nil)), closed: make(chan struct{}),
		wake: make(chan struct{}), sequences: map[string]uint64{}}
	err = db.View(func(txn *badger.Txn) error {
		if _, err := txn.Get([]byte(keyBackward)); err == nil {
			l.backward.Store(true)
		}
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixBlock}})
		defer it.Close()
		if it.Rewind(); it.Valid() {
			c, _ := parseKey(it.Item().Key())
			l.oldest = c.Day
		}
		back := txn.NewIterator(badger.IteratorOptions{Reverse: true})
		defer back.Close()
		if back.Seek(key(prefixBlock, math.MaxUint16, math.MaxUint64)); back.ValidForPrefix([]byte{prefixBlock}) {
			l.last, _ = parseKey(back.Item().Key())
		}
		return l.loadSegments(txn)
	})
	if err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	l.last.Block = max(l.last.Block, floor)
	l.known = l.last.Block
	return l, nil
}

// Close ends every search and follower. It must come before the database is closed.
func (l *Log) Close() {
	close(l.closed)
	l.life.Lock() // never unlocked: nothing may read from now on
	l.dec.Close()
}

// enter keeps the database open until leave; false means that it is closed or about to be.
func (l *Log) enter() bool {
	select {
	case <-l.closed:
		return false
	default:
	}
	return l.life.TryRLock()
}

func (l *Log) leave() { l.life.RUnlock() }

// End returns the cursor of the newest block, with which a follower starts that wants only what comes: pass it through
// Next.
func (l *Log) End() Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Next returns the position behind the whole block c stands in.
func (c Cursor) Next() Cursor { return Cursor{Day: c.Day, Block: c.Block + 1} }

// Damaged returns how many blocks could not be opened or read since the log was opened.
func (l *Log) Damaged() uint64 { return l.damaged.Load() }

// Committed tells the log that the commit with b's records is durable.
func (l *Log) Committed(b *Builder) {
	if b.all.n == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = b.at
	for k := range l.newest {
		if b.all.kinds>>k&1 != 0 {
			l.newest[k] = b.at.Block
		}
	}
	l.counted(b.all.tenants)
	if l.oldest == 0 {
		l.oldest = b.at.Day
	}
	if l.followers == 0 {
		return
	}
	l.recent[b.at.Block%recentBlocks] = recentBlock{at: b.at, raw: string(b.raw)}
	close(l.wake)
	l.wake = make(chan struct{})
}

// Expired returns up to limit keys of blocks filed before day, oldest first, for the committer to delete.
func (l *Log) Expired(day uint16, limit int) ([][]byte, error) {
	if !l.enter() {
		return nil, ErrClosed
	}
	defer l.leave()
	l.mu.Lock()
	from := l.oldest
	l.mu.Unlock()
	if from >= day {
		return nil, nil
	}
	var keys [][]byte
	err := l.db.View(func(txn *badger.Txn) error {
		for _, prefix := range []byte{prefixSegment, prefixIndex, prefixBlock} {
			it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefix}})
			for it.Seek(key(prefix, from, 0)); it.Valid() && len(keys) < limit; it.Next() {
				if k := it.Item().Key(); len(k) >= 3 && binary.BigEndian.Uint16(k[1:]) >= day {
					break
				}
				keys = append(keys, it.Item().KeyCopy(nil))
			}
			it.Close()
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list expired events: %w", err)
	}
	return keys, nil
}

// DayOf tells under which day a record of the log is filed; false where it is another's, or is filed under none.
func DayOf(key []byte) (day uint16, ok bool) {
	if len(key) < 3 || key[0] != prefixBlock && key[0] != prefixIndex && key[0] != prefixSegment {
		return 0, false
	}
	return binary.BigEndian.Uint16(key[1:]), true
}

// Days returns the first day of which anything is in the log, and the day of the newest block; both are that where there
// is nothing. Later blocks are filed under the newest day or later ones, and the first day never decreases.
func (l *Log) Days() (first, newest uint16, err error) {
	if !l.enter() {
		return 0, 0, ErrClosed
	}
	defer l.leave()
	newest = l.End().Day
	first = newest
	err = l.db.View(func(txn *badger.Txn) error {
		for _, prefix := range []byte{prefixSegment, prefixIndex, prefixBlock} {
			it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefix}})
			if it.Rewind(); it.Valid() {
				if day, ok := DayOf(it.Item().Key()); ok {
					first = min(first, day)
				}
			}
			it.Close()
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("days of the event log: %w", err)
	}
	return first, newest, nil
}

// Forgot tells the log that no block before day is left.
func (l *Log) Forgot(day uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oldest = max(l.oldest, day)
	l.segments = slices.DeleteFunc(l.segments, func(s segment) bool { return s.day < day })
}
