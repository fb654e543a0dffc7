package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/storage/record"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

var comparer = cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var ports = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func full() mail.Event {
	at := time.UnixMilli(1_700_000_000_123).UTC()
	return mail.Event{At: at, Kind: mail.EventDeferred, Message: mail.MessageID{Lineage: 7, Seq: 1e15}, Delivery: 1e15 + 3,
		Tenant: "shop", Group: "g", From: "news@shop.example", To: "Taro@Example.JP", Domain: "example.jp", Attempt: 3,
		Composition: "main", Client: netip.MustParseAddr("2001:db8::1"), User: "u", HeaderFrom: "h", HeaderID: "<1@x>",
		Subject: "こんにちは", APIData: "{}", Size: 1200, Cleaning: true, Due: at.Add(time.Hour), Receiver: "docomo",
		Stage: mail.StageRcpt, Status: 4, InDoubt: true, Reply: smtp.Reply{Code: 450,
			Enhanced: smtp.EnhancedCode{Class: 4, Subject: 2, Detail: 1}, Text: "two\nlines"}, Detail: "d",
		Source: netip.MustParseAddr("127.0.0.2"), Remote: netip.MustParseAddrPort("192.0.2.1:25"), MX: "mx.example.jp",
		TLS: true, NoSuppress: true, Next: at.Add(time.Minute),
		Scope: mail.ScopeDKIM, Rule: "google/rate-dkim", Action: mail.ActProbe, For: 10 * time.Minute,
		Served: mail.Served{Delivered: 3, Deferred: 1 << 20, Failed: 1}, Mail: "From: x\r\n\r\n\xff"}
}

