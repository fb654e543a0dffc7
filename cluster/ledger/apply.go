package ledger

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// A commit ends at the first entry that fills it this far. With the largest entry on top it stays below what Badger takes
// in one transaction (15 % of the memtable, 4.8 MB; 50,000 records), so that an entry is never cut in two.
const (
	commitBytes  = 1 << 20
	commitWrites = 8000
)

// ApplyBatch runs the machine over entries that follow one another and returns their results. Entries that the book
// holds already are skipped, so a log may be replayed from anywhere before its end. Changes and the number of the last
// entry are committed together, in as few commits as may be. On an error, which wraps ErrFailed, the results of what was
// committed are returned, and nothing is applied any more.
func (s *Store) ApplyBatch(entries []Entry) ([]Result, error) {
	s.apply.Lock()
	defer s.apply.Unlock()
	if err := s.Err(); err != nil {
		return nil, err
	}
	if s.closing() {
		return nil, ErrClosed
	}
	b := s.newBatch()
	defer func() { b.txn.Discard() }()
	results := make([]Result, 0, len(entries))
	committed := 0
	for i := range entries {
		e := &entries[i]
		if e.Index <= b.mark.Index {
			results = append(results, Result{Code: Skipped, Index: e.Index})
			continue
		}
		r, err := b.entry(e)
		if err != nil {
			err = fmt.Errorf("entry %d: %w", e.Index, err)
			s.fail(err)
			return results[:committed], s.Err()
		}
		results = append(results, r)
		if b.bytes < commitBytes && b.writes < commitWrites && i < len(entries)-1 {
			continue
		}
		if err := b.commit(); err != nil {
			s.fail(err)
			return results[:committed], s.Err()
		}
		committed = len(results)
	}
	if err := b.commit(); err != nil { // where the last ones were skipped
		s.fail(err)
		return results[:committed], s.Err()
	}
	return results, nil
}

// batch is the commit being put together.
type batch struct {
	s      *Store
	txn    *badger.Txn
	draft  *State
	mark   mark
	kinds  map[Kind]bool
	bytes  int
	writes int
	memory []byte // keys and sealed values: the store's, which Badger refers to until the commit is done
	plain  codec
	names  namer
}

func (s *Store) newBatch() *batch {
	p := s.view.Load()
	return &batch{s: s, txn: s.book.db.NewTransaction(true), draft: p.draft(), mark: p.mark, kinds: map[Kind]bool{},
		memory: s.memory[:0], names: namer{box: s.box}}
}

// entry applies one entry to the draft.
func (b *batch) entry(e *Entry) (Result, error) {
	at := Stamp{e.Index, e.Term}
	r := Result{Code: Refused, Index: e.Index, Text: ErrDamaged.Error()}
	cmd, err := b.command(e)
	var w []Write
	switch {
	case errors.Is(err, ErrDamaged): // the same on all members
	case err != nil:
		return Result{}, err
	default:
		if w, r, err = Apply(b, at, cmd); err != nil {
			return Result{}, err
		}
	}
	for i := range w {
		if err := b.write(&w[i]); err != nil {
			return Result{}, err
		}
	}
	b.mark.Stamp = at
	return r, nil
}

func (b *batch) command(e *Entry) (Command, error) {
	if e.Prepared != nil {
		return e.Prepared, nil
	}
	return DecodeSealed(b.s.box, e.Data)
}

// State is the draft, as the machine sees it.
func (b *batch) State() *State { return b.draft }

// Find looks in what is being committed, too: the transaction shows its own writes.
func (b *batch) Find(v *Suppressed) (Place, bool, error) {
	p := b.names.place(v)
	there, err := b.Has(p)
	return p, there, err
}

// Has looks where Find does.
func (b *batch) Has(p Place) (bool, error) {
	name := [16]byte(p[:16])
	if b.s.filter.Load().absent(&name) {
		return false, nil
	}
	_, err := b.txn.Get(suppressionKey(p))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Read reads from what is being committed as well.
func (b *batch) Read(p Place) (v Suppression, err error) {
	err = b.s.get(b.txn, suppressionKey(p), v.fields)
	return v, err
}

func (b *batch) write(w *Write) error {
	switch {
	case w.Audit != nil:
		if old := w.Audit.Seq; old > auditKeep {
			if err := b.delete(auditKey(old - auditKeep)); err != nil {
				return err
			}
		}
		return b.set(KindAudit, auditKey(w.Audit.Seq), w.Audit.fields)
	case w.Suppression != nil:
		return b.suppress(w)
	case w.Record == nil:
		b.mark.Suppressions--
		return b.delete(suppressionKey(w.Place))
	case w.Drop:
		b.draft.drop(w.Record)
		return b.delete(b.s.recordKey(w.Record))
	}
	if err := b.set(w.Record.kind(), b.s.recordKey(w.Record), w.Record.fields); err != nil {
		return err
	}
	// The state takes what a start would read: a copy of its own, which does not keep the whole command in memory.
	r := newRecord(w.Record.kind())
	if err := decode(string(b.plain.out), r.fields); err != nil {
		return err
	}
	b.draft.put(r)
	return nil
}

func (b *batch) suppress(w *Write) error {
	if w.New {
		b.mark.Suppressions++
	}
	name := [16]byte(w.Place[:16])
	// Before the commit: whoever sees the record finds it in the filter.
	b.s.filter.Load().add(&name)
	if w.row != nil {
		return b.put(KindSuppression, w.row.key(), w.row.sealed())
	}
	at := len(b.memory)
	b.memory = append(append(b.memory, byte(KindSuppression)), w.Place[:]...)
	return b.set(KindSuppression, b.memory[at:len(b.memory):len(b.memory)], w.Suppression.fields)
}

// set seals a record under its key into the commit.
func (b *batch) set(k Kind, key []byte, fields func(*codec)) error {
	b.plain.out = b.plain.out[:0]
	fields(&b.plain)
	at := len(b.memory)
	b.memory = b.s.box.Seal(b.memory, b.plain.out, key)
	return b.put(k, key, b.memory[at:len(b.memory):len(b.memory)])
}

// put puts a sealed record into the commit.
func (b *batch) put(k Kind, key, value []byte) error {
	b.kinds[k] = true
	b.bytes += len(key) + len(value)
	b.writes++
	return b.txn.Set(key, value)
}

func (b *batch) delete(key []byte) error {
	b.kinds[Kind(key[0])] = true
	b.bytes += len(key)
	b.writes++
	return b.txn.Delete(key)
}

// commit writes what was gathered with the mark, shows it to readers, and begins anew.
func (b *batch) commit() error {
	s := b.s
	if b.mark.Index == s.view.Load().mark.Index {
		return nil
	}
	changed := b.kinds
	delete(changed, kindHead)
	b.kinds = map[Kind]bool{}
	if err := b.set(kindMark, []byte{byte(kindMark)}, b.mark.fields); err != nil {
		return err
	}
	if err := b.txn.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := s.Err(); err != nil { // Badger told its logger, not us
		return err
	}
	s.view.Store(&published{State: b.draft, mark: b.mark})
	s.watchers.changed(b.mark.Index, changed)
	b.draft = b.draft.draft()
	s.memory = b.memory
	b.txn = s.book.db.NewTransaction(true)
	b.kinds, b.bytes, b.writes, b.memory = map[Kind]bool{}, 0, 0, b.memory[:0]
	return nil
}
