package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// fakeBook is replicated settings and suppression lists, from plain fields.
type fakeBook struct {
	yaml     string
	revision uint64
	list     []service.Suppression
	err      error
}

func (b *fakeBook) Settings(context.Context) ([]byte, uint64, error) {
	return []byte(b.yaml), b.revision, nil
}

func (b *fakeBook) Apply(_ context.Context, a service.Application) (service.Applied, error) {
	now, err := settings.Decode(a.YAML, nil)
	if err != nil {
		return service.Applied{}, err
	}
	if a.Base != nil && *a.Base != b.revision {
		return service.Applied{}, fmt.Errorf("%w: revision %d is in force", service.ErrConflict, b.revision)
	}
	if b.err != nil {
		return service.Applied{}, b.err
	}
	old, err := settings.Decode([]byte(b.yaml), nil)
	if err != nil {
		return service.Applied{}, err
	}
	out := service.Applied{Changes: settings.Diff(old, now), Revision: b.revision}
	if !a.DryRun && len(out.Changes) > 0 {
		b.revision++
		b.yaml, out.Revision = string(a.YAML), b.revision
	}
	return out, nil
}

func (b *fakeBook) List(_ context.Context, q service.SuppressionQuery, yield func(service.Suppression, string) bool) error {
	for i, s := range b.list {
		position := fmt.Sprint(i)
		if position > q.After && (q.List == "" || q.List == s.List) && q.Within(s.Since) && !yield(s, position) {
			return nil
		}
	}
	return nil
}

func (b *fakeBook) Add(_ context.Context, list []service.Suppression) (int, error) {
	b.list = append(b.list, list...)
	return len(list), b.err
}

func (b *fakeBook) Import(ctx context.Context, list []service.Suppression) (int, error) {
	return b.Add(ctx, list)
}

func (b *fakeBook) Remove(_ context.Context, at service.Place, list []mail.Address, _ string) (int, error) {
	for i, s := range b.list {
		if s.Place == at && s.Address == list[0] {
			b.list = append(b.list[:i], b.list[i+1:]...)
			return 1, nil
		}
	}
	return 0, nil
}

func (b *fakeBook) Reset(context.Context, string, []mail.Address, string) (int, error) {
	return 0, service.ErrNotYet
}

const someSettings = "tenants:\n  - name: shop\n    compositions: [{name: main}]\n"

func mustBook(t *testing.T) (*front, *fakeBook) {
	t.Helper()
	b := &fakeBook{yaml: someSettings, revision: 7}
	return mustFront(t, func(c *Config) { c.Services.Settings, c.Services.Suppressions = b, b }), b
}

func TestSettingsOverHTTP(t *testing.T) {
	f, b := mustBook(t)
	a := f.call("GET", "/v1/settings", "", bearer)
	if a.status != 200 || a.header.Get("ETag") != `"7"` || !strings.Contains(a.body, `"tenants":[{"name":"shop"`) {
		t.Fatalf("got %d %v %s", a.status, a.header, a.body)
	}
	asJSON := a.body
	if a := f.call("GET", "/v1/settings", "", bearer, "Accept: application/yaml"); a.body != someSettings {
		t.Errorf("as YAML: %q", a.body)
	}
	if a := f.call("PUT", "/v1/settings", asJSON, bearer, `If-Match: "7"`); a.status != 200 || !strings.Contains(a.body, `"revision":7,"difference":""`) {
		t.Errorf("what was got changes nothing when it is put: %d %s", a.status, a.body)
	}
	longer := strings.Replace(someSettings, "    comp", "    retention_days: 50\n    comp", 1)
	tests := []struct {
		name, path, body string
		header           []string
		status           int
		want             string
	}{
		{"only shown", "/v1/settings?dry_run=true", longer, nil, 200, `"revision":7,"difference":"changed tenant shop\n    retention_days: 40 -\u003e 50\n"`},
		{"of another revision", "/v1/settings", longer, []string{`If-Match: "6"`}, 412, "revision 7 is in force"},
		{"odd tag", "/v1/settings", longer, []string{"If-Match: 7"}, 400, "must be an ETag"},
		{"wrong", "/v1/settings", strings.Replace(longer, "50", "500", 1), nil, 400, `"problems":[{"line":3,"key":"tenants[0].retention_days","text":"500 is out of range`},
		{"done", "/v1/settings", longer, []string{`If-Match: "7"`}, 200, `{"kind":"tenant","name":"shop","change":"changed","lines":[{"key":"retention_days","old":"40","new":"50"}]}`},
	}
	for _, tt := range tests {
		a := f.call("PUT", tt.path, tt.body, append(tt.header, bearer)...)
		if a.status != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, a.status, a.body, tt.status, tt.want)
		}
	}
	if b.revision != 8 {
		t.Errorf("revision %d", b.revision)
	}
	b.err = service.ErrNoQuorum
	if a := f.call("PUT", "/v1/settings", someSettings, bearer); a.status != 503 || !strings.Contains(a.body, "no majority") {
		t.Errorf("without a majority: %d %s", a.status, a.body)
	}
	b.err = service.ErrConflict
	if a := f.call("PUT", "/v1/settings", someSettings, bearer); a.status != 409 {
		t.Errorf("overtaken: %d %s", a.status, a.body)
	}
	b.err = nil
	large := someSettings + "#" + strings.Repeat("x", 100<<10) // more than other bodies may have
	if a := f.call("PUT", "/v1/settings?dry_run=true", large, bearer); a.status != 200 {
		t.Errorf("a large file: %d %s", a.status, a.body)
	}
}

