package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
)

// Config says where the book lies.
type Config struct {
	Dir string // of its own, made if missing
	Box Sealer
	Log *slog.Logger // nil: nowhere
	// OnFail is called once, in a goroutine of its own, when the store has failed. May be nil.
	OnFail func(error)
}

// Validate says what is missing.
func (c *Config) Validate() error {
	if c.Dir == "" || c.Box == nil {
		return errors.New("ledger: a directory and a sealer are needed")
	}
	return nil
}

// What the store reports.
var (
	// ErrFailed: a write or an entry could not be taken in. Nothing more is applied until the process starts again,
	// since a member that left an entry out would disagree with the others from there on. Reads go on.
	ErrFailed = errors.New("ledger failed")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("ledger is closed")
	// ErrTampered: a record is not what was sealed under its key.
	ErrTampered = errors.New("ledger record does not verify")
)

// Entry is one agreed entry: its data is a command made by EncodeSealed.
type Entry struct {
	Index, Term uint64
	Data        []byte
	Prepared    *Prepared // what Data holds, where this member has it at hand; else nil
}

// Store is the open book. Safe for concurrent use; entries come from one goroutine at a time.
type Store struct {
	cfg      Config
	log      *slog.Logger
	box      Sealer
	apply    sync.Mutex // held by who changes the book
	memory   []byte     // of the last commit, to be used again; under apply
	view     atomic.Pointer[published]
	filter   atomic.Pointer[filter]
	watchers watchers
	failure  atomic.Pointer[error]

	life  sync.RWMutex // held for reading while the book in it is read
	book  *book        // nil when closed
	tasks sync.WaitGroup
	ended chan struct{}
}

// published is what readers see: the state after a whole number of entries.
type published struct {
	*State
	mark mark
}

// mark is the record of how far the book is.
type mark struct {
	Stamp
	Suppressions uint64
}

const schema = 1

func (m *mark) fields(c *codec) {
	version := byte(schema)
	c.byte(&version)
	if version != schema {
		c.fail()
	}
	c.uint(&m.Index)
	c.uint(&m.Term)
	c.uint(&m.Suppressions)
}

// Open opens the book in cfg.Dir, or makes an empty one. It reads the small parts into memory; the filter in front of
// the suppressions is built in the background, and look-ups read the disk until it is there.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, log: cfg.Log, box: cfg.Box, ended: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.watchers.all = map[*watcher]struct{}{}
	b, err := openBook(cfg.Dir, s.logger())
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", cfg.Dir, err)
	}
	if err := s.use(b); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", cfg.Dir, errors.Join(err, b.db.Close()))
	}
	return s, nil
}

func (s *Store) logger() *logger { return &logger{log: s.log, fail: s.fail} }

// use makes b the book that is read and written.
func (s *Store) use(b *book) error {
	p, err := s.load(b.db)
	if err != nil {
		return err
	}
	f := newFilter(p.mark.Suppressions + p.mark.Suppressions/4)
	s.life.Lock()
	s.book = b
	s.view.Store(p)
	s.filter.Store(f)
	s.life.Unlock()
	// The transaction begins before anything more is applied: what it does not see is added by who applies.
	txn := b.db.NewTransaction(false)
	b.users.Add(1)
	s.tasks.Go(func() {
		defer b.users.Done()
		defer txn.Discard()
		s.fill(f, txn)
	})
	return nil
}

