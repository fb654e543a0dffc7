package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/ekiden-mta/ekiden/mail"
)

// StoreConfig says where a standby keeps what it is sent.
type StoreConfig struct {
	// Dir holds a directory per lineage. Required.
	Dir string
	// Cluster is the cluster's name, at most 128 octets: owners of another cluster are refused.
	Cluster string
	// SegmentSize, octets; default 64 MiB. One block may exceed it.
	SegmentSize int64
	// Allow tells whether a member may ship, or take over, a lineage at an epoch: the ledger knows. nil: everybody.
	// It is asked once per connection, before the fence is raised to that epoch.
	Allow func(member string, l mail.Lineage, epoch uint64) error
	// Log; default: none.
	Log *slog.Logger
}

const (
	defaultSegment = 64 << 20
	largestSegment = 1 << 30 // offsets are 32 bits, and one block may come on top
	maxLineages    = 4096    // in one store
)

// Store is what a standby holds of other members' queues. Safe for concurrent use.
type Store struct {
	cfg     StoreConfig
	names   digester
	collect chan struct{} // capacity 1
	closing chan struct{}
	ended   sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	lineages map[mail.Lineage]*lineage
	sessions map[*session]struct{}
}

// ErrUnknown: nothing of the lineage is here.
var ErrUnknown = errors.New("nothing is known of the lineage")

// Open opens a store, making its directory where there is none, and reads every segment of it.
func Open(cfg StoreConfig) (*Store, error) {
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = defaultSegment
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir == "" || len(cfg.Cluster) > maxCluster || cfg.SegmentSize < 4<<10 || cfg.SegmentSize > largestSegment {
		return nil, fmt.Errorf("open replica store: directory %q, cluster %q, segments of %d octets", cfg.Dir, cfg.Cluster,
			cfg.SegmentSize)
	}
	s := &Store{cfg: cfg, names: newDigester(), collect: make(chan struct{}, 1), closing: make(chan struct{}),
		lineages: map[mail.Lineage]*lineage{}, sessions: map[*session]struct{}{}}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open replica store: %w", err)
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open replica store: %w", err)
	}
	for _, e := range entries {
		id, err := strconv.ParseUint(e.Name(), 16, 32)
		if err != nil || len(e.Name()) != 8 || !e.IsDir() {
			continue
		}
		l, err := openLineage(s, mail.Lineage(id))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open replica store: %w", err), s.Close())
		}
		s.lineages[l.id] = l
	}
	s.ended.Add(1)
	go s.collector()
	s.wakeCollector()
	return s, nil
}

// Close ends all connections, marks the logs as closed in order and closes them.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for c := range s.sessions {
		c.end()
	}
	close(s.closing)
	s.mu.Unlock()
	s.ended.Wait()
	var err error
	for _, l := range s.lineages {
		err = errors.Join(err, l.close())
	}
	return err
}

func (s *Store) wakeCollector() {
	select {
	case s.collect <- struct{}{}:
	default:
	}
}

// collector is the goroutine that gives sparse segments up.
func (s *Store) collector() {
	defer s.ended.Done()
	for {
		select {
		case <-s.closing:
			return
		case <-s.collect:
		}
		for _, id := range s.Lineages() {
			l := s.lineage(id)
			if l == nil {
				continue
			}
			if err := l.collect(); err != nil && !errors.Is(err, ErrClosed) {
				s.cfg.Log.Error("replica: collect segments", "lineage", id, "error", err)
			}
		}
	}
}

func (s *Store) lineage(id mail.Lineage) *lineage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lineages[id]
}

// admit returns the lineage, making it where there is none.
func (s *Store) admit(id mail.Lineage) (*lineage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if l := s.lineages[id]; l != nil {
		return l, nil
	}
	if len(s.lineages) >= maxLineages {
		return nil, fmt.Errorf("%d lineages are here already", maxLineages)
	}
	l, err := openLineage(s, id)
	if err != nil {
		return nil, err
	}
	s.lineages[id] = l
	return l, nil
}