func TestSettingsErrorsCrossTheRPC(t *testing.T) {
	f, _ := mustBook(t)
	a := f.call("POST", calls+"ApplySettings", `{"yaml":"tenants: []\n"}`, bearer, asJSON)
	if a.status != 400 || !strings.Contains(a.body, `"type":"ekiden.admin.v1.SettingsProblems"`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
	a = f.call("POST", calls+"ApplySettings", `{"yaml":"tenants: [{name: a, compositions: [{name: b}]}]","base":"6"}`, bearer, asJSON)
	if a.status != 409 || !strings.Contains(a.body, `"code":"aborted"`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func (b *fakeBook) DeliveryStops(context.Context, string) ([]service.DeliveryStop, error) {
	return []service.DeliveryStop{{Tenant: "shop", Composition: "main", RunAt: "00:00", Reasons: map[int]int{2: 1},
		LastRun: time.Unix(1_000_000_000, 0), Stopped: 3}, {Tenant: "shop", Composition: "news", RunAt: "immediate"}}, nil
}

func TestDeliveryStopsOverHTTP(t *testing.T) {
	f := mustFront(t, func(c *Config) { c.Services.DeliveryStops = &fakeBook{} })
	const want = `{"delivery_stops":[{"tenant":"shop","composition":"main","run_at":"00:00","release_after_days":0,"release_disabled":false,` +
		`"reasons":{"2":1},"last_run":"2001-09-09T01:46:40Z","stopped":3},{"tenant":"shop","composition":"news","run_at":"immediate",` +
		`"release_after_days":0,"release_disabled":false,"reasons":{},"stopped":0}]}`
	if a := f.call("GET", "/v1/delivery-stops?tenant=shop", "", bearer); a.status != 200 || strings.TrimSpace(a.body) != want {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := mustFront(t, nil).call("GET", "/v1/delivery-stops", "", bearer); a.status != 501 {
		t.Errorf("without: %d", a.status)
	}
}

func TestSuppressionsOverHTTP(t *testing.T) {
	f, b := mustBook(t)
	tests := []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"add", "POST", "", `{"address":"a@example.jp","list":"blocklist","tenant":"shop","reason":"x","expires":253402300799}`, 200, `{"added":1}`},
		{"add until a date", "POST", "", `{"address":"b@example.jp","list":"blackbox","expires":"2999-01-01T00:00:00Z"}`, 200, `{"added":1}`},
		{"expired", "POST", "", `{"address":"b@example.jp","list":"blackbox","expires":1}`, 400, "expires: 1970-01-01T00:00:01Z has passed already"},
		{"expires in words", "POST", "", `{"address":"b@example.jp","list":"blackbox","expires":"later"}`, 400, "expires: \\\"later\\\" is no time"},
		{"expires before 1970", "POST", "", `{"address":"b@example.jp","list":"blackbox","expires":-1}`, 400, "expires: \\\"-1\\\" is no time"},
		{"a number for an address", "POST", "", `{"address":1,"list":"blackbox"}`, 400, "address: a JSON number"},
		{"unknown key", "POST", "", `{"address":"b@example.jp","lists":"blackbox"}`, 400, "\\\"lists\\\" is no key of this call"},
		{"no body", "POST", "", "", 400, "no JSON object"},
		{"an octet NUL", "POST", "", `{"address":"b\u0000@example.jp","list":"blackbox"}`, 400, "address: "},
		{"no tenant", "POST", "", `{"address":"b@example.jp","list":"unsubscribe"}`, 400, "of one tenant"},
		{"no list", "POST", "", `{"address":"b@example.jp","list":"grey","tenant":"shop"}`, 400, "blackbox, blocklist, unsubscribe"},
		{"no address", "POST", "", `{"address":"b","tenant":"shop"}`, 400, "no mail address"},
		{"list", "GET", "?limit=1", "", 200, `{"suppressions":[{"address":"a@example.jp","list":"blocklist","tenant":"shop","reason":"x","author":"operator",`},
		{"next page", "GET", "?limit=1&cursor=0", "", 200, `"expires":"2999-01-01T00:00:00Z"}],"next_cursor":"1","more":false}`},
		{"got on within the hour", "GET", "?since=1h&list=blackbox", "", 200, `"address":"b@example.jp"`},
		{"got on before that", "GET", "?until=1h", "", 200, `{"suppressions":[],"next_cursor":"","more":false}`},
		{"bad period", "GET", "?until=yesterday", "", 400, "until: "},
		{"bad page", "GET", "?limit=0", "", 400, "limit"},
		{"bad list", "GET", "?list=grey", "", 400, "allowed"},
		{"remove", "DELETE", "?address=a@example.jp&tenant=shop", "", 200, `{"removed":1}`},
		{"remove again", "DELETE", "?address=a@example.jp&tenant=shop", "", 404, "a@example.jp is not on the list blocklist"},
		{"remove nothing", "DELETE", "?tenant=shop", "", 400, "address is needed"},
	}
	for _, tt := range tests {
		a := f.call(tt.method, "/v1/suppressions"+tt.path, tt.body, bearer)
		if a.status != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, a.status, a.body, tt.status, tt.want)
		}
	}
	if len(b.list) != 1 {
		t.Errorf("left: %v", b.list)
	}
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", f.url+"/v1/suppressions?address=b@example.jp&list=blackbox",
		io.MultiReader()) // in chunks, of which there is none
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", strings.TrimPrefix(bearer, "Authorization: "))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if raw, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(raw) != `{"removed":1}`+"\n" || len(b.list) != 0 {
		t.Errorf("remove with an empty body in chunks: %d %s %v, left %v", resp.StatusCode, raw, err, b.list)
	}
	if a := mustFront(t, nil).call("GET", "/v1/suppressions", "", bearer); a.status != 501 {
		t.Errorf("without lists: %d", a.status)
	}
}

