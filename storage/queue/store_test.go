package queue

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// rig is a store under test that can be closed and opened again.
type rig struct {
	t   testing.TB
	cfg Config
	key []byte
	*Store
	roots []*seal.Root
	log   *logBuffer
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, key: bytes.Repeat([]byte{7}, seal.KeySize), log: &logBuffer{}}
	r.cfg = Config{Dir: t.TempDir(), Clock: &clock.Clock{}, MinFree: 1, Ballast: -1,
		Log: slog.New(slog.NewTextHandler(r.log, nil))}
	r.open()
	t.Cleanup(func() {
		if err := r.Store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		for _, root := range r.roots {
			_ = root.Close()
		}
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

// ring returns a ring as a new process would make it; its root lives until the store was closed for good.
func (r *rig) ring(key []byte) *seal.Ring {
	r.t.Helper()
	root, err := seal.RootFrom(bytes.Clone(key))
	if err != nil {
		r.t.Fatal(err)
	}
	r.roots = append(r.roots, root)
	return seal.NewRing(root)
}

func (r *rig) open() {
	r.t.Helper()
	r.cfg.Ring = r.ring(r.key)
	s, err := Open(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Store = s
}

func (r *rig) reopen() {
	r.t.Helper()
	if err := r.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

// shop is the destination of the rig's tenant's mail to d.
func shop(d mail.Domain) mail.Destination { return mail.Destination{Domain: d, Tenant: "shop"} }

// message makes work for the given recipients.
func (r *rig) message(body string, to ...mail.Address) *mail.Accepted {
	return newMessage(r.Store, r.cfg.Clock.Now(), []byte(body), to...)
}

func newMessage(s *Store, now time.Time, body []byte, to ...mail.Address) *mail.Accepted {
	seq := s.Allot(len(to))
	a := &mail.Accepted{ID: mail.MessageID{Lineage: s.Lineage(), Seq: seq}, Body: body, Tenant: "shop"}
	for i, rcpt := range to {
		d := mail.Delivery{Seq: seq + mail.Seq(i), Message: a.ID, Tenant: "shop", Composition: "main", Pool: "default",
			From: "news@shop.example", To: rcpt, Domain: rcpt.Domain(), Due: now, Expires: now.Add(time.Hour),
			RetryEvery: time.Minute, Size: len(body), Priority: 50, Apart: true}
		a.Deliveries = append(a.Deliveries, d)
		a.Events = append(a.Events, mail.Event{At: now, Kind: mail.EventAccepted, Message: a.ID, Delivery: d.Seq,
			Tenant: "shop", From: d.From, To: rcpt, Domain: d.Domain, Composition: "main", Size: len(body),
			Client: netip.MustParseAddr("192.0.2.7"), HeaderFrom: "news@shop.example",
			HeaderID: fmt.Sprintf("<%d@shop.example>", seq)})
	}
	return a
}

func (r *rig) put(a *mail.Accepted) {
	r.t.Helper()
	if err := wait(func(done func(error)) { r.Put(a, done) }); err != nil {
		r.t.Fatalf("put: %v", err)
	}
}

func wait(f func(done func(error))) error {
	done := make(chan error, 1)
	f(func(err error) { done <- err })
	return <-done
}

func delivered(d *mail.Delivery, now time.Time) mail.Settlement {
	return mail.Settlement{Delivery: d, Event: mail.Event{At: now, Kind: mail.EventDelivered, Message: d.Message,
		Delivery: d.Seq, Tenant: d.Tenant, Group: d.Group, From: d.From, To: d.To, Domain: d.Domain, Attempt: d.Attempts + 1,
		Receiver: "example", Stage: mail.StageDot, Reply: smtp.Reply{Code: 250, Text: "2.0.0 Ok: queued as 5C3AE1"},
		Source: netip.MustParseAddr("127.0.0.2"), Remote: netip.MustParseAddrPort("192.0.2.25:25"), MX: "mx.example.net"}}
}

func (r *rig) settle(d mail.Delivery) {
	r.t.Helper()
	if err := wait(func(done func(error)) { r.Settle(delivered(&d, r.cfg.Clock.Now()), done) }); err != nil {
		r.t.Fatalf("settle: %v", err)
	}
}

// later defers d to due.
func (r *rig) later(d mail.Delivery, due time.Time) mail.Delivery {
	r.t.Helper()
	m := putOff(&d, r.cfg.Clock.Now(), due)
	if err := wait(func(done func(error)) { r.Settle(m, done) }); err != nil {
		r.t.Fatalf("defer: %v", err)
	}
	return *m.Next
}

// putOff is what an attempt at d leaves behind that its receiver had no time for.
func putOff(d *mail.Delivery, now, due time.Time) mail.Settlement {
	next := *d
	next.Due = due
	next.Attempts++
	return mail.Settlement{Delivery: d, Next: &next, Event: mail.Event{At: now, Kind: mail.EventDeferred, Attempt: next.Attempts,
		Message: d.Message, Delivery: d.Seq, Tenant: d.Tenant, Group: d.Group, From: d.From, To: d.To, Domain: d.Domain,
		Stage: mail.StageRcpt, Next: due, Reply: smtp.Reply{Code: 450, Text: "busy"}}}
}

func (r *rig) scan(d mail.Domain, c Cursor, until time.Time, n int) []mail.Delivery {
	r.t.Helper()
	ds, _, _, _, err := r.Scan(shop(d), c, until, n)
	if err != nil {
		r.t.Fatalf("scan: %v", err)
	}
	return ds
}

func (r *rig) body(m mail.MessageID) string {
	r.t.Helper()
	b, err := r.Body(m)
	if err != nil {
		r.t.Fatalf("body: %v", err)
	}
	return string(b)
}

func far(t time.Time) time.Time { return t.Add(1000 * time.Hour) }

func TestPutScanSettle(t *testing.T) {
	r := newRig(t)
	now := r.cfg.Clock.Now()
	a := r.message("Subject: hello\r\n\r\nbody\r\n", "taro@example.jp")
	r.put(a)
	ds, next, more, nextDue, err := r.Scan(shop("example.jp"), Cursor{}, far(now), 10)
	if err != nil || len(ds) != 1 || more || !nextDue.IsZero() {
		t.Fatalf("scan: %v deliveries, more %v, next due %v, %v", len(ds), more, nextDue, err)
	}
	want := a.Deliveries[0]
	want.Due = want.Due.Truncate(time.Millisecond).UTC()
	want.Expires = want.Expires.Truncate(time.Second).UTC()
	if ds[0] != want {
		t.Errorf("scanned %+v\nput     %+v", ds[0], want)
	}
	if got := r.scan("example.jp", next, far(now), 10); len(got) != 0 {
		t.Errorf("behind the cursor: %v", got)
	}
	r.reopen()
	if got := r.body(a.ID); got != string(a.Body) {
		t.Errorf("body %q", got)
	}
	if r.Waiting() != 1 {
		t.Errorf("waiting %d", r.Waiting())
	}
	r.settle(ds[0])
	if _, err := r.Body(a.ID); !errors.Is(err, ErrNoBody) {
		t.Errorf("body of a settled message: %v", err)
	}
	if got := r.scan("example.jp", Cursor{}, far(now), 10); len(got) != 0 || r.Waiting() != 0 {
		t.Errorf("settled, but scanned %v, waiting %d", got, r.Waiting())
	}
	var kinds []mail.EventKind
	err = r.Events().Search(t.Context(), events.Query{Message: a.ID}, func(e mail.Event, _ events.Cursor) bool {
		kinds = append(kinds, e.Kind)
		return true
	})
	if err != nil || len(kinds) != 2 || kinds[0] != mail.EventAccepted || kinds[1] != mail.EventDelivered {
		t.Errorf("events %v, %v", kinds, err)
	}
}

// TestMark: that a dot is about to go outlives a restart, changes neither place nor counts, and does not bring back what was
// settled (capability N3).
func TestMark(t *testing.T) {
	r := newRig(t)
	a := r.message("body", "a@a.example", "b@a.example")
	r.put(a)
	now := r.cfg.Clock.Now()
	d, gone := a.Deliveries[0], a.Deliveries[1]
	r.settle(gone)
	mark := func(d mail.Delivery, on bool) error {
		d.Dotted = on
		return wait(func(done func(error)) { r.Mark(&d, done) })
	}
	if err := mark(gone, true); !errors.Is(err, ErrNotQueued) {
		t.Errorf("what was settled: %v", err)
	}
	for _, on := range []bool{true, false, true} {
		if err := mark(d, on); err != nil {
			t.Fatal(err)
		}
		r.reopen()
		ds := r.scan("a.example", Cursor{}, far(now), 10)
		if len(ds) != 1 || ds[0].Seq != d.Seq || ds[0].Dotted != on || r.Waiting() != 1 {
			t.Errorf("mark %t: %d wait, %+v", on, r.Waiting(), ds)
		}
	}
	r.settle(d) // by who knows nothing of the mark
	if ds := r.scan("a.example", Cursor{}, far(now), 10); len(ds) != 0 || r.Waiting() != 0 {
		t.Errorf("settled: %d wait, %+v", r.Waiting(), ds)
	}
}