// Lineages lists the lineages of which something is here, be it only a fence, in ascending order.
func (s *Store) Lineages() []mail.Lineage {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]mail.Lineage, 0, len(s.lineages))
	for id := range s.lineages {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// State tells what is here of a lineage; zero: nothing.
func (s *Store) State(id mail.Lineage) State {
	l := s.lineage(id)
	if l == nil {
		return State{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state()
}

// HighWater is the last frame on disk, in a numbering that grows over the owner's restarts; 0: none.
func (s *Store) HighWater(id mail.Lineage) uint64 { return s.State(id).High }

// Epoch is the fence: frames below it are refused.
func (s *Store) Epoch(id mail.Lineage) uint64 { return s.State(id).Epoch }

// Full tells whether everything that lived at HighWater is here.
func (s *Store) Full(id mail.Lineage) bool { return s.State(id).Full }

// Fence makes durable that frames below epoch are refused, on connections that are open as well, and that everything
// taken before is on disk: what HighWater and Live say afterwards is final for the epochs below. Fences only rise;
// RefusedError tells of a higher one.
func (s *Store) Fence(id mail.Lineage, epoch uint64) error {
	l, err := s.admit(id)
	if err != nil {
		return err
	}
	return l.fence(epoch)
}

func (l *lineage) fence(epoch uint64) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	if epoch < l.epoch {
		defer l.mu.Unlock()
		return &RefusedError{Epoch: l.epoch, Why: "the fence is higher"}
	}
	var err error
	if epoch > l.epoch {
		err = l.writeFence(epoch)
	}
	old := l.session
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if old != nil && old.epoch < epoch {
		old.refuse(epoch, "the lineage has another owner")
	}
	// Where that fails, what counts is what was synced before: it is still the end of what was acknowledged.
	l.syncOnce()
	return nil
}

// Records calls live for every live record of a generation of a lineage (0: the current one, then the older ones as State
// lists them), in no order; then dead, unless it is nil, for every key that it knows to be deleted, perhaps more than once. Only
// one that is not full knows any: they tell which records of an older generation are not to come back. Key and value are
// valid during the call. A record may come twice while frames flow; after Fence, never. What is damaged is left out, see
// State.
func (s *Store) Records(id mail.Lineage, of int, live func(key, value []byte) error, dead func(key []byte) error) error {
	l := s.lineage(id)
	if l == nil {
		return ErrUnknown
	}
	if err := l.records(of, live, nil); err != nil || dead == nil {
		return err
	}
	return l.records(of, nil, dead)
}

// Drop deletes what is here of a lineage but its fence.
func (s *Store) Drop(id mail.Lineage) error {
	l := s.lineage(id)
	if l == nil {
		return nil
	}
	return l.drop()
}

// detach removes the owner's connection, so that it may end. l.mu is held.
func (l *lineage) detach() *session {
	old := l.session
	l.session = nil
	return old
}

func (l *lineage) drop() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if s := l.detach(); s != nil {
		s.end()
	}
	if l.tail != nil {
		_ = l.tail.Close() // nothing of it is needed
		l.tail = nil
	}
	for len(l.segs) > 0 {
		err := os.Remove(segmentPath(l.dir, l.segs[0].id))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return l.fail(err)
		}
		l.segs = l.segs[1:]
	}
	l.cur, l.old, l.begun = nil, nil, 0
	l.known, l.synced = progress{}, progress{}
	return syncDir(l.dir)
}

func (l *lineage) close() error {
	l.mu.Lock()
	l.closed = true
	var err error
	if l.tail != nil && l.err == nil {
		// Behind this block nothing torn is expected: what does not pass its checksum before it is damage.
		err = l.write(endBlock(beginBlock(nil), kindClose, l.epoch, l.known.high))
		if err == nil {
			err = l.tail.Sync()
		}
	}
	if l.tail != nil {
		err = errors.Join(err, l.tail.Close())
	}
	close(l.dirty)
	l.mu.Unlock()
	<-l.done
	return err
}

// Remove deletes a lineage's directory, fence included: for a lineage that the ledger will never name again.
func (s *Store) Remove(id mail.Lineage) error {
	s.mu.Lock()
	l := s.lineages[id]
	delete(s.lineages, id)
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	if err := errors.Join(l.drop(), l.close()); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(l.dir), syncDir(filepath.Dir(l.dir)))
}
