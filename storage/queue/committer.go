package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// committer is the state of the one goroutine that writes.
type committer struct {
	builder  *events.Builder
	keys     map[[16]byte]mail.MessageID // idempotency keys of this batch
	shares   map[mail.MessageID]int      // recipients still queued, of messages settled lately
	touched  []mail.MessageID            // shares changed by this batch
	uses     map[keyUse]struct{}         // of data keys by days of the event log, as noted on disk
	newUses  []keyUse                    // as the commit under way notes them
	newKeys  []seal.WrappedKey           // data keys to be written and shipped with the next commit
	ops      []Op                        // what this batch changes, for the standbys
	unmarked int64                       // marks of exposure that this batch removes
	frame    uint64                      // number of the last batch shipped, 0 = none yet
	numbered bool                        // frames are noted: NumberFrames was called
	last     uint64                      // noted in the commit under way
	noted    [8]byte                     // frame, as the commit under way notes it
	unproved bool                        // no frame came after the last one that changed anything
	scratch  []byte
	mark     mail.Seq  // no number above it is handed out before it is raised on disk
	markNext mail.Seq  // mark that the commit under way writes
	snapped  time.Time // when the counters were last written, Wall
	snapping bool
	sure     time.Time // when SettleQueued was last asked for, Wall
}

const (
	snapshotEvery = 10 * time.Second
	maxShares     = 64 << 10  // messages whose count is remembered; about 2 MB
	surePatience  = time.Hour // no attempt takes longer
	markAhead     = mail.Seq(time.Second / time.Microsecond)
)

// run is the committer's goroutine. It ends when the store is closed and nothing waits.
func (s *Store) run() {
	defer close(s.drained)
	tick := time.NewTicker(snapshotEvery)
	defer tick.Stop()
	var batch []*request
	var begun time.Time // of closing
	for {
		// Whoever is ready to hand something in goes first: it costs no time when nobody is, and fills the commit when
		// many are.
		runtime.Gosched()
		batch = s.inbox.take(batch[:0])
		if len(batch) > 0 {
			s.commitInRoom(batch)
			clear(batch)
			continue
		}
		select {
		case <-s.inbox.wake:
		case <-tick.C:
			if s.stats.Changed() && s.room() {
				s.commit(nil)
			}
		case <-s.closing:
			if begun.IsZero() {
				begun = clock.Wall()
			}
			if batch = s.inbox.take(batch[:0]); len(batch) > 0 {
				s.commitInRoom(batch)
				continue
			}
			if s.awaitHolds(begun) || !s.inbox.end() {
				continue
			}
			s.c.snapped = time.Time{}
			if s.stats.Changed() && s.room() {
				s.commit(nil)
			}
			return
		}
	}
}

// commitInRoom commits what the disk has room for.
func (s *Store) commitInRoom(batch []*request) {
	if batch = s.awaitRoom(batch); len(batch) > 0 {
		s.commit(batch)
	}
}

// commit makes a batch durable and tells its owners. A batch too large for one transaction is halved; nothing of it
// has been written then.
func (s *Store) commit(batch []*request) {
	begun := clock.Wall()
	err := s.Err()
	if err == nil {
		err = s.write(batch)
	}
	if errors.Is(err, badger.ErrTxnTooBig) {
		clear(s.c.shares)
		if len(batch) > 1 {
			s.commit(batch[:len(batch)/2])
			s.commit(batch[len(batch)/2:])
			return
		}
		s.finish(batch, ErrTooMany)
		return
	}
	if err != nil {
		s.fail(err)
		s.finish(batch, s.Err())
		return
	}
	s.account(batch)
	for _, u := range s.c.newUses {
		s.c.uses[u] = struct{}{}
	}
	if s.cfg.OnCommit != nil {
		s.cfg.OnCommit(clock.Since(begun).Seconds(), len(batch))
	}
	if s.cfg.Ship != nil {
		s.await(batch)
		return
	}
	s.finish(batch, nil)
}

// finish calls every done.
func (s *Store) finish(batch []*request, err error) {
	for _, r := range batch {
		s.answer(r, err)
	}
}

