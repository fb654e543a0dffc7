package queue

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/internal/remnant"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/record"
	"github.com/ekiden-mta/ekiden/storage/seal"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

// Store is an open queue. Safe for concurrent use.
type Store struct {
	cfg     Config
	log     *slog.Logger
	db      *badger.DB
	ring    *seal.Ring
	lineage mail.Lineage
	home    mail.Lineage // its first one: what outlives the queue is bound to it
	names   domainNames
	events  *events.Log
	stats   *stats.Table
	// recounted is how many events a rebuild has counted.
	recounted atomic.Uint64
	folding   turn

	inbox     inbox
	requests  sync.Pool    // of *request
	groups    sync.Pool    // of *group
	holds     atomic.Int64 // groups that wait for standbys
	unheld    unheld
	exposed   atomic.Int64  // messages marked as held by this node alone
	lastFrame atomic.Uint64 // number of the last batch shipped
	shipped   atomic.Uint64 // as noted on disk; see Shipped
	runID     uint32        // tells the marks of exposure of this run of the process
	c         committer     // the committer's goroutine only
	index     index
	bookings  bookings
	cleaning  map[destination]int // cleaning mail found when the store was opened; never changed after
	lastSeq   atomic.Uint64
	space     space

	sweeping sync.Mutex // guards swept
	swept    []uint32   // data keys deleted by the last sweep, and still in the ring

	failure atomic.Pointer[error]
	damaged atomic.Uint64 // records that did not open
	bad     quarantined
	parked  atomic.Pointer[Parked]
	steps   atomic.Uint64 // records that scans looked at, dead ones included

	life    sync.RWMutex // held for reading while somebody reads the database
	ended   bool         // under life
	once    sync.Once    // of Close
	sticky  sync.Once
	closing chan struct{}
	drained chan struct{} // closed by the committer
	stuck   chan struct{} // closed once a goroutine of Badger never goes on: see keepCollected
	tasks   sync.WaitGroup

	collecting atomic.Bool // a value log is being rewritten
	watch      *fileWatch
	written    int64 // bytes per synced record, from the self-test
}

const (
	keyIdentity = string(kindIdentity)
	keyMark     = string(kindIdentity) + "m"
	keyShipped  = string(kindIdentity) + "f"
)

// schema is the format of what a store holds. It is told at every start, so that a version that would take newer records
// for damaged ones refuses the store instead. 1: the mail of all tenants to a domain is one part of the queue. 2: each
// tenant's is one of its own; what was stored before stays where it is until it is settled. It is not raised for what
// was added since, as long as nothing has been released that would not know it.
const schema = 2

// Open opens the store in cfg.Dir, or makes one. After a crash it takes up where the last commit ended.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s, err := openStore(cfg)
	if err != nil {
		return nil, err
	}
	go s.run()
	s.probe()
	s.tasks.Add(4)
	go s.gather()
	go s.sweep()
	go s.watchSpace()
	go s.collect()
	return s, nil
}

// openStore opens the store's files. Nobody works on them yet.
func openStore(cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Ballast == 0 {
		cfg.Ballast = defaultBallast
	}
	s := &Store{cfg: cfg, log: cfg.Log, ring: cfg.Ring, folding: make(turn, 1), names: domainNames{ring: cfg.Ring},
		closing: make(chan struct{}), drained: make(chan struct{}), stuck: make(chan struct{})}
	s.stats = s.newStats(kindDay)
	s.unheld.by = map[mail.Seq]struct{}{}
	s.index.by, s.index.least, s.bookings.by = map[destination]*lane{}, minGap, map[booking]int{}
	s.runID = newRunID()
	s.inbox.wake = make(chan struct{}, 1)
	s.inbox.room = sync.NewCond(&s.inbox.mu)
	s.c.keys, s.c.shares = map[[16]byte]mail.MessageID{}, map[mail.MessageID]int{}
	if err := s.openFiles(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", cfg.Dir, err)
	}
	return s, nil
}

// openFiles opens Badger and reads what must be known before the first request.
func (s *Store) openFiles() (err error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	if err := remnant.Clear(s.cfg.Dir, ".mem", ".vlog"); err != nil {
		return err
	}
	s.watchFiles()
	if s.db, err = badger.Open(s.options()); err != nil {
		s.stopWatching()
		return err
	}
	defer func() {
		if err != nil {
			s.stopWatching()
			err = errors.Join(err, s.db.Close())
		}
	}()
	s.adviseRandom()
	if err := s.restoreKeys(); err != nil {
		return err
	}
	if err := s.loadIdentity(); err != nil {
		return err
	}
	if err := s.loadIndex(); err != nil {
		return err
	}
	if err := s.loadParked(); err != nil {
		return err
	}
	if s.c.builder, err = events.NewBuilder(); err != nil {
		return err
	}
	if err := s.loadEvents(); err != nil {
		return err
	}
	if err := s.loadUses(); err != nil {
		return err
	}
	return s.openSpace()
}

