package gather

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// TestRareEvents: members end a page in time although nothing matched; the search goes on with the next one until all is found,
// however long that takes, and tells how far it has come.
func TestRareEvents(t *testing.T) {
	r := mustRig(t)
	r.n["n1"].events = []mail.Event{event(1, "a@example.jp"), event(9, "rare@example.jp")}
	n2 := r.n["n2"]
	n2.creeps = true
	n2.events = []mail.Event{event(1, "a@example.jp"), event(2, "b@example.jp"), event(3, "rare@example.jp"), event(4, "b@example.jp")}
	g := r.all.Log.(eventLog)
	g.gatherer.Timeout = 2 * time.Second // of which a page has a quarter
	p := g.Peers.(peers)
	delete(p, "n3")

	var seen []int64
	last, bare := "", 0
	q := service.EventQuery{To: "rare@example.jp", Reached: func(position string) bool { last = position; bare++; return true }}
	err := g.Search(t.Context(), q, func(e mail.Event, _ string) bool { seen = append(seen, e.At.Unix()); return true })
	if err != nil || !slices.Equal(seen, []int64{3, 9}) {
		t.Errorf("found %v, %v; want 3 and 9", seen, err)
	}
	if at, err := parseCursor(last, "n1"); err != nil || at["n2"] != "3" || bare < 3 {
		t.Errorf("came to %v, %v, told %d times; want the end of n2", at, err, bare)
	}
	if n2.searches < 4 {
		t.Errorf("n2 was asked %d times, want once for each of its events", n2.searches)
	}

	// Whoever looks for one of them has it as well, and who has seen enough ends the search between two pages.
	q = service.EventQuery{To: "b@example.jp", One: true}
	found := 0
	if err := g.Search(t.Context(), q, func(e mail.Event, _ string) bool { found = int(e.At.Unix()); return true }); err != nil || found != 2 {
		t.Errorf("one: found %d, %v; want 2", found, err)
	}
	asked := n2.searches
	q = service.EventQuery{To: "none@example.jp", Reached: func(string) bool { return false }}
	if err := g.Search(t.Context(), q, nil); err != nil || n2.searches != asked+1 {
		t.Errorf("ended: %v, n2 asked %d times more; want 1", err, n2.searches-asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	q.Reached = func(string) bool { cancel(); return true }
	if err := g.Search(ctx, q, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestOneEvent: where any event will do the others are asked only for what this node does not have, and one that does not
// answer in time makes one look-up wait, not each.
func TestOneEvent(t *testing.T) {
	r := mustRig(t)
	r.n["n1"].events = []mail.Event{event(1, "a@example.jp")}
	r.n["n2"].events = []mail.Event{event(1, "b@example.jp"), event(2, "b@example.jp")}
	var asked atomic.Int32
	hangs := make(chan struct{})
	dead := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1); <-hangs }))
	defer dead.Close()
	defer close(hangs)
	look := func(s service.Services, second mail.Seq) (mail.Address, error) {
		t.Helper()
		q := service.EventQuery{Message: mail.MessageID{Lineage: 1, Seq: second}, One: true}
		found := mail.Event{}
		err := s.Log.Search(t.Context(), q, func(e mail.Event, _ string) bool { found = e; return true })
		return found.To, err
	}
	if to, err := look(r.all, 1); to != "a@example.jp" || err != nil || r.n["n2"].searches != 0 {
		t.Errorf("own: %s, %v, %d asked", to, err, r.n["n2"].searches)
	}
	if to, err := look(r.all, 2); to != "b@example.jp" || err != nil || r.n["n2"].searches != 1 {
		t.Errorf("another's: %s, %v, %d asked", to, err, r.n["n2"].searches)
	}
	_, err := look(r.all, 3)
	mustMiss(t, err)

	all := Services(Config{Name: "n1", Local: r.n["n1"].services(), Peers: peers{"n4": NewClient(dead.Client(), dead.URL)},
		Timeout: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	for range 3 {
		var partial *service.Partial
		if _, err := look(all, 3); !errors.As(err, &partial) || partial.Missing[0].Name != "n4" || asked.Load() != 1 {
			t.Errorf("%v, asked %d times", err, asked.Load())
		}
	}
}