func TestCodec(t *testing.T) {
	everything := full()
	elsewhere := full()
	elsewhere.Domain = "route.example"
	for name, want := range map[string]mail.Event{
		"everything": everything, "domain apart": elsewhere,
		"nothing":        {Kind: mail.EventAccepted, At: time.UnixMilli(0).UTC()},
		"before 1970":    {Kind: mail.EventAccepted, At: time.UnixMilli(-5).UTC()},
		"null sender":    {Kind: mail.EventFailed, At: everything.At, To: "a@b.example", Domain: "b.example"},
		"reply, no code": {Kind: mail.EventFailed, At: everything.At, Reply: smtp.Reply{Text: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := Append(nil, &want)
			r := record.NewReader(string(raw))
			var got mail.Event
			decode(&r, &got)
			if err := r.Err(); err != nil || r.Left() != 0 {
				t.Fatalf("%v, %d bytes left", err, r.Left())
			}
			if d := cmp.Diff(want, got, comparer, addrs, ports); d != "" {
				t.Error(d)
			}
			for i := range raw {
				short := record.NewReader(string(raw[:i]))
				if decode(&short, &got); short.Err() == nil {
					t.Errorf("the first %d bytes of %d decode", i, len(raw))
				}
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	e := full()
	f.Add(append([]byte{blockVersion, 0, 1}, Append(nil, &e)...))
	f.Add([]byte{blockVersion, 1, 1, 'a', 5, 2, 1, 0, 0})
	f.Add([]byte{1, 2, 1, 0, 0})
	f.Add([]byte{blockVersion, 0, 1, 1, 4, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var again []byte
		n := 0
		err := Decode(string(raw), func(i uint32, e *mail.Event) bool {
			again = Append(again, e)
			n++
			return true
		})
		if err == nil && len(again) > 4*len(raw)+64*n {
			t.Errorf("%d bytes became %d", len(raw), len(again))
		}
		_, _ = parseIndex(string(raw))
		_, _ = ParseCursor(string(raw))
	})
}

func TestSipHash(t *testing.T) { // the authors' first vectors for key 000102…0f
	key := newPrintKey([16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	in := make([]byte, 0, 16)
	for i, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5} {
		in = in[:0]
		for b := range i {
			in = append(in, byte(b))
		}
		if got := key.sum(in); got != want {
			t.Errorf("%d bytes: %x, want %x", i, got, want)
		}
	}
	if key.ofAddress("Taro@Example.JP") != key.ofAddress("taro@example.jp") || key.ofAddress("ÄÖ@x.jp") != key.ofAddress("äö@x.jp") {
		t.Error("case matters")
	}
}

// rig is a log on a database of its own, written as the committer does.
type rig struct {
	testing.TB
	*Log
	db      *badger.DB
	ring    *seal.Ring
	builder *Builder
	all     []mail.Event
	bytes   int // of segments
}

func newRig(t testing.TB) *rig {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions(t.TempDir()).WithLogger(nil).WithMemTableSize(8 << 20).WithValueThreshold(512))
	if err != nil {
		t.Fatal(err)
	}
	root, err := seal.NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, db: db, ring: seal.NewRing(root)}
	t.Cleanup(func() {
		r.Log.Close()
		if err := errors.Join(db.Close(), root.Close()); err != nil {
			t.Error(err)
		}
	})
	if r.builder, err = NewBuilder(); err != nil {
		t.Fatal(err)
	}
	r.openLog(0)
	return r
}

func (r *rig) openLog(floor uint64) {
	r.Helper()
	l, err := Open(r.db, r.ring, 7, floor, slog.New(slog.DiscardHandler))
	if err != nil {
		r.Fatal(err)
	}
	r.Log = l
}

// write commits one block, filed under now.
func (r *rig) write(now time.Time, es ...mail.Event) {
	r.Helper()
	r.builder.Reset()
	for i := range es {
		var p Pack
		r.Pack(&p, &es[i])
		r.builder.Add(&p)
	}
	recs := r.Log.Seal(r.builder, now)
	err := r.db.Update(func(txn *badger.Txn) error {
		for _, rec := range recs {
			if err := txn.Set(bytes.Clone(rec.Key), bytes.Clone(rec.Value)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Committed(r.builder)
	r.all = append(r.all, es...)
}

func (r *rig) find(q Query) (found []mail.Event, last Cursor) {
	r.Helper()
	err := r.Search(r.Context(), q, func(e mail.Event, at Cursor) bool {
		found, last = append(found, e), at
		return true
	})
	if err != nil {
		r.Fatal(err)
	}
	return found, last
}

func seqs(es []mail.Event) (out []mail.Seq) {
	for i := range es {
		out = append(out, es[i].Delivery)
	}
	return out
}

// history writes blocks over some days and returns the time after them.
func (r *rig) history(rnd *rand.Rand, days, blocks int) time.Time {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	seq := mail.Seq(1e15)
	for range days {
		for range blocks {
			var es []mail.Event
			for range 1 + rnd.IntN(30) {
				seq++
				to := mail.Address(fmt.Sprintf("User%d@d%d.example.jp", rnd.IntN(50), rnd.IntN(5)))
				es = append(es, mail.Event{At: now.Add(-time.Duration(rnd.IntN(500)) * time.Millisecond).UTC(),
					Kind: mail.EventKind(1 + rnd.IntN(6)), Message: mail.MessageID{Lineage: 7, Seq: seq - mail.Seq(rnd.IntN(2))},
					Delivery: seq, To: to, Domain: to.Domain(), From: "news@shop.example",
					Group: []string{"", "g1", "g2"}[rnd.IntN(3)], Tenant: []string{"t1", "t2"}[rnd.IntN(2)],
					Status: mail.Status(rnd.IntN(4))})
				es[len(es)-1].User = "u-" + es[len(es)-1].Tenant
				if rnd.IntN(4) == 0 {
					es[len(es)-1].APIData, es[len(es)-1].Source = "CMC00123", netip.MustParseAddr("127.0.0.3")
				}
			}
			r.write(now, es...)
			now = now.Add(time.Duration(rnd.IntN(7200)) * time.Second)
		}
		now = now.Add(24 * time.Hour)
	}
	return now
}

// gather makes segments of whatever makes one.
func (r *rig) gather() (n int) {
	r.Helper()
	for {
		recs, use, err := r.Gather()
		if err != nil {
			r.Fatal(err)
		}
		if len(recs) == 0 {
			return n
		}
		wb := r.db.NewWriteBatch()
		for _, rec := range recs {
			r.bytes += len(rec.Key) + len(rec.Value)
			if err := wb.Set(rec.Key, rec.Value); err != nil {
				r.Fatal(err)
			}
		}
		if err := wb.Flush(); err != nil {
			r.Fatal(err)
		}
		use()
		n++
	}
}

func TestSearch(t *testing.T) {
	r := newRig(t)
	end := r.history(rand.New(rand.NewPCG(3, 4)), 5, 12)
	t.Run("index", func(t *testing.T) { searchAll(t, r, end) })
	if n := r.gather(); n < 4 { // a segment a day, but for the last
		t.Fatalf("%d segments", n)
	}
	t.Run("segments", func(t *testing.T) { searchAll(t, r, end) })
	r.Log.Close()
	r.openLog(0)
	if len(r.segments) < 4 || r.gather() != 0 {
		t.Fatalf("%d segments after a start, or once more", len(r.segments))
	}
	t.Run("segments of before", func(t *testing.T) { searchAll(t, r, end) })
	for i := range r.segments { // what cannot be read costs time, and hides nothing
		for shard := range uint16(1) << r.segments[i].shardBits {
			key := segmentKey(r.segments[i].day, r.segments[i].first, shard)
			if err := r.db.Update(func(txn *badger.Txn) error { return txn.Set(key, []byte("garbage")) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("segments damaged", func(t *testing.T) { searchAll(t, r, end) })
}

func searchAll(t *testing.T, r *rig, end time.Time) {
	some := r.all[len(r.all)/2]
	mid := some.At
	for _, c := range []struct {
		name string
		q    Query
		want func(e *mail.Event) bool
	}{
		{"all", Query{}, func(*mail.Event) bool { return true }},
		{"message", Query{Message: some.Message}, func(e *mail.Event) bool { return e.Message == some.Message }},
		{"recipient, other case", Query{To: strings.ToUpper(string(some.To))}, func(e *mail.Event) bool { return e.To == some.To }},
		{"part of recipient", Query{To: "USER7"}, func(e *mail.Event) bool { return strings.HasPrefix(string(e.To), "User7") }},
		{"domain part", Query{To: "@d3."}, func(e *mail.Event) bool { return e.Domain == "d3.example.jp" }},
		{"domain", Query{Domain: "d2.example.jp"}, func(e *mail.Event) bool { return e.Domain == "d2.example.jp" }},
		{"group and tenant", Query{Group: "g1", Tenant: "t2"}, func(e *mail.Event) bool { return e.Group == "g1" && e.Tenant == "t2" }},
		{"kinds and status", Query{Kinds: []mail.EventKind{2, 4}, Status: []mail.Status{2}},
			func(e *mail.Event) bool { return (e.Kind == 2 || e.Kind == 4) && e.Status == 2 }},
		{"reference data", Query{APIData: "cmc0012"}, func(e *mail.Event) bool { return e.APIData == "CMC00123" }},
		{"source", Query{Source: netip.MustParseAddr("127.0.0.3")}, func(e *mail.Event) bool { return e.Source.IsValid() }},
		{"user", Query{User: "u-t2"}, func(e *mail.Event) bool { return e.Tenant == "t2" }},
		{"part of a user", Query{User: "u-"}, func(*mail.Event) bool { return false }},
		{"sender", Query{From: "SHOP.example"}, func(*mail.Event) bool { return true }},
		{"nobody", Query{To: "nobody@d1.example.jp"}, func(*mail.Event) bool { return false }},
		{"since", Query{Since: mid}, func(e *mail.Event) bool { return !e.At.Before(mid) }},
		{"until", Query{Until: mid}, func(e *mail.Event) bool { return e.At.Before(mid) }},
		{"span", Query{Since: mid.Add(-time.Hour), Until: mid.Add(time.Hour), To: "user1"}, func(e *mail.Event) bool {
			return !e.At.Before(mid.Add(-time.Hour)) && e.At.Before(mid.Add(time.Hour)) && strings.HasPrefix(string(e.To), "User1")
		}},
		{"later than all", Query{Since: end.Add(time.Hour)}, func(*mail.Event) bool { return false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want []mail.Seq
			for i := range r.all {
				if c.want(&r.all[i]) {
					want = append(want, r.all[i].Delivery)
				}
			}
			got, _ := r.find(c.q)
			if !slices.Equal(seqs(got), want) {
				t.Errorf("%d found, want %d", len(got), len(want))
			}
			// The same in pages, each going on behind the last.
			c.q.Limit = 7
			var paged []mail.Event
			for {
				page, at := r.find(c.q)
				paged = append(paged, page...)
				if len(page) < 7 {
					break
				}
				text, err := ParseCursor(at.String())
				if err != nil || text != at {
					t.Fatalf("cursor %v as text: %v, %v", at, text, err)
				}
				c.q.After = text
			}
			if !slices.Equal(seqs(paged), want) {
				t.Errorf("%d found in pages, want %d", len(paged), len(want))
			}
			c.q.After, c.q.Limit = Cursor{}, 0
			if stepped, _ := r.inSteps(c.q); !slices.Equal(seqs(stepped), want) {
				t.Errorf("%d found in steps, want %d", len(stepped), len(want))
			}
		})
	}
}

// TestIndexSpares counts the blocks opened to find one message: no others than those that hold it.
func TestIndexSpares(t *testing.T) {
	r := newRig(t)
	r.history(rand.New(rand.NewPCG(5, 6)), 3, 30)
	some := r.all[len(r.all)/3]
	m := r.matcher(Query{Message: some.Message})
	opened, holding := 0, 0
	err := r.walk(t.Context(), Cursor{}, m, func(_ Cursor, raw string, _ uint32) bool {
		opened++
		hit := false
		if err := Decode(raw, func(_ uint32, e *mail.Event) bool { hit = hit || e.Message == some.Message; return true }); err != nil {
			t.Error(err)
		}
		if hit {
			holding++
		}
		return true
	})
	if err != nil || opened == 0 || opened != holding {
		t.Errorf("%d blocks opened, %d hold the message, %v", opened, holding, err)
	}
}

func TestClockSetBack(t *testing.T) {
	r := newRig(t)
	day := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	r.write(day, mail.Event{At: day, Kind: 1, Delivery: 1})
	old := day.Add(-5 * 24 * time.Hour)
	r.write(old, mail.Event{At: old, Kind: 1, Delivery: 2})
	for range 2 {
		if got, _ := r.find(Query{Until: old.Add(time.Hour)}); !slices.Equal(seqs(got), []mail.Seq{2}) {
			t.Errorf("found %v", seqs(got))
		}
		if got, _ := r.find(Query{}); !slices.Equal(seqs(got), []mail.Seq{1, 2}) {
			t.Errorf("order %v", seqs(got))
		}
		r.Log.Close()
		r.openLog(0)
	}
}

func TestFollow(t *testing.T) {
	r := newRig(t)
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	n := 0
	write := func() {
		n++
		r.write(now, mail.Event{At: now, Kind: 1, Delivery: mail.Seq(2*n - 1)}, mail.Event{At: now, Kind: 1, Delivery: mail.Seq(2 * n)})
	}
	for range 5 {
		write()
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan mail.Seq)
	ended := make(chan error, 1)
	follow := func(from Cursor) {
		go func() {
			ended <- r.Follow(ctx, from, func(e mail.Event, at Cursor) bool {
				seen <- e.Delivery
				return e.Delivery != 1000
			})
		}()
	}
	expect := func(from, to int) {
		t.Helper()
		for i := from; i <= to; i++ {
			if got := <-seen; got != mail.Seq(i) {
				t.Fatalf("event %d, want %d", got, i)
			}
		}
	}
	follow(Cursor{Day: dayOf(now), Block: 3, Index: 1}) // behind the first event of the third block
	expect(6, 9)
	// The follower waits with event 10 in hand while more is committed than memory keeps: nothing is left out.
	for range 3 * recentBlocks {
		write()
	}
	expect(10, 2*n)
	write()
	expect(2*n-1, 2*n)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	ctx = t.Context()
	follow(r.End().Next()) // only what comes
	write()
	expect(2*n-1, 2*n)
	r.write(now, mail.Event{At: now, Kind: 1, Delivery: 1000}, mail.Event{At: now, Kind: 1, Delivery: 1001})
	expect(1000, 1000)
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	follow(r.End().Next())
	r.Log.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("ended with %v", err)
	}
	r.openLog(0)
}

func TestPurge(t *testing.T) {
	r := newRig(t)
	r.history(rand.New(rand.NewPCG(7, 8)), 6, 5)
	if r.gather() == 0 {
		t.Fatal("no segments")
	}
	cut := dayOf(r.all[len(r.all)/2].At)
	limit := time.Unix(int64(cut)*86400, 0)
	var want []mail.Seq
	for i := range r.all {
		if !r.all[i].At.Before(limit) {
			want = append(want, r.all[i].Delivery)
		}
	}
	for {
		keys, err := r.Expired(cut, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) == 0 {
			break
		}
		if len(keys) > 3 {
			t.Fatalf("%d keys at once", len(keys))
		}
		if err := r.db.Update(func(txn *badger.Txn) error {
			for _, k := range keys {
				if err := txn.Delete(k); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	r.Forgot(cut)
	got, _ := r.find(Query{})
	if !slices.Equal(seqs(got), want) {
		t.Errorf("%d events left, want %d of %d", len(got), len(want), len(r.all))
	}
	for _, s := range r.segments {
		if s.day < cut {
			t.Error("a segment of a purged day is left")
		}
	}
	if got, _ := r.find(Query{To: string(r.all[len(r.all)-1].To), Since: limit}); len(got) == 0 {
		t.Error("nothing found behind the purged days")
	}
	end := r.End()
	r.Log.Close()
	r.openLog(end.Block + 10)
	if r.End().Block != end.Block+10 {
		t.Error("a block number may be used twice")
	}
}

func TestDamagedBlock(t *testing.T) {
	r := newRig(t)
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range 5 {
		r.write(now, mail.Event{At: now, Kind: 1, Delivery: mail.Seq(i + 1)})
	}
	swap := func(prefix byte, block uint64, value []byte) {
		if err := r.db.Update(func(txn *badger.Txn) error { return txn.Set(key(prefix, dayOf(now), block), value) }); err != nil {
			t.Fatal(err)
		}
	}
	swap(prefixBlock, 2, []byte("garbage"))
	swap(prefixIndex, 4, nil) // its block is still found
	if got, _ := r.find(Query{}); !slices.Equal(seqs(got), []mail.Seq{1, 3, 4, 5}) || r.Damaged() != 2 {
		t.Errorf("found %v, %d damaged", seqs(got), r.Damaged())
	}
}

func TestReplay(t *testing.T) {
	r := newRig(t)
	r.history(rand.New(rand.NewPCG(9, 1)), 2, 400) // more blocks than one transaction reads
	n := 0
	if err := r.Replay(Cursor{}, func(Cursor, *mail.Event) { n++ }); err != nil || n != len(r.all) {
		t.Errorf("%d replayed of %d, %v", n, len(r.all), err)
	}
	n = 0
	if err := r.Replay(r.End().Next(), func(Cursor, *mail.Event) { n++ }); err != nil || n != 0 {
		t.Errorf("%d replayed behind the end, %v", n, err)
	}
}

// TestSequence: every tenant's events are numbered without gaps, over restarts, blocks and pages.
func TestSequence(t *testing.T) {
	r := newRig(t)
	rnd := rand.New(rand.NewPCG(11, 2))
	check := func() {
		t.Helper()
		next := map[string]uint64{}
		all, _ := r.find(Query{})
		for _, e := range all {
			if next[e.Tenant]++; e.Sequence != next[e.Tenant] {
				t.Fatalf("tenant %s: sequence %d, want %d", e.Tenant, e.Sequence, next[e.Tenant])
			}
		}
	}
	r.history(rnd, 1, 5)
	snapshot := r.AppendSequences(nil)
	behind := r.End().Next()
	r.history(rnd, 1, 5)
	check()
	for name, from := range map[string]Cursor{"snapshot and what came after": behind, "no snapshot": {}} {
		r.Log.Close()
		r.openLog(0)
		if from != (Cursor{}) {
			read := record.NewReader(string(snapshot))
			if err := r.RestoreSequences(&read); err != nil {
				t.Fatal(name, err)
			}
		}
		if err := r.Replay(from, func(Cursor, *mail.Event) {}); err != nil {
			t.Fatal(name, err)
		}
		r.history(rnd, 1, 3)
		check()
	}
	one, _ := r.find(Query{Tenant: "t2", Limit: 1, To: "user"})
	if len(one) != 1 || one[0].Sequence == 0 {
		t.Errorf("a filtered event has no number: %+v", one)
	}
	if err := r.RestoreSequences(&record.Reader{}); err == nil {
		t.Error("an empty snapshot is taken")
	}
}

func TestDay(t *testing.T) {
	for in, want := range map[time.Time]uint16{
		time.Unix(-5, 0): 0, time.Unix(86399, 0): 0, time.Unix(86400, 0): 1, time.Unix(math.MaxInt32*1000, 0): math.MaxUint16,
	} {
		if got := dayOf(in); got != want {
			t.Errorf("%v: day %d, want %d", in, got, want)
		}
	}
}
