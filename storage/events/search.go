package events

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
)

// Query says which events are wanted; every field that is not zero must match.
type Query struct {
	Message mail.MessageID
	To      string // a whole address, or a part of one where it has no "@" within it; letter case does not matter
	From    string // part of the envelope sender, any case
	Group   string
	APIData string // part of the X-Api-Data field, any case
	Source  netip.Addr
	Tenant  string
	Domain  mail.Domain
	Kinds   []mail.EventKind // none = all but those of the network
	Status  []mail.Status
	Since   time.Time // inclusive
	Until   time.Time // exclusive
	After   Cursor    // start here; the Cursor that a result was handed out with
	Limit   int       // most events to hand out, 0 = no limit
	User    string    // who handed the mail over, exactly; events of releases that did not write it down do not match

	// Reached, where it is set, is told now and then how far the search has come, also where nothing matched, and at the end.
	// What lies before the position is looked through; false ends the search there, and a Cursor like it goes on.
	Reached func(Cursor) bool
}

// Blocks read in one Badger transaction. A long-lived one would keep compactions from dropping what was deleted.
const chunkBlocks = 512

// Search calls f for every event of q in the order of their commits, each with the position behind it, until f
// returns false. By message id or whole recipient address it opens only blocks whose index record knows it; otherwise
// every block of the days in question. Blocks that cannot be read are skipped and counted (see Damaged). f runs
// without a lock and may take its time.
func (l *Log) Search(ctx context.Context, q Query, f func(mail.Event, Cursor) bool) error {
	if q.Reached == nil && l.lacks(q.Kinds, q.After) {
		return nil
	}
	m := l.matcher(q)
	left := q.Limit
	return l.walk(ctx, q.After, m, func(at Cursor, raw string, first uint32) (more bool) {
		more = true
		err := Decode(raw, func(i uint32, e *mail.Event) bool {
			if i < first || !m.matches(e) {
				return true
			}
			at.Index = i + 1
			if more = f(*e, at); more && left > 0 {
				left--
				more = left > 0
			}
			return more
		})
		if err != nil {
			l.skip(at, err)
		}
		return more
	})
}

// lacks tells that no block from the cursor on has an event of one of kinds, where that is known without a look at the disk: of
// what was written since the log was opened. Whoever waits for something rare, failures say, asks twice a second.
func (l *Log) lacks(kinds []mail.EventKind, from Cursor) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(kinds) == 0 || from.Block <= l.known {
		return false
	}
	for _, k := range kinds {
		if l.newest[k] >= from.Block {
			return false
		}
	}
	return true
}

// skip notes a block that cannot be read.
func (l *Log) skip(at Cursor, err error) {
	l.damaged.Add(1)
	l.log.Error("event block skipped", "block", at.Block, "err", err)
}

// matcher is a query made ready.
type matcher struct {
	q          Query
	to, sender string
	data       string
	whole      bool // q.To is a whole address
	prints     []uint32
	since, end int64 // ms; end 0 = none
	minDay     uint16
	maxDay     uint16
	from       uint64 // first block number
}

func (l *Log) matcher(q Query) *matcher {
	m := &matcher{q: q, to: strings.ToLower(q.To), sender: strings.ToLower(q.From), data: strings.ToLower(q.APIData), maxDay: 1<<16 - 1}
	if at := strings.IndexByte(m.to, '@'); at > 0 && at < len(m.to)-1 {
		m.whole = true
		m.prints = append(m.prints, l.prints.ofAddress(mail.Address(m.to)))
	}
	if !q.Message.IsZero() {
		m.prints = append(m.prints, l.prints.ofMessage(q.Message))
	}
	// A block may hold events stamped just before midnight, so a day of slack stands on either side. Where product
	// time once went back, blocks of any later day may hold old events.
	if !q.Since.IsZero() {
		m.since = q.Since.UnixMilli()
		m.minDay = dayOf(q.Since.Add(-24 * time.Hour))
	}
	if !q.Until.IsZero() {
		m.end = q.Until.UnixMilli()
		if !l.backward.Load() {
			m.maxDay = dayOf(q.Until.Add(24 * time.Hour))
		}
	}
	return m
}

// wants tells from the index record alone whether the block may hold a match.
func (m *matcher) wants(x *indexRecord) bool {
	if (m.since != 0 && x.max < m.since) || (m.end != 0 && x.min >= m.end) {
		return false
	}
	for _, f := range m.prints {
		if !x.has(f) {
			return false
		}
	}
	return true
}