// options is how Badger serves a queue; the figures behind each are in storage/DESIGN.md.
func (s *Store) options() badger.Options {
	return badger.DefaultOptions(s.cfg.Dir).
		WithSyncWrites(true).WithDetectConflicts(false).WithNumVersionsToKeep(1).
		WithValueThreshold(valueMinimum).WithValueLogFileSize(valueLogSize).
		WithMemTableSize(memTableSize).WithNumMemtables(3).WithNumCompactors(2).
		WithNumLevelZeroTables(levelZeroTables).WithNumLevelZeroTablesStall(2 * levelZeroTables).
		WithBaseTableSize(1 << 20).WithBaseLevelSize(baseLevelSize).
		WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(indexCache).
		WithMetricsEnabled(false).WithLogger(&logger{log: s.log, fail: s.fail, lost: s.keepCollected})
}

// restoreKeys gives the ring the data keys that lie in the store.
func (s *Store) restoreKeys() error {
	return s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindDataKey}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			k := it.Item().Key()
			if len(k) != 5 {
				return fmt.Errorf("data key: %w", ErrTampered)
			}
			blob, err := it.Item().ValueCopy(nil)
			if err != nil {
				return fmt.Errorf("read data key: %w", err)
			}
			if err := s.ring.Restore(seal.WrappedKey{ID: binary.BigEndian.Uint32(k[1:]), Blob: blob}); err != nil {
				return fmt.Errorf("restore data key: %w", err)
			}
		}
		return nil
	})
}

// loadIdentity reads the lineage and the mark, or makes them at the first start.
func (s *Store) loadIdentity() error {
	return s.db.Update(func(txn *badger.Txn) error {
		raw, err := s.small(txn, []byte(keyIdentity), []byte(aadIdentity))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return s.newIdentity(txn)
		}
		if err != nil {
			return fmt.Errorf("identity: %w", err)
		}
		if err := s.parseIdentity(raw); err != nil {
			return err
		}
		if err := s.loadShipped(txn); err != nil {
			return err
		}
		if raw[0] < schema {
			s.log.Warn("the queue is of an older format: older versions of ekiden cannot open it from now on", "format", raw[0], "now", schema)
			if err := s.keepIdentity(txn); err != nil {
				return err
			}
		}
		mark, err := s.small(txn, []byte(keyMark), s.homeIdentity(kindIdentity, [16]byte{}))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil // nothing was ever put
		}
		if err != nil || len(mark) != 8 {
			return fmt.Errorf("sequence mark: %w", errors.Join(err, ErrTampered))
		}
		s.c.mark = mail.Seq(binary.BigEndian.Uint64(mark))
		s.lastSeq.Store(uint64(s.c.mark))
		return nil
	})
}

// aadIdentity is what the record is bound to that tells what all others are bound to.
const aadIdentity = "ekiden store identity"

// sealIdentity seals the lineage of the queue and, behind it, the first one of the store where that is another.
func (s *Store) sealIdentity(l mail.Lineage) []byte {
	plain := binary.BigEndian.AppendUint32([]byte{schema}, uint32(l))
	if l != s.home {
		plain = binary.BigEndian.AppendUint32(plain, uint32(s.home))
	}
	return s.ring.Seal(nil, plain, []byte(aadIdentity))
}

// parseIdentity reads what sealIdentity wrote. A store of an older schema is read as it is: see schema.
func (s *Store) parseIdentity(raw []byte) error {
	if len(raw) > 0 && raw[0] > schema {
		return fmt.Errorf("store of format %d: %w", raw[0], ErrNewer)
	}
	if len(raw) != 5 && len(raw) != 9 || raw[0] == 0 {
		return fmt.Errorf("identity: %w", record.ErrDamaged)
	}
	s.lineage = mail.Lineage(binary.BigEndian.Uint32(raw[1:]))
	if s.home = s.lineage; len(raw) == 9 {
		s.home = mail.Lineage(binary.BigEndian.Uint32(raw[5:]))
	}
	return nil
}

// newLineage draws the number of a lineage.
func newLineage() (l mail.Lineage) {
	var raw [4]byte
	for l == 0 {
		rand.Read(raw[:])
		l = mail.Lineage(binary.BigEndian.Uint32(raw[:]))
	}
	return l
}

