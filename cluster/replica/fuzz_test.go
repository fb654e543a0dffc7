package replica

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func seeds(f *testing.F) {
	h := hello{purpose: forShipping, cluster: testCluster, lineage: 7, epoch: 3, run: 100, next: 200}
	f.Add(h.encode(nil))
	st := State{Epoch: 3, Run: 1, High: 2, Full: true}
	f.Add(st.encode(nil))
	st.Full, st.Older = false, []Generation{{High: 1}, {High: 1, Full: true}}
	f.Add(st.encode(nil))
	a := ack{high: 9, fill: 1, full: true}
	f.Add(a.encode(nil, 3))
	f.Add(encodeRefused(nil, 4, "no"))
	log := (&segmentHead{lineage: testLineage}).encode(nil, 1)
	log = append(log, endBlock(append(beginBlock(nil), 0, 0, 0, 0, 0, 0, 0, 1), kindBegin, 1, 1)...)
	log = append(log, endBlock(append(beginBlock(nil), ops([]Op{set("a", "1"), set("b", "2")})...), kindFill, 1, 1)...)
	log = append(log, endBlock(beginBlock(nil), kindFull, 1, 1)...)
	log = append(log, endBlock(append(beginBlock(nil), ops([]Op{del("a"), set("c", "3")})...), kindFrame, 1, 1)...)
	f.Add(log)
	f.Add(append(log, endBlock(beginBlock(nil), kindClose, 1, 1)...))
}

// mend gives every block of foreign bytes its right checksum, so that what lies behind it is reached, too.
func mend(b []byte) []byte {
	b = bytes.Clone(b)
	for rest := b; len(rest) >= headerSize; {
		h, err := parseHeader(rest)
		if err != nil || len(rest) < headerSize+h.size {
			break
		}
		endBlock(rest[:headerSize+h.size:headerSize+h.size], h.kind, h.epoch, h.number)
		rest = rest[headerSize+h.size:]
	}
	return b
}

// What comes over the wire is refused or read, in bounded memory, and what is read is written back the same.
func FuzzFrames(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, stream := range [][]byte{data, mend(data)} {
			r := newBlockReader(bytes.NewReader(stream), 1<<20)
			total := 0
			for {
				b, err := r.next()
				if err != nil {
					if errors.Is(err, io.EOF) && total != len(stream) {
						t.Fatalf("ends after %d of %d octets", total, len(stream))
					}
					break
				}
				total += len(b.raw)
				again := endBlock(append(beginBlock(nil), b.payload...), b.kind, b.epoch, b.number)
				if !bytes.Equal(again, b.raw) {
					t.Fatalf("%x became %x", b.raw, again)
				}
				if h, err := parseHello(&b); err == nil && !bytes.Equal(h.encode(nil), b.raw) {
					t.Fatalf("greeting %+v is not %x", h, b.raw)
				}
				_, _ = parseState(&b)
				_, _ = parseAck(&b)
				var list []Op
				for p := b.payload; len(p) > 0 && err == nil; {
					var op Op
					if op, p, err = cutOp(p); err == nil {
						list = append(list, op)
					}
				}
				if checkOps(b.payload) == nil && !bytes.Equal(ops(list), b.payload) {
					t.Fatalf("changes %x became %x", b.payload, ops(list))
				}
			}
			if cap(r.buf) > 2*len(stream)+2*readBuffer {
				t.Fatalf("buffer of %d octets for %d", cap(r.buf), len(stream))
			}
		}
	})
}

// A standby takes whatever an owner's connection brings, or refuses it, and its log can be opened afterwards and says
// the same.
func FuzzOwner(f *testing.F) {
	seeds(f)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(sub)
		s := mustOpen(t, sub, 4<<10)
		feed := mustFeed(t, s)
		r := newBlockReader(bytes.NewReader(mend(data)), 1<<20)
		for {
			b, err := r.next()
			if err != nil {
				break
			}
			b = mustRaise(b)
			if (b.kind == kindFrame || b.kind == kindFill) && checkOps(b.payload) != nil {
				break
			}
			if err := feed.l.take(feed.c, []block{b}); err != nil {
				break
			}
		}
		feed.l.syncOnce()
		st, before := s.State(testLineage), content(t, s)
		crash(s)
		s = mustOpen(t, sub, 4<<10)
		if again := s.State(testLineage); !reflect.DeepEqual(again, st) {
			t.Fatalf("%+v, opened again %+v", st, again)
		}
		mustEqual(t, "opened again", content(t, s), before)
		crash(s)
	})
}

// mustRaise puts a block under epoch 1, so that the fence does not end most runs.
func mustRaise(b block) block {
	raw := endBlock(bytes.Clone(b.raw), b.kind, 1, b.number)
	again, err := cutBlock(raw)
	if err != nil {
		panic(err)
	}
	return again
}

// A directory with any segment in it opens, or is refused, and what opens goes on.
func FuzzSegment(f *testing.F) {
	seeds(f)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(sub)
		if err := os.Mkdir(filepath.Join(sub, "00000007"), 0o700); err != nil {
			t.Fatal(err)
		}
		for i, image := range [][]byte{mend(data), data} {
			if err := os.WriteFile(segmentPath(filepath.Join(sub, "00000007"), uint32(i+1)), image, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := mustOpen(t, sub, 4<<10)
		before := content(t, s)
		feed := mustFeed(t, s)
		feed.begin()
		for k, v := range before {
			feed.chunk(set(k, v))
		}
		feed.full()
		feed.frame(set("new", "record"))
		before["new"] = "record"
		feed.l.syncOnce()
		if st := s.State(testLineage); !st.Full || st.Damaged {
			t.Fatalf("%+v", st)
		}
		mustEqual(t, "after a fill", content(t, s), before)
		crash(s)
	})
}