func (m *matcher) matches(e *mail.Event) bool {
	q := &m.q
	if (!q.Message.IsZero() && e.Message != q.Message) || (q.Group != "" && e.Group != q.Group) ||
		(q.Tenant != "" && e.Tenant != q.Tenant) || (q.User != "" && e.User != q.User) || (q.Domain != "" && e.Domain != q.Domain) {
		return false
	}
	if m.since != 0 && e.At.UnixMilli() < m.since || m.end != 0 && e.At.UnixMilli() >= m.end {
		return false
	}
	if len(q.Kinds) == 0 && e.Kind.Aside() {
		return false
	}
	if len(q.Kinds) > 0 && !contains(q.Kinds, e.Kind) || len(q.Status) > 0 && !contains(q.Status, e.Status) {
		return false
	}
	switch {
	case m.to == "":
	case m.whole:
		if e.To.Fold() != m.to {
			return false
		}
	case !strings.Contains(e.To.Fold(), m.to):
		return false
	}
	if q.Source.IsValid() && e.Source != q.Source || m.data != "" && !strings.Contains(strings.ToLower(e.APIData), m.data) {
		return false
	}
	return m.sender == "" || strings.Contains(e.From.Fold(), m.sender)
}

func contains[T comparable](in []T, v T) bool {
	for _, x := range in {
		if x == v {
			return true
		}
	}
	return false
}

// found is a block that the index says may match.
type found struct {
	at  Cursor
	raw string
}

// walk hands every block that m wants to visit, in order, from the cursor on, with the index of the first event to
// look at. It reads in chunks, each under a transaction of its own.
func (l *Log) walk(ctx context.Context, from Cursor, m *matcher, visit func(at Cursor, raw string, first uint32) bool) error {
	m.from = from.Block
	l.mu.Lock()
	next := Cursor{Day: max(from.Day, l.oldest, m.minDay), Block: from.Block}
	l.mu.Unlock()
	first := func(at Cursor) uint32 {
		if at.Block == from.Block {
			return from.Index
		}
		return 0
	}
	if len(m.prints) > 0 {
		more, err := l.walkSegments(ctx, m, &next, func(at Cursor, raw string) bool { return visit(at, raw, first(at)) })
		if err != nil || !more {
			return err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		blocks, more, err := l.chunk(m, &next)
		if err != nil {
			return err
		}
		for _, b := range blocks {
			if !visit(b.at, b.raw, first(b.at)) {
				return nil
			}
		}
		if !m.reached(next) || !more {
			return nil
		}
	}
}

// reached tells the caller of the search how far it has come, and whether it is to go on.
func (m *matcher) reached(at Cursor) bool { return m.q.Reached == nil || m.q.Reached(at) }

// Bytes of unpacked blocks held at once by one search.
const chunkBytes = 1 << 20

// chunk reads the next blocks from *next on and moves it behind those it has looked at.
func (l *Log) chunk(m *matcher, next *Cursor) (blocks []found, more bool, err error) {
	if !l.enter() {
		return nil, false, ErrClosed
	}
	defer l.leave()
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixIndex}})
	defer it.Close()
	var plain, sealed []byte
	seen, size := 0, 0
	for it.Seek(key(prefixIndex, next.Day, next.Block)); it.Valid(); it.Next() {
		at, ok := parseKey(it.Item().Key())
		if !ok || at.Block < m.from {
			continue
		}
		if at.Day > m.maxDay {
			*next = at
			return blocks, false, nil
		}
		if seen == chunkBlocks || size > chunkBytes {
			*next = at
			return blocks, true, nil
		}
		seen++
		*next = at.Next()
		if sealed, err = it.Item().ValueCopy(sealed); err != nil {
			return nil, false, err
		}
		plain, err = l.ring.Open(plain[:0], sealed, l.identity(nil, prefixIndex, at.Block))
		if err == nil {
			var x indexRecord
			if x, err = parseIndex(string(plain)); err == nil && !m.wants(&x) {
				continue
			}
		}
		// A damaged index record does not hide its block.
		if err != nil {
			l.skip(at, err)
		}
		raw, err := l.block(txn, at)
		if err != nil {
			l.skip(at, err)
			continue
		}
		blocks = append(blocks, found{at, raw})
		size += len(raw)
	}
	return blocks, false, nil
}

// block reads, opens and unpacks one block.
func (l *Log) block(txn *badger.Txn, at Cursor) (string, error) {
	item, err := txn.Get(key(prefixBlock, at.Day, at.Block))
	if err != nil {
		return "", err
	}
	sealed, err := item.ValueCopy(nil)
	if err != nil {
		return "", err
	}
	payload, err := l.ring.Open(sealed[:0:0], sealed, l.identity(nil, prefixBlock, at.Block))
	if err != nil {
		return "", err
	}
	return l.unpack(payload)
}

// Replay calls f for every event from the cursor on, with the place of its block, for counters that missed them, and
// brings the tenants' sequences up to the end.
func (l *Log) Replay(from Cursor, f func(at Cursor, e *mail.Event)) error {
	m := &matcher{maxDay: 1<<16 - 1}
	return l.walk(context.Background(), from, m, func(at Cursor, raw string, _ uint32) bool {
		err := Decode(raw, func(_ uint32, e *mail.Event) bool {
			if l.mu.Lock(); e.Sequence > l.sequences[e.Tenant] {
				l.sequences[string([]byte(e.Tenant))] = e.Sequence
			}
			l.mu.Unlock()
			f(at, e)
			return true
		})
		if err != nil {
			l.skip(at, err)
		}
		return true
	})
}
