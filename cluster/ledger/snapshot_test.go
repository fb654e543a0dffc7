package ledger

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRestore(t *testing.T) {
	from, to := newRig(t), newRig(t)
	from.must(everyKind()...)
	stream := from.snapshot()
	to.must(&Suppress{Add: []Suppression{black("old@a.jp")}}, &PutMeta{Name: "old", Data: []byte("old")})
	changed := make(chan Change, 8)
	to.Watch(func(c Change) { changed <- c })
	if err := to.Restore(bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	for c := range changed {
		if c.Has(KindLineage) && c.Has(KindSuppression) {
			break
		}
	}
	check := func(when string) {
		t.Helper()
		if diff := cmp.Diff(what(from.Store), what(to.Store)); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
		if to.suppressed("old@a.jp", moment(1)) || !to.suppressed("canary-a@example.jp", moment(1)) {
			t.Errorf("%s: suppressions are not those of the stream", when)
		}
		a, errA := from.AuditTail(100)
		b, errB := to.AuditTail(100)
		if diff := cmp.Diff(a, b); diff != "" || errA != nil || errB != nil {
			t.Errorf("%s: audit trail: %v %v %s", when, errA, errB, diff)
		}
	}
	check("restored")
	to.reopen()
	check("restarted")
	if entries, err := os.ReadDir(to.cfg.Dir); err != nil || len(entries) != 2 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
	// Both go on from here, and stay the same.
	more := []Command{&Renew{Lineages: []LineageEpoch{{7, 1}}}, &Suppress{Add: []Suppression{black("c@a.jp")}},
		&Unsuppress{Remove: []Suppressed{black("canary-a@example.jp").Suppressed}}}
	if diff := cmp.Diff(from.must(more...), to.must(more...)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(what(from.Store), what(to.Store)); diff != "" {
		t.Error(diff)
	}
}

// A snapshot shows the book of its moment, also while it changes, and outlives a restore.
func TestSnapshotStandsStill(t *testing.T) {
	r := newRig(t)
	r.must(everyKind()...)
	n, err := r.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Release()
	var before, after bytes.Buffer
	if err := n.Write(&before); err != nil {
		t.Fatal(err)
	}
	r.must(&Suppress{Add: []Suppression{black("later@a.jp")}}, &Renew{Lineages: []LineageEpoch{{7, 1}}})
	if err := r.Restore(bytes.NewReader(r.snapshot())); err != nil {
		t.Fatal(err)
	}
	if err := n.Write(&after); err != nil {
		t.Fatal(err)
	}
	// The trailer is sealed anew each time.
	if cut := before.Len() - 200; !bytes.Equal(before.Bytes()[:cut], after.Bytes()[:cut]) {
		t.Error("the snapshot changed")
	}
	if n.Applied().Index != uint64(len(everyKind())) {
		t.Errorf("at %v", n.Applied())
	}
}

// A stream that is cut, changed or continued anywhere is refused, and the book stays as it was.
func TestRestoreRefuses(t *testing.T) {
	from, to := newRig(t), newRig(t)
	from.must(everyKind()...)
	stream := from.snapshot()
	to.must(&Suppress{Add: []Suppression{black("old@a.jp")}})
	before := what(to.Store)
	flip := func(at int) []byte {
		b := bytes.Clone(stream)
		b[at] ^= 1
		return b
	}
	rows := map[string][]byte{
		"empty":          nil,
		"magic only":     stream[:len(snapshotMagic)],
		"half":           stream[:len(stream)/2],
		"all but a byte": stream[:len(stream)-1],
		"one more":       append(bytes.Clone(stream), 0),
		"flipped magic":  flip(3),
		"flipped key":    flip(len(snapshotMagic) + 2),
		"flipped middle": flip(len(stream) / 2),
		"flipped end":    flip(len(stream) - 1),
		"twice":          append(bytes.Clone(stream), stream...),
	}
	for name, data := range rows {
		if err := to.Restore(bytes.NewReader(data)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := to.Restore(io.MultiReader(bytes.NewReader(stream[:100]), failing{})); !errors.Is(err, errBroken) {
		t.Errorf("broken reader: %v", err)
	}
	if diff := cmp.Diff(before, what(to.Store)); diff != "" {
		t.Error(diff)
	}
	to.reopen()
	if !to.suppressed("old@a.jp", moment(1)) {
		t.Error("the old book is gone")
	}
	// Each place of a cut, without the disk.
	for n := range stream {
		if _, err := readSnapshot(bytes.NewReader(stream[:n]), from.cfg.Box, keep); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

var errBroken = errors.New("broken")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

func keep(_, _ []byte) error { return nil }

// A restore that ended by a crash before the rename leaves the old book, and its leftovers go.
func TestLeftoversOfARestore(t *testing.T) {
	r := newRig(t)
	r.must(everyKind()...)
	if err := os.MkdirAll(r.cfg.Dir+"/"+nextBook(bookPrefix+"1")+"/x", 0o700); err != nil {
		t.Fatal(err)
	}
	before := what(r.Store)
	r.reopen()
	if diff := cmp.Diff(before, what(r.Store)); diff != "" {
		t.Error(diff)
	}
	if entries, err := os.ReadDir(r.cfg.Dir); err != nil || len(entries) != 2 {
		t.Errorf("left: %v %v", entries, err)
	}
}

// openBox seals nothing, so that a fuzzer can write trailers.
type openBox struct{ *testBox }

func (openBox) Seal(dst, plain, _ []byte) []byte { return append(dst, plain...) }
func (openBox) Open(dst, sealed, _ []byte) ([]byte, error) {
	return append(dst, sealed...), nil
}

func FuzzSnapshotReader(f *testing.F) {
	r := newRig(f)
	_ = r.Close()
	r.cfg.Box = openBox{newTestBox(f, "root")}
	r.cfg.Dir = f.TempDir()
	r.open()
	r.must(everyKind()[:5]...)
	stream := r.snapshot()
	f.Add(stream)
	f.Add(stream[:len(stream)-3])
	f.Add([]byte(snapshotMagic + "\x01a\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		size := 0
		_, err := readSnapshot(bytes.NewReader(data), r.cfg.Box, func(k, v []byte) error {
			size += len(k) + len(v)
			return nil
		})
		if size > len(data) || err == nil && !bytes.HasPrefix(data, []byte(snapshotMagic)) {
			t.Errorf("%d bytes of records in a stream of %d: %v", size, len(data), err)
		}
	})
}