func (s *Store) newIdentity(txn *badger.Txn) error {
	s.lineage = newLineage()
	s.home = s.lineage
	return s.keepIdentity(txn)
}

// keepIdentity writes the identity, and the data keys it may have been sealed with first.
func (s *Store) keepIdentity(txn *badger.Txn) error {
	if err := txn.Set([]byte(keyIdentity), s.sealIdentity(s.lineage)); err != nil {
		return err
	}
	s.c.newKeys = s.ring.TakeNew() // and once more with the first commit, for the standbys
	for _, k := range s.c.newKeys {
		if err := txn.Set(binary.BigEndian.AppendUint32([]byte{kindDataKey}, k.ID), k.Blob); err != nil {
			return err
		}
	}
	return nil
}

// small reads and opens one record.
func (s *Store) small(txn *badger.Txn, key, aad []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if err != nil {
		return nil, err
	}
	sealed, err := item.ValueCopy(nil)
	if err != nil {
		return nil, err
	}
	return s.ring.Open(nil, sealed, aad)
}

func (s *Store) sealMark(m mail.Seq) []byte {
	plain := binary.BigEndian.AppendUint64(nil, uint64(m))
	return s.ring.Seal(nil, plain, s.homeIdentity(kindIdentity, [16]byte{}))
}

// loadIndex counts what waits: one pass over the keys, and a look at what is reserved.
func (s *Store) loadIndex() error {
	s.cleaning = map[destination]int{}
	return s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindDelivery}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if at, ok := parseSpot(it.Item().Key()); ok {
				s.index.put(&at)
				s.index.live += deliveryWeight
				if err := s.book(it.Item(), &at); err != nil {
					return err
				}
			}
		}
		marks := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindExposed}})
		defer marks.Close()
		for marks.Rewind(); marks.Valid(); marks.Next() {
			s.exposed.Add(1)
		}
		bodies := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindBody}})
		defer bodies.Close()
		for bodies.Rewind(); bodies.Valid(); bodies.Next() {
			s.index.live += bodies.Item().EstimatedSize()
		}
		return nil
	})
}

// Close ends the store: requests that wait are still committed, later ones hear ErrClosed.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		s.inbox.refuse(ErrClosed)
		close(s.closing)
		<-s.drained
		idle := make(chan struct{})
		go func() {
			s.tasks.Wait()
			close(idle)
		}()
		select {
		case <-idle:
		case <-s.stuck:
		}
		err = s.closeFiles()
	})
	return err
}

// closeFiles undoes openStore. Nobody works on the files any more, unless Badger is stuck: then it stays open, and what
// it still wants to write must not be written.
func (s *Store) closeFiles() error {
	s.stopWatching()
	s.events.Close()
	if s.isStuck() {
		return fmt.Errorf("close store: left open: %w", s.Err())
	}
	s.life.Lock()
	s.ended = true
	s.life.Unlock()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// enter keeps the database open until leave; false where it is closed.
func (s *Store) enter() bool {
	s.life.RLock()
	if s.ended {
		s.life.RUnlock()
		return false
	}
	return true
}

func (s *Store) leave() { s.life.RUnlock() }

// fail makes the store refuse everything from now on. The first reason stays.
func (s *Store) fail(reason error) {
	err := fmt.Errorf("%w: %w", ErrFailed, reason)
	if errors.Is(reason, ErrFailed) {
		err = reason
	}
	if !s.failure.CompareAndSwap(nil, &err) {
		return
	}
	s.log.Error("store failed: no more mail is accepted, restart the process", "err", reason)
	s.inbox.refuse(err)
	if s.cfg.OnFail != nil {
		go s.cfg.OnFail(err)
	}
}

// Err returns the reason why the store has failed, which wraps ErrFailed, or nil.
func (s *Store) Err() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// Lineage names this store.
func (s *Store) Lineage() mail.Lineage { return s.lineage }

// Events is the event log.
func (s *Store) Events() *events.Log { return s.events }

// Counters is the counts of requirement R60, kept up to date with every commit.
func (s *Store) Counters() *stats.Table { return s.stats }

func (s *Store) id(m mail.Seq) mail.MessageID { return mail.MessageID{Lineage: s.lineage, Seq: m} }

func wallMicros() int64 { return clock.Wall().UnixMicro() }

// Records deleted by one commit of a purge.
const purgeBatch = 1000

// remove deletes keys in one commit and waits for it.
func (s *Store) remove(ctx context.Context, keys [][]byte) error {
	return s.submitAndWait(ctx, func(r *request) {
		for _, k := range keys {
			r.del(k)
		}
	})
}
