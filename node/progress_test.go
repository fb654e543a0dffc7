package node

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// lines is a log that a test reads while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestMailWithoutProgress puts a delivery into the store that no actor hears of, as a fault would (requirement N7). Nothing
// is said of it while its lifetime lasts; then two looks find it, the metric, the log and the status tell, and a restart
// ends it.
func TestMailWithoutProgress(t *testing.T) {
	dir, out := t.TempDir(), &lines{}
	cfg, err := DecodeConfig(filepath.Join(dir, "node.yaml"), []byte(`node: {name: n1, data: data}
smtp: {listeners: [{address: "127.0.0.1:0"}]}
http: {address: "127.0.0.1:0"}
keys: {unseal: [recovery-code]}
testing: {enabled: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	code := ""
	start := func() *Node {
		t.Helper()
		n, err := New(t.Context(), cfg, Options{Log: slog.New(slog.NewTextHandler(out, nil)), Code: func(c string) { code = c }})
		if err == nil {
			err = n.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	stop := func(n *Node) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 9*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	n := start()
	e := n.engine.Load()
	now := n.clock.Now().Truncate(time.Millisecond)
	id := mail.MessageID{Lineage: e.store.Lineage(), Seq: e.store.Allot(1)}
	a := &mail.Accepted{ID: id, Tenant: "default", Body: []byte("x"), Deliveries: []mail.Delivery{{Seq: id.Seq, Message: id, Tenant: "default",
		Composition: "default", To: "a@lost.example", Domain: "lost.example", Due: now, Expires: now.Add(30 * time.Minute), RetryEvery: time.Minute,
		Priority: 50, Size: 1}}, Events: []mail.Event{{At: now, Kind: mail.EventAccepted, Message: id, Delivery: id.Seq, Tenant: "default",
		To: "a@lost.example", Domain: "lost.example"}}}
	done := make(chan error, 1)
	intakeStore{e.store, n.numbers, e.holds, e.bounces, nil}.Put(a, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	look := func(n *Node, want int) {
		t.Helper()
		e := n.engine.Load()
		if err := n.lookForOverdue(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if c := (nodeService{n}).Conservation(); c.Overdue != want || !c.Books || c.Gap != 0 || c.LogGap != 0 || len(c.Oldest) != want {
			t.Errorf("the books say %+v, want %d overdue and no gap", c, want)
		}
	}
	n.engine.Store(nil) // as while it is sealed, or the queue is being opened, and on a witness
	if c := (nodeService{n}).Conservation(); c.Books {
		t.Errorf("without a queue: %+v", c)
	}
	n.engine.Store(e)
	look(n, 0)
	n.clock.Advance(40 * time.Minute) // past its lifetime, but somebody may be at it
	look(n, 0)
	look(n, 0)
	n.clock.Advance(10 * time.Minute)
	look(n, 0) // found once
	look(n, 1)
	w := httptest.NewRecorder()
	n.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "ekiden_overdue_deliveries 1\n") {
		t.Error("the metric does not tell")
	}
	if text := out.String(); !strings.Contains(text, "makes no progress") || !strings.Contains(text, id.String()) {
		t.Errorf("the log does not tell: %s", text)
	}
	stop(n)

	n = start()
	defer func() { stop(n) }()
	n.clock.Advance(50 * time.Minute)
	if err := (nodeService{n}).Unseal(t.Context(), code); err != nil {
		t.Fatal(err)
	}
	late := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	// The counts of the process follow the commit by a moment.
	for n.engine.Load().store.Waiting() > 0 || (nodeService{n}).Conservation().Gap != 0 {
		select {
		case <-late:
			t.Fatalf("a restart does not take it up: %+v", (nodeService{n}).Conservation())
		case <-tick.C:
		}
	}
	look(n, 0)
	look(n, 0)
}