// fewer answers like fakeNode, but lacks a member.
type fewer struct{ *fakeNode }

var lost = &service.Partial{Missing: []service.Absent{{Name: "n3", For: 1500 * time.Millisecond, Reason: "gone"}}}

func (f fewer) Counters(ctx context.Context, q service.CounterQuery) ([]service.CounterBucket, error) {
	out, _ := f.fakeNode.Counters(ctx, q)
	return out, lost
}

func (f fewer) Search(ctx context.Context, q service.EventQuery, yield func(mail.Event, string) bool) error {
	_ = f.fakeNode.Search(ctx, q, yield)
	return lost
}

func TestAnswersSayWhoIsMissing(t *testing.T) {
	f := mustFront(t, func(c *Config) {
		own := c.Services
		c.Local = &own
		few := fewer{own.Numbers.(*fakeNode)}
		c.Services.Numbers, c.Services.Log = few, few
	})
	f.node.events = someEvents(1)
	for _, tt := range []struct{ name, method, path, want string }{
		{"counters", "GET", "/v1/counters", `"missing":[{"name":"n3","missing_for":1.5,"reason":"gone"}]`},
		{"events", "GET", "/v1/events", `"missing":[{"name":"n3"`},
		{"counters by call", "POST", calls + "GetCounters", `"missing":[{"name":"n3","missing_for":"1.500s","reason":"gone"}]`},
		{"events by call", "POST", calls + "SearchEvents", `"missing":[{"name":"n3"`},
	} {
		a := f.call(tt.method, tt.path, "{}", bearer, asJSON)
		if compact := strings.ReplaceAll(a.body, " ", ""); a.status != 200 || !strings.Contains(compact, tt.want) {
			t.Errorf("%s: got %d %s", tt.name, a.status, a.body)
		}
		if named := a.header.Values("Ekiden-Missing"); tt.method == "GET" && !slices.Equal(named, []string{"n3"}) {
			t.Errorf("%s: the head names %q as missing", tt.name, named)
		}
	}
	a := f.call("POST", calls+"SearchEvents", "{}", bearer, asJSON, "Ekiden-Scope: node")
	if compact := strings.ReplaceAll(a.body, " ", ""); !strings.Contains(compact, `"missing":[]`) || !strings.Contains(compact, `"positions":["0"]`) {
		t.Errorf("of this node alone: %s", a.body)
	}
}

