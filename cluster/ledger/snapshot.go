package ledger

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"
)

// A snapshot stream is the magic line; then every record of the book in the order of keys, each as the length of its key
// (1 to 64), the key, the length of the value (at most 1 MB) and the value as it lies in the store, sealed; then a zero,
// and the sealed trailer behind its length: how many records there were, index and term of the last entry, and SHA-256
// of everything before the zero. Numbers are unsigned varints. A stream that was cut, or put together by somebody
// without the key, is refused.
const (
	snapshotMagic    = "ekiden ledger 1\n"
	snapshotIdentity = "ekiden ledger snapshot"
	maxKey           = 64
	maxValue         = 1 << 20
)

// ErrSnapshot: a stream is no snapshot, or not a whole one. The book stays as it was.
var ErrSnapshot = errors.New("ledger snapshot is not whole")

// Snapshot is the book as of one entry, however it changes meanwhile. It must be released.
type Snapshot struct {
	s    *Store
	book *book
	txn  *badger.Txn
	mark mark
}

// Snapshot takes a snapshot. It costs nothing until it is written.
func (s *Store) Snapshot() (*Snapshot, error) {
	s.apply.Lock() // between two batches
	defer s.apply.Unlock()
	s.life.RLock()
	defer s.life.RUnlock()
	if s.book == nil {
		return nil, ErrClosed
	}
	s.book.users.Add(1)
	return &Snapshot{s: s, book: s.book, txn: s.book.db.NewTransaction(false), mark: s.view.Load().mark}, nil
}

// Applied returns number and term of the last entry in the snapshot.
func (n *Snapshot) Applied() Stamp { return n.mark.Stamp }

// Release ends the snapshot. It may be called again.
func (n *Snapshot) Release() {
	if n.txn != nil {
		n.txn.Discard()
		n.txn = nil
		n.book.users.Done()
	}
}

// trailer ends a stream.
type trailer struct {
	mark    mark
	records uint64
	sum     [32]byte
}

func (t *trailer) fields(c *codec) {
	t.mark.fields(c)
	c.uint(&t.records)
	c.sum(&t.sum)
}

// Write writes the snapshot to w, in memory that does not grow with the book. It may be written more than once.
func (n *Snapshot) Write(w io.Writer) error {
	buf := bufio.NewWriterSize(w, 256<<10)
	t := trailer{mark: n.mark}
	sum := sha256.New()
	out := io.MultiWriter(buf, sum)
	if _, err := io.WriteString(out, snapshotMagic); err != nil {
		return err
	}
	it := n.txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	var head []byte
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		key := item.Key()
		err := item.Value(func(sealed []byte) error {
			head = binary.AppendUvarint(head[:0], uint64(len(key)))
			head = append(head, key...)
			head = binary.AppendUvarint(head, uint64(len(sealed)))
			head = append(head, sealed...)
			_, err := out.Write(head)
			return err
		})
		if err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
		t.records++
	}
	t.sum = [32]byte(sum.Sum(nil))
	sealed := n.s.box.Seal(nil, encode(t.fields), []byte(snapshotIdentity))
	head = binary.AppendUvarint([]byte{0}, uint64(len(sealed)))
	if _, err := buf.Write(append(head, sealed...)); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return buf.Flush()
}

// snapshotReader takes a stream apart.
type snapshotReader struct {
	r   *bufio.Reader
	sum hash.Hash
}

// readSnapshot hands every record of a stream to each, whose arguments are its own, and returns the trailer. Only
// without an error is the stream whole.
func readSnapshot(r io.Reader, box Sealer, each func(key, value []byte) error) (mark, error) {
	s := snapshotReader{r: bufio.NewReaderSize(r, 256<<10), sum: sha256.New()}
	magic, err := s.bytes(uint64(len(snapshotMagic)), uint64(len(snapshotMagic)))
	if err != nil || string(magic) != snapshotMagic {
		return mark{}, fmt.Errorf("%w: it does not begin like one", ErrSnapshot)
	}
	var n uint64
	var last []byte
	for {
		size, err := binary.ReadUvarint(s.r)
		if err != nil {
			return mark{}, fmt.Errorf("%w after %d records: %w", ErrSnapshot, n, err)
		}
		if size == 0 {
			break
		}
		key, err := s.sized(size, maxKey)
		if err != nil {
			return mark{}, fmt.Errorf("%w after %d records: %w", ErrSnapshot, n, err)
		}
		if size, err = binary.ReadUvarint(s.r); err != nil {
			return mark{}, fmt.Errorf("%w after %d records: %w", ErrSnapshot, n, err)
		}
		value, err := s.sized(size, maxValue)
		if err != nil {
			return mark{}, fmt.Errorf("%w after %d records: %w", ErrSnapshot, n, err)
		}
		if bytes.Compare(key, last) <= 0 {
			return mark{}, fmt.Errorf("%w: keys out of order", ErrSnapshot)
		}
		if err := each(key, value); err != nil {
			return mark{}, err
		}
		last = key
		n++
	}
	return s.end(box, n)
}