// write makes one Badger transaction of the batch and commits it.
func (s *Store) write(batch []*request) error {
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	c := &s.c
	clear(c.keys)
	c.ops, c.unmarked = c.ops[:0], 0
	c.touched, c.newUses = c.touched[:0], c.newUses[:0]
	c.builder.Reset()
	if len(c.shares) > maxShares {
		clear(c.shares)
	}
	for _, r := range batch {
		if err := s.stage(txn, r); err != nil {
			return err
		}
	}
	if s.cfg.Ship != nil {
		c.gather(batch)
	}
	if err := s.stageShares(txn); err != nil {
		return err
	}
	if err := s.stageRest(txn, batch); err != nil {
		return err
	}
	// Last: whatever was sealed for this commit has its data key in it. Taken keys are kept until they are committed,
	// for this batch may yet be halved.
	c.newKeys = append(c.newKeys, s.ring.TakeNew()...)
	for _, k := range c.newKeys {
		if err := s.set(txn, binary.BigEndian.AppendUint32([]byte{kindDataKey}, k.ID), k.Blob); err != nil {
			return fmt.Errorf("store data key: %w", err)
		}
		if err := s.use(txn, keyUse{id: k.ID}); err != nil {
			return err
		}
	}
	if s.cfg.Ship != nil {
		if err := s.ship(txn, batch); err != nil {
			return err
		}
	}
	if err := s.commitTxn(txn); err != nil {
		return err
	}
	c.newKeys = c.newKeys[:0]
	return nil
}

// set and delete change a record in the transaction and note it for the standbys.
func (s *Store) set(txn *badger.Txn, key, value []byte) error {
	if s.cfg.Ship != nil {
		s.c.ops = append(s.c.ops, Op{Key: key, Value: value})
	}
	return txn.Set(key, value)
}

func (s *Store) delete(txn *badger.Txn, key []byte) error {
	if s.cfg.Ship != nil {
		s.c.ops = append(s.c.ops, Op{Delete: true, Key: key})
	}
	return txn.Delete(key)
}

// stage adds one request to the transaction, or sets its err.
func (s *Store) stage(txn *badger.Txn, r *request) error {
	if r.hasKey {
		id, known, err := s.knownKey(txn, r.key)
		if err != nil {
			return err
		}
		if known {
			r.err = &DuplicateError{ID: id}
			return nil
		}
		s.c.keys[r.key] = r.id
	}
	if r.sure {
		s.c.sure = clock.Wall()
	}
	if r.settles || r.outcome && !s.c.sure.IsZero() && clock.Since(s.c.sure) < surePatience {
		ok, err := s.stageShare(txn, r)
		if err != nil || !ok {
			return err
		}
	}
	if r.shares > 0 {
		s.c.shares[r.message] = r.shares
		s.c.touched = append(s.c.touched, r.message)
	}
	if r.withdraws {
		delete(s.c.shares, r.message)
	}
	if r.ifAbsent {
		if err := r.dropPresent(txn); err != nil {
			return err
		}
	}
	if r.present {
		switch _, err := txn.Get(r.sets[0].Key); {
		case errors.Is(err, badger.ErrKeyNotFound):
			r.err = ErrNotQueued
			return nil
		case err != nil:
			return fmt.Errorf("look for delivery: %w", err)
		}
	}
	if r.unmarks {
		return s.unmark(txn, r.dels...)
	}
	if r.outcome && r.final && !r.settles && s.exposed.Load() > 0 {
		if err := s.unmark(txn, appendMessageKey(nil, kindExposed, s.lineage, r.message)); err != nil {
			return err
		}
	}
	for _, k := range r.dels {
		if err := txn.Delete(k); err != nil {
			return err
		}
	}
	for i := range r.sets {
		if err := txn.SetEntry(&r.sets[i]); err != nil {
			return err
		}
		if r.logs {
			if err := s.noteUse(txn, r.sets[i].Key, r.sets[i].Value); err != nil {
				return err
			}
		}
	}
	s.c.builder.Add(&r.pack)
	return nil
}

// stageShare looks for the record of what is settled, and counts one recipient of a shared body down: settling what is
// not queued would take a share that another recipient still needs.
func (s *Store) stageShare(txn *badger.Txn, r *request) (ok bool, err error) {
	if _, err := txn.Get(r.dels[0]); errors.Is(err, badger.ErrKeyNotFound) {
		r.err = ErrNotQueued
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("look for delivery: %w", err)
	}
	if !r.final || !r.settles {
		return true, nil
	}
	left, err := s.sharesOf(txn, r.message)
	if err != nil {
		return false, err
	}
	s.c.shares[r.message] = left - 1
	s.c.touched = append(s.c.touched, r.message)
	if left == 1 {
		r.live -= int64(s.bodySize(txn, r.message))
	}
	return true, nil
}

