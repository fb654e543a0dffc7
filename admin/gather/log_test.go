package gather

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

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
