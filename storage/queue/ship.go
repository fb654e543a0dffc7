package queue

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

const (
	closePatience = 10 * time.Second // for the word of standbys; a Shipper answers sooner
	holdPoll      = 10 * time.Millisecond
)

// Op is one change of a record, sealed as it stands in the store: Value becomes what Key holds, or Key goes.
type Op struct {
	Delete     bool
	Key, Value []byte
}

// Shipper brings what the store commits to the standbys. It knows bytes only.
//
// What is shipped equals what is committed, in the same order: replaying all frames gives the live deliveries, bodies,
// share counts, idempotency keys, marks of adoption and wrapped data keys, and nothing else. The one exception is the
// last frame before a crash: it may have been shipped without being committed. So after every start of the owner the
// standbys need its live records anew (see Store.Live) before what they held of it earlier counts.
type Shipper interface {
	// Ship takes the changes of one commit, before the commit is begun, so that both syncs overlap. outcomes tells
	// how many attempts it settles. Ship is called by one goroutine, copies what it keeps, and does not wait for
	// standbys. n grows with every call, for as long as the process lives at least.
	Ship(ops []Op, outcomes int) (n uint64)

	// WhenHeld calls done exactly once, in bounded time, when every frame up to n is held by as many standbys as the
	// policy asks for. exposed tells that the policy let it pass with fewer: only this node may hold it. An error, of
	// which ErrShort is the one that strict gives, tells that the client must not be told its mail is accepted.
	WhenHeld(n uint64, done func(exposed bool, err error))

	// WhenSettled calls done exactly once, when the outcomes of frame n may count as settled: at once while few outcomes
	// are unacknowledged, else after the standbys acknowledged, or where the policy lets them pass without. An error is
	// given to the one who settles; the settlement stands here all the same.
	WhenSettled(n uint64, done func(error))

	// Both may call done before they return, or later from any goroutine; done does not block.
}

// ErrShort: fewer standbys than the policy demands hold the message. It was deleted again; the client should hear 451.
var ErrShort = errors.New("too few standbys hold the message")

// shipped tells whether records under k go to the standbys. Events, counters, operator state and marks of the owner
// belong to this node.
func shipped(k []byte) bool {
	switch k[0] {
	case kindDelivery, kindBody, kindShares, kindKey, kindDataKey, kindAdopted:
		return true
	}
	return false
}

// gather notes the changes of the requests of a batch for shipping, in the order in which they were staged.
func (c *committer) gather(batch []*request) {
	for _, r := range batch {
		if r.err != nil {
			continue
		}
		for _, k := range r.dels {
			if shipped(k) {
				c.ops = append(c.ops, Op{Delete: true, Key: k})
			}
		}
		for i := range r.sets {
			if e := &r.sets[i]; shipped(e.Key) {
				c.ops = append(c.ops, Op{Key: e.Key, Value: e.Value})
			}
		}
	}
}

// ship hands the changes of a transaction over that is filled and will be committed next. Filling it has found out
// whether it is too large, so Commit does not say so any more.
func (s *Store) ship(txn *badger.Txn, batch []*request) error {
	c := &s.c
	s.unheld.hide(batch)
	if len(c.ops) == 0 && !s.proves() {
		return nil
	}
	if err := s.noteFrame(txn); err != nil {
		return err
	}
	c.unproved = len(c.ops) > 0
	outcomes := 0
	for _, r := range batch {
		if r.outcome && r.err == nil {
			outcomes++
		}
	}
	c.frame = s.cfg.Ship.Ship(c.ops, outcomes)
	s.lastFrame.Store(c.frame)
	s.noted(c.frame)
	clear(c.ops)
	return nil
}

// unheld is the messages, and their deliveries, that are committed here but of which it is not known yet whether they
// are held: the client has no answer. Scans do not show them, so that nothing is delivered that is refused later.
type unheld struct {
	mu sync.RWMutex
	by map[mail.Seq]struct{}
}

func (u *unheld) hide(batch []*request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, r := range batch {
		if r.err != nil || !r.bringsMail() {
			continue
		}
		for i := range r.adds {
			u.by[mail.Seq(r.adds[i].at.seq)] = struct{}{}
		}
		if !r.adopted { // its number is another store's
			u.by[r.message.Seq] = struct{}{}
		}
	}
}

func (u *unheld) show(r *request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range r.adds {
		delete(u.by, mail.Seq(r.adds[i].at.seq))
	}
	if !r.adopted {
		delete(u.by, r.message.Seq)
	}
}

func (u *unheld) has(seq mail.Seq) bool {
	u.mu.RLock()
	defer u.mu.RUnlock()
	_, ok := u.by[seq]
	return ok
}

// hidden tells whether a delivery must not be shown yet.
func (s *Store) hidden(seq mail.Seq) bool { return s.cfg.Ship != nil && s.unheld.has(seq) }

// group is requests of one commit that wait for the same word of the standbys.
type group struct {
	s        *Store
	requests []*request
	held     func(exposed bool, err error)
	settled  func(error)
}

func (s *Store) newGroup() *group {
	g, ok := s.groups.Get().(*group)
	if !ok {
		g = &group{s: s}
		g.held, g.settled = g.whenHeld, g.whenSettled
	}
	return g
}

// end frees g, whose requests were answered or handed on.
func (g *group) end() {
	clear(g.requests)
	g.requests = g.requests[:0]
	s := g.s
	s.groups.Put(g)
	s.holds.Add(-1)
}