// sharesOf returns how many recipients of a message are queued. A count that cannot be read keeps its body for good:
// better a body too many than a delivery without one.
func (s *Store) sharesOf(txn *badger.Txn, message mail.MessageID) (int, error) {
	if n, ok := s.c.shares[message]; ok {
		return n, nil
	}
	item, err := txn.Get(appendMessageKey(nil, kindShares, s.lineage, message))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 1 << 30, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read share count: %w", err)
	}
	var n int
	err = item.Value(func(v []byte) error {
		plain, err := s.openMessage(kindShares, message, v)
		if err == nil && len(plain) == 4 {
			n = int(binary.BigEndian.Uint32(plain))
			return nil
		}
		s.damaged.Add(1)
		s.log.Error("share count damaged: body kept", "message", message.String())
		n = 1 << 30
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read share count: %w", err)
	}
	return n, nil
}

// stageShares writes the counts the batch changed, and ends bodies nobody waits for.
func (s *Store) stageShares(txn *badger.Txn) error {
	for _, m := range s.c.touched {
		key := appendMessageKey(nil, kindShares, s.lineage, m)
		if n := s.c.shares[m]; n > 0 {
			var aad [maxIdentity]byte
			plain := binary.BigEndian.AppendUint32(nil, uint32(n))
			if err := s.set(txn, key, s.ring.Seal(nil, plain, messageIdentity(aad[:0], s.lineage, m, kindShares))); err != nil {
				return err
			}
			continue
		}
		if s.exposed.Load() > 0 {
			if err := s.unmark(txn, appendMessageKey(nil, kindExposed, s.lineage, m)); err != nil {
				return err
			}
		}
		if err := s.delete(txn, key); err != nil {
			return err
		}
		if err := s.delete(txn, appendMessageKey(nil, kindBody, s.lineage, m)); err != nil {
			return err
		}
	}
	return nil
}

// stageRest adds what the commit carries besides its requests: the event block, the counters now and then, and the
// mark above which no sequence number has been given out.
func (s *Store) stageRest(txn *badger.Txn, batch []*request) error {
	c := &s.c
	for _, rec := range s.events.Seal(c.builder, s.cfg.Clock.Now()) {
		if err := txn.Set(rec.Key, rec.Value); err != nil {
			return err
		}
		if err := s.noteUse(txn, rec.Key, rec.Value); err != nil {
			return err
		}
	}
	c.markNext = c.mark
	for _, r := range batch {
		if r.maxSeq > c.markNext {
			c.markNext = r.maxSeq + markAhead
		}
	}
	if c.markNext != c.mark {
		if err := txn.Set([]byte(keyMark), s.sealMark(c.markNext)); err != nil {
			return err
		}
	}
	c.snapping = clock.Since(c.snapped) >= snapshotEvery && s.stats.Changed()
	if c.snapping {
		if err := txn.Set([]byte{kindSnapshot}, s.sealSnapshot()); err != nil {
			return err
		}
		if err := s.stats.Days(func(d statistics.Date, raw []byte) error { return txn.Set(s.day(kindDay, d, raw)) }); err != nil {
			return err
		}
	}
	return nil
}

// account brings what is kept in memory up to date after a commit, before anybody is told of it.
func (s *Store) account(batch []*request) {
	c := &s.c
	c.mark = c.markNext
	if c.last > s.Shipped() {
		s.shipped.Store(c.last)
	}
	if c.snapping {
		c.snapped = clock.Wall()
		s.stats.Written()
	}
	x := &s.index
	x.mu.Lock()
	for _, r := range batch {
		if r.err != nil {
			continue
		}
		x.live += r.live
		s.exposed.Add(r.marks)
		for i := range r.adds {
			x.put(&r.adds[i])
		}
		for i := range r.drops {
			x.drop(&r.drops[i])
		}
		for _, k := range r.booked {
			s.bookings.add(k)
		}
		for _, k := range r.freed {
			s.bookings.remove(k)
		}
	}
	x.mu.Unlock()
	s.exposed.Add(-c.unmarked)
	for _, m := range c.touched {
		if c.shares[m] <= 0 {
			delete(c.shares, m)
		}
	}
	s.events.Committed(c.builder)
	for _, r := range batch {
		if r.err != nil {
			continue
		}
		for i := range r.events {
			s.stats.Add(&r.events[i])
		}
	}
	// Last: a rebuild reads the whole commit from the log, so nothing of it may be counted after.
	for _, r := range batch {
		if r.err == nil && r.alone != nil {
			r.alone()
		}
	}
}