// load reads the parts that are held in memory.
func (s *Store) load(db *badger.DB) (*published, error) {
	p := &published{State: &State{}}
	err := db.View(func(txn *badger.Txn) error {
		if err := s.get(txn, []byte{byte(kindMark)}, p.mark.fields); err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
			return fmt.Errorf("mark: %w", err)
		}
		for _, k := range []Kind{KindObject, KindGate, KindLineage, KindMember, KindCredential, KindMeta, KindKeys, kindHead} {
			err := s.scan(txn, []byte{byte(k)}, nil, func(key, plain []byte) (bool, error) {
				r := newRecord(k)
				if err := decode(string(plain), r.fields); err != nil {
					return false, fmt.Errorf("record of kind %c: %w", k, err)
				}
				p.put(r)
				return true, nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return p, err
}

// get reads one record, sealed under its key.
func (s *Store) get(txn *badger.Txn, key []byte, fields func(*codec)) error {
	item, err := txn.Get(key)
	if err != nil {
		return err
	}
	return item.Value(func(sealed []byte) error {
		plain, err := s.box.Open(nil, sealed, key)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTampered, err)
		}
		return decodeShared(string(plain), fields)
	})
}

// scan opens the records under prefix in key order, from the key after on, until each says no. key and plain are each's
// during the call only.
func (s *Store) scan(txn *badger.Txn, prefix, after []byte, each func(key, plain []byte) (bool, error)) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	var plain []byte
	it.Rewind()
	if after != nil {
		if it.Seek(after); it.Valid() && string(it.Item().Key()) == string(after) {
			it.Next()
		}
	}
	for ; it.Valid(); it.Next() {
		key := it.Item().Key()
		err := it.Item().Value(func(sealed []byte) (err error) {
			plain, err = s.box.Open(plain[:0], sealed, key)
			return err
		})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTampered, err)
		}
		if more, err := each(key, plain); err != nil || !more {
			return err
		}
	}
	return nil
}

// recordKey is where a record lies: its kind, and an opaque name.
func (s *Store) recordKey(r record) []byte {
	name := s.box.Index("ledger record", append([]byte{byte(r.kind())}, r.key()...))
	return append([]byte{byte(r.kind())}, name[:]...)
}

func auditKey(seq uint64) []byte { return binary.BigEndian.AppendUint64([]byte{byte(KindAudit)}, seq) }

// AppliedIndex returns the number of the last entry that the book holds.
func (s *Store) AppliedIndex() uint64 { return s.view.Load().mark.Index }

// Applied returns number and term of the last entry that the book holds.
func (s *Store) Applied() Stamp { return s.view.Load().mark.Stamp }

// State returns the parts held in memory as they are now. It costs nothing and never changes.
func (s *Store) State() *State { return s.view.Load().State }

// SuppressionCount returns how many suppressions the book holds, expired ones included.
func (s *Store) SuppressionCount() uint64 { return s.view.Load().mark.Suppressions }

// AuditTail returns the last n lines of the audit trail, oldest first; fewer where there are no more.
func (s *Store) AuditTail(n int) ([]AuditEntry, error) {
	var lines []AuditEntry
	err := s.read(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{byte(KindAudit)}, Reverse: true})
		defer it.Close()
		for it.Seek(auditKey(^uint64(0))); it.Valid() && len(lines) < n; it.Next() {
			var line AuditEntry
			if err := s.get(txn, it.Item().KeyCopy(nil), line.fields); err != nil {
				return err
			}
			lines = append(lines, line)
		}
		return nil
	})
	for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	return lines, err
}

// read runs f over the book as it is now.
func (s *Store) read(f func(*badger.Txn) error) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.book == nil {
		return ErrClosed
	}
	return s.book.db.View(f)
}

// fail makes the store refuse further entries. The first reason stays.
func (s *Store) fail(reason error) {
	err := fmt.Errorf("%w: %w", ErrFailed, reason)
	if !s.failure.CompareAndSwap(nil, &err) {
		return
	}
	s.log.Error("ledger failed: no more entries are applied, restart the process", "err", reason)
	if s.cfg.OnFail != nil {
		go s.cfg.OnFail(err)
	}
}

// Err returns why the store has failed, which wraps ErrFailed, or nil.
func (s *Store) Err() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// Close ends the store. Snapshots must have been released.
func (s *Store) Close() error {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.life.Lock()
	b := s.book
	s.book = nil
	s.life.Unlock()
	if b == nil {
		return nil
	}
	close(s.ended)
	s.tasks.Wait()
	b.users.Wait()
	s.watchers.close()
	if err := b.db.Close(); err != nil {
		return fmt.Errorf("close ledger: %w", err)
	}
	return nil
}