// await answers the requests of a commit that is done: those that bring mail when standbys hold it, settlements when
// there is credit, the others at once. It waits for none of them.
func (s *Store) await(batch []*request) {
	var puts, outcomes *group
	for _, r := range batch {
		switch {
		case r.waits(s) && s.c.frame > 0:
			if puts == nil {
				puts = s.newGroup()
			}
			puts.requests = append(puts.requests, r)
		case r.outcome && r.err == nil && s.c.frame > 0:
			if outcomes == nil {
				outcomes = s.newGroup()
			}
			outcomes.requests = append(outcomes.requests, r)
		default:
			s.answer(r, nil)
		}
	}
	if puts != nil {
		s.holds.Add(1)
		s.cfg.Ship.WhenHeld(s.c.frame, puts.held)
	}
	if outcomes != nil {
		s.holds.Add(1)
		s.cfg.Ship.WhenSettled(s.c.frame, outcomes.settled)
	}
}

// waits tells whether r's owner may hear of it only when standbys hold it. A duplicate waits with the message it
// repeats: that may still be refused.
func (r *request) waits(s *Store) bool {
	if dup, ok := r.err.(*DuplicateError); ok {
		return dup.ID.Lineage == s.lineage && s.unheld.has(dup.ID.Seq)
	}
	return r.err == nil && (r.flush || r.present || r.bringsMail())
}

// bringsMail tells whether r is a Put with anything that a standby keeps.
func (r *request) bringsMail() bool { return r.puts && len(r.sets) > 0 }

func (g *group) whenSettled(err error) {
	for _, r := range g.requests {
		g.s.answer(r, err)
	}
	g.end()
}

// whenHeld hears from the shipper what became of the messages of one commit.
func (g *group) whenHeld(exposed bool, err error) {
	s := g.s
	var alone []*request
	for _, r := range g.requests {
		switch {
		case r.err != nil: // a duplicate of what may be gone by now
			r.err = nil
			s.push(r)
		case r.flush:
			if err == nil && exposed {
				s.answer(r, ErrShort)
			} else {
				s.answer(r, err)
			}
		case r.present: // whether others hold the mark or not, it stands here
			s.answer(r, nil)
		case err != nil && (!r.adopted || !errors.Is(err, ErrShort)):
			s.withdraw(r, err)
		case err != nil || exposed:
			alone = append(alone, r)
		default:
			s.unheld.show(r)
			s.answer(r, nil)
		}
	}
	if len(alone) > 0 {
		s.markExposed(alone)
	}
	g.end()
}

// answer tells r's owner and frees r.
func (s *Store) answer(r *request, err error) {
	if r.err != nil && err == nil {
		err = r.err
	}
	r.done(err)
	s.free(r)
}

// withdraw deletes a message that was committed here and is not held elsewhere as it must be, and tells its owner then.
// What was adopted stays: it lies where it came from until all of it is adopted.
func (s *Store) withdraw(put *request, reason error) {
	if put.adopted {
		s.unheld.show(put)
		s.answer(put, reason)
		return
	}
	r := s.newRequest(func(error) {
		s.unheld.show(put)
		s.answer(put, reason)
	})
	r.withdraws, r.message = true, put.message
	// Not the keys of put.sets: Badger has appended its version to them.
	for i := range put.adds {
		r.del(appendSpot(nil, &put.adds[i]))
	}
	r.del(appendMessageKey(nil, kindBody, s.lineage, put.message))
	if put.shares > 0 {
		r.del(appendMessageKey(nil, kindShares, s.lineage, put.message))
	}
	if put.hasKey {
		r.del(append([]byte{kindKey}, put.key[:]...))
	}
	r.drops, r.freed = append(r.drops, put.adds...), put.booked
	r.live = -put.live
	queued := make(map[mail.Seq]bool, len(put.adds))
	for i := range put.adds {
		queued[mail.Seq(put.adds[i].at.seq)] = true
	}
	for _, e := range put.events {
		if e.Kind != mail.EventAccepted || !queued[e.Delivery] {
			continue
		}
		if e.Message != put.message { // of what came with it
			r.del(appendMessageKey(nil, kindBody, s.lineage, e.Message))
		}
		r.events = append(r.events, mail.Event{At: s.cfg.Clock.Now(), Kind: mail.EventDiscarded, Message: e.Message,
			Delivery: e.Delivery, Own: e.Own, Tenant: e.Tenant, Group: e.Group, From: e.From, To: e.To, Domain: e.Domain,
			Composition: e.Composition, User: e.User, APIData: e.APIData, Cleaning: e.Cleaning, Taken: e.At,
			Detail: "refused with 451: " + ErrShort.Error()})
	}
	for i := range r.events {
		s.events.Pack(&r.pack, &r.events[i])
	}
	s.push(r)
}

// awaitHolds tells that there are requests whose fate the standbys decide, and waits a little for news of them, at most
// closePatience since begun. Only the committer calls it, when the store closes.
func (s *Store) awaitHolds(begun time.Time) bool {
	if s.holds.Load() == 0 {
		return false
	}
	if clock.Since(begun) > closePatience {
		s.log.Warn("closed without word of the standbys", "commits", s.holds.Load())
		return false
	}
	select {
	case <-s.inbox.wake:
	case <-time.After(holdPoll):
	}
	return true
}

// dropPresent leaves out the records that r would set and that are there already.
func (r *request) dropPresent(txn *badger.Txn) error {
	kept := r.sets[:0]
	for i := range r.sets {
		switch _, err := txn.Get(r.sets[i].Key); {
		case errors.Is(err, badger.ErrKeyNotFound):
			kept = append(kept, r.sets[i])
		case err != nil:
			return fmt.Errorf("look for record: %w", err)
		}
	}
	r.sets = kept
	return nil
}