// counted are statistics of which every day is worked up.
type counted struct{ statisticsService }

type statisticsService = service.Statistics

func (counted) Statistics(context.Context, service.StatisticsQuery) (service.StatisticsReport, error) {
	return service.StatisticsReport{Through: 1 << 20}, nil
}

func (counted) NoteDownload(context.Context, service.Download) error { return nil }

// TestErrorAddressesSayWhoIsMissing: the file says it in its head, as it has no place for it.
func TestErrorAddressesSayWhoIsMissing(t *testing.T) {
	f := mustFront(t, func(c *Config) {
		c.Services.Log, c.Services.Statistics = fewer{c.Services.Numbers.(*fakeNode)}, counted{}
	})
	a := f.call("GET", "/v1/error-addresses?format=tsv", "", bearer)
	if a.status != 200 || !slices.Equal(a.header.Values("Ekiden-Missing"), []string{"n3"}) {
		t.Errorf("%d %v", a.status, a.header)
	}
}

// slow is a log that takes ten seconds from one event to the next.
type slow struct{ *fakeNode }

func (l slow) Search(ctx context.Context, q service.EventQuery, yield func(mail.Event, string) bool) error {
	return l.fakeNode.Search(ctx, q, func(e mail.Event, position string) bool {
		time.Sleep(10 * time.Second) // of a bubble's time
		if q.Group == "none" {
			return q.Reached(position)
		}
		return yield(e, position) && ctx.Err() == nil
	})
}

// TestSearchEndsInTime: a page of a long search ends before the connection does, with the place to go on from, whether events
// matched or not.
func TestSearchEndsInTime(t *testing.T) {
	for path, events := range map[string]int{"/v1/events": 4, "/v1/events?group=none": 0} {
		synctest.Test(t, func(t *testing.T) {
			node := &fakeNode{events: someEvents(9)}
			s, err := New(Config{Address: "127.0.0.1:0", Token: testToken, Clock: &clock.Clock{}, Log: slog.New(slog.DiscardHandler),
				Services: Services{Node: node, Log: slow{node}}})
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			s.events(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
			var out struct {
				Events []any
				Next   string `json:"next_cursor"`
				More   bool
			}
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 || len(out.Events) != events || !out.More || out.Next == "" {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		})
	}
}

// TestErrorAddressesEndInTime: so does a list of addresses; all pieces together have every address.
func TestErrorAddressesEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := &clock.Clock{}
		node := &fakeNode{events: someEvents(9)}
		for i := range node.events {
			e := &node.events[i]
			if e.At = now.Now(); i%4 == 3 { // the others are no errors
				e.Kind, e.Status, e.To = mail.EventFailed, mail.StatusUserUnknown, mail.Address(fmt.Sprintf("gone%d@example.jp", i))
			}
		}
		s, err := New(Config{Address: "127.0.0.1:0", Token: testToken, Clock: now, Log: slog.New(slog.DiscardHandler),
			Services: Services{Node: node, Log: slow{node}, Statistics: counted{}}})
		if err != nil {
			t.Fatal(err)
		}
		var pieces []string
		for cursor, more := "", true; more; {
			w, start := httptest.NewRecorder(), clock.Wall()
			s.errorAddresses(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v1/error-addresses?date=2000-01-01&cursor="+cursor, nil))
			var out struct {
				Addresses []errorAddressJSON `json:"error_addresses"`
				Next      string             `json:"next_cursor"`
				More      bool
			}
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 || clock.Since(start) > 45*time.Second {
				t.Fatalf("%d %s after %v", w.Code, w.Body, clock.Since(start))
			}
			for _, a := range out.Addresses {
				pieces = append(pieces, a.Address)
			}
			pieces = append(pieces, "|")
			cursor, more = out.Next, out.More
		}
		if got := strings.Join(pieces, " "); got != "gone3@example.jp | gone7@example.jp | |" {
			t.Error(got)
		}
	})
}