// sized reads n bytes and takes them, with their length in front, into the sum.
func (s *snapshotReader) sized(n, limit uint64) ([]byte, error) {
	var head [binary.MaxVarintLen64]byte
	s.sum.Write(head[:binary.PutUvarint(head[:], n)])
	return s.bytes(n, limit)
}

func (s *snapshotReader) bytes(n, limit uint64) ([]byte, error) {
	if n > limit {
		return nil, errors.New("length beyond its limit")
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return nil, err
	}
	s.sum.Write(b)
	return b, nil
}

// end checks the trailer against what was read.
func (s *snapshotReader) end(box Sealer, records uint64) (mark, error) {
	sum := [32]byte(s.sum.Sum(nil))
	size, err := binary.ReadUvarint(s.r)
	if err != nil || size > 1024 {
		return mark{}, fmt.Errorf("%w: no trailer", ErrSnapshot)
	}
	sealed, err := s.bytes(size, size)
	if err != nil {
		return mark{}, fmt.Errorf("%w: no trailer", ErrSnapshot)
	}
	plain, err := box.Open(nil, sealed, []byte(snapshotIdentity))
	if err != nil {
		return mark{}, fmt.Errorf("%w: trailer: %w", ErrSnapshot, err)
	}
	var t trailer
	if err := decode(string(plain), t.fields); err != nil || t.records != records || t.sum != sum {
		return mark{}, fmt.Errorf("%w: %d records do not match the trailer", ErrSnapshot, records)
	}
	if _, err := s.r.ReadByte(); err != io.EOF {
		return mark{}, fmt.Errorf("%w: something follows the trailer", ErrSnapshot)
	}
	return t.mark, nil
}

// Restore replaces the book by the one in a stream. It is written into a directory beside the present one, which stays
// in use until the last byte has been checked and synced; then one rename decides. Emptying the present book and filling
// it again would lose both on a stream that ends early.
func (s *Store) Restore(r io.Reader) error {
	s.apply.Lock()
	defer s.apply.Unlock()
	if s.closing() {
		return ErrClosed
	}
	if err := s.Err(); err != nil {
		return err
	}
	old := s.book
	path := filepath.Join(s.cfg.Dir, nextBook(filepath.Base(old.path)))
	fresh, err := s.receive(path, r)
	if err != nil {
		return errors.Join(fmt.Errorf("restore ledger: %w", err), os.RemoveAll(path))
	}
	if err := errors.Join(syncDir(path), syncDir(s.cfg.Dir)); err != nil {
		return errors.Join(fmt.Errorf("restore ledger: %w", err), fresh.db.Close(), os.RemoveAll(path))
	}
	if err := setCurrent(s.cfg.Dir, filepath.Base(path)); err != nil {
		// Which of the two a start would open is not known: neither may change any more.
		s.fail(err)
		return errors.Join(s.Err(), fresh.db.Close())
	}
	if err := s.use(fresh); err != nil {
		s.fail(err)
		return errors.Join(s.Err(), fresh.db.Close())
	}
	s.tasks.Go(func() {
		old.users.Wait()
		if err := errors.Join(old.db.Close(), os.RemoveAll(old.path)); err != nil {
			s.log.Warn("old ledger not removed; the next start does it", "err", err)
		}
	})
	s.watchers.changed(s.AppliedIndex(), everything())
	return nil
}

// receive writes a stream into a new book.
func (s *Store) receive(path string, r io.Reader) (*book, error) {
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	b, err := newBook(path, s.logger())
	if err != nil {
		return nil, err
	}
	m, err := load(b.db, r, s.box)
	var p *published
	if err == nil {
		p, err = s.load(b.db)
	}
	if err == nil && p.mark != m {
		err = fmt.Errorf("%w: mark and trailer differ", ErrSnapshot)
	}
	if err != nil {
		return nil, errors.Join(err, b.db.Close())
	}
	return b, nil
}

// load writes the records of a stream into an empty database, straight into tables: they come in order.
func load(db *badger.DB, r io.Reader, box Sealer) (mark, error) {
	w := db.NewStreamWriter()
	if err := w.Prepare(); err != nil {
		return mark{}, err
	}
	const chunk = 1 << 20
	buf := z.NewBuffer(chunk+chunk/4, "ledger restore")
	defer func() { _ = buf.Release() }()
	m, err := readSnapshot(r, box, func(key, value []byte) error {
		badger.KVToBuffer(&pb.KV{Key: key, Value: value, Version: 1}, buf)
		if buf.LenNoPadding() < chunk {
			return nil
		}
		err := w.Write(buf)
		buf.Reset()
		return err
	})
	if err == nil && !buf.IsEmpty() {
		err = w.Write(buf)
	}
	if err != nil {
		w.Cancel()
		return mark{}, err
	}
	return m, w.Flush()
}

// nextBook names the book after the one named.
func nextBook(name string) string {
	n, _ := strconv.ParseUint(strings.TrimPrefix(name, bookPrefix), 10, 64)
	return bookPrefix + strconv.FormatUint(n+1, 10)
}

func everything() map[Kind]bool {
	return map[Kind]bool{KindObject: true, KindSuppression: true, KindGate: true, KindLineage: true, KindMember: true,
		KindCredential: true, KindKeys: true, KindMeta: true, KindAudit: true}
}
