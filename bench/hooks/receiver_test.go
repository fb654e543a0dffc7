package hooks

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ledger = "t1 2026-01-01T00:00:00Z aa <t1@load.example> 2026-01-01T00:00:00Z bb a@a.example,b@a.example\n"

func record(status, id, to string) string {
	return `{"status":"` + status + `","messageId":"<` + id + `@load.example>","to":"` + to + `"}`
}

func mustPost(t *testing.T, r *Receiver, id string, events ...string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL, strings.NewReader(`{"event":[`+strings.Join(events, ",")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Webhook-Id", id)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
}

func TestCheck(t *testing.T) {
	qa, qb := record("queued", "t1", "a@a.example"), record("queued", "t1", "b@a.example")
	sa, sb := record("succeeded", "t1", "a@a.example"), record("succeeded", "t1", "b@a.example")
	for _, row := range []struct {
		name  string
		posts func(*Receiver)
		want  Verdict
		ok    bool
	}{
		{"all", func(r *Receiver) { mustPost(t, r, "1", qa, qb); mustPost(t, r, "2", sa, sb) }, Verdict{Events: 4, Posts: 2}, true},
		{"one is missing", func(r *Receiver) { mustPost(t, r, "1", qa, qb, sa) }, Verdict{Events: 3, Posts: 1, Lost: 1}, false},
		{"a post again", func(r *Receiver) { mustPost(t, r, "1", qa, qb, sa, sb); mustPost(t, r, "1", qa, qb, sa, sb) },
			Verdict{Events: 4, Posts: 1, Again: 1}, true},
		{"a post again in other words", func(r *Receiver) { mustPost(t, r, "1", qa, qb, sa, sb); mustPost(t, r, "1", qa, qb, sa) },
			Verdict{Events: 4, Posts: 1, Again: 1, Changed: 1}, false},
		{"an event in two posts", func(r *Receiver) { mustPost(t, r, "1", qa, qb, sa, sb); mustPost(t, r, "2", qa) },
			Verdict{Events: 5, Posts: 2, Repeated: 1}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := Listen()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			row.posts(r)
			path := filepath.Join(t.TempDir(), "ledger")
			if err := os.WriteFile(path, []byte(ledger), 0o600); err != nil {
				t.Fatal(err)
			}
			v, err := r.Check(path)
			if err != nil {
				t.Fatal(err)
			}
			if ok := v.OK(); ok != row.ok {
				t.Errorf("ok %t: %+v", ok, v)
			}
			if v.Examples = nil; v.Events != row.want.Events || v.Posts != row.want.Posts || v.Again != row.want.Again ||
				v.Changed != row.want.Changed || v.Lost != row.want.Lost || v.Repeated != row.want.Repeated {
				t.Errorf("got %+v, want %+v", v, row.want)
			}
			r.Forget()
			if v, err := r.Check(path); err != nil || v.Events != 0 || v.Lost != 4 {
				t.Errorf("after forgetting: %+v, %v", v, err)
			}
		})
	}
}
