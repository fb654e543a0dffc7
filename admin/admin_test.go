package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

const testToken = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"

// fakeNode answers as a node would, from plain fields.
type fakeNode struct {
	status      service.Status
	code        string
	tooSoon     bool
	events      []mail.Event
	waiting     []service.Waiting
	suspensions []service.Suspension
	jobs        []string
	stop        service.GroupStop // in force
}

func (f *fakeNode) Status() service.Status { return f.status }

func (f *fakeNode) Conservation() service.Conservation {
	return service.Conservation{Gap: 3, Overdue: 1, Oldest: []service.Overdue{{Domain: "a.example"}}}
}

func (f *fakeNode) Unseal(_ context.Context, code string) error {
	switch {
	case f.tooSoon:
		return service.ErrTooSoon
	case code != f.code:
		return fmt.Errorf("unseal: %w", service.ErrWrongCode)
	}
	f.status = service.Status{Name: "n1", State: service.StateUnsealed}
	return nil
}

func (f *fakeNode) Drain(context.Context) error { return service.ErrNotYet }

func (f *fakeNode) Counters(_ context.Context, q service.CounterQuery) ([]service.CounterBucket, error) {
	n := map[string]int{service.UnitTotal: 1, service.UnitHour: 6, service.UnitFive: 12}[q.Unit]
	out := make([]service.CounterBucket, n)
	for i := range out {
		if q.Unit != service.UnitTotal {
			out[i].Start = time.Unix(int64(3600*i), 0)
		}
		for j := range out[i].Counters {
			out[i].Counters[j] = int64(j + 1)
		}
		if q.Group == "empty" || q.Domain == "empty.example" {
			out[i].Counters = service.Counters{}
		}
	}
	return out, nil
}

func (f *fakeNode) Queues(context.Context, string) ([]service.Queue, error) {
	return []service.Queue{{Name: "docomo", Waiting: 298, Slowed: 3, Urgent: 2, Warming: 1}, {Name: "ezweb"}}, nil
}

func (f *fakeNode) Receivers(context.Context) ([]service.Receiver, error) {
	return []service.Receiver{{Receiver: "docomo", Source: netip.MustParseAddr("127.0.0.2"), State: "blocked", Detail: "421 \x1b[2J"}}, nil
}

func (f *fakeNode) Search(_ context.Context, q service.EventQuery, yield func(mail.Event, string) bool) error {
	after := -1
	if q.After != "" {
		n, err := strconv.Atoi(q.After)
		if err != nil {
			return fmt.Errorf("%w: cursor", service.ErrInvalid)
		}
		after = n
	}
	for i, e := range f.events {
		match := (q.To == "" || q.To.Fold() == e.To.Fold()) && (len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) &&
			(q.Since.IsZero() || !e.At.Before(q.Since))
		if i > after && match && !yield(e, strconv.Itoa(i)) {
			return nil
		}
	}
	return nil
}

func (f *fakeNode) Trace(_ context.Context, q service.TraceQuery) (service.Trace, error) {
	if len(f.events) == 0 {
		return service.Trace{}, service.ErrNotFound
	}
	return service.Trace{Events: f.events, Waiting: f.waiting}, nil
}

func (f *fakeNode) Groups(context.Context) ([]service.Group, error) {
	return []service.Group{{Name: "g1", Tenant: "default", State: "open"}}, nil
}

// Stop, Resume and Discard know one group at a time, on two nodes of which n2 is not there.
func (f *fakeNode) Stop(_ context.Context, s service.GroupStop) (service.GroupStanding, error) {
	f.stop = s
	return service.GroupStanding{State: service.GroupStopping, Held: 7, InFlight: 2, LastSent: time.Unix(1e9, 5e8),
		Nodes: []service.GroupNode{{Name: "n1", Confirmed: true}, {Name: "n2", MissingFor: 2500 * time.Millisecond}}}, nil
}

func (f *fakeNode) Resume(_ context.Context, tenant, group, _ string) error {
	if f.stop.Group != group || f.stop.Tenant != tenant {
		return service.ErrNotFound
	}
	f.stop = service.GroupStop{}
	return nil
}

func (f *fakeNode) Discard(_ context.Context, tenant, group, _ string) (int, error) {
	if group == "spread" {
		return 7, &service.Partial{Missing: []service.Absent{{Name: "n2", For: 2500 * time.Millisecond, Reason: "no answer"}}}
	}
	if f.stop.Group != group || f.stop.Tenant != tenant {
		return 0, fmt.Errorf("%w: the group is not stopped", service.ErrRefused)
	}
	return 7, nil
}

func (f *fakeNode) Suspend(_ context.Context, s service.Suspension) error {
	f.suspensions = append(f.suspensions, s)
	return nil
}

func (f *fakeNode) Unsuspend(_ context.Context, s service.Subject, _ string) error {
	for i, have := range f.suspensions {
		if have.Subject == s {
			f.suspensions = append(f.suspensions[:i], f.suspensions[i+1:]...)
			return nil
		}
	}
	return service.ErrNotFound
}

func (f *fakeNode) Suspensions(context.Context) ([]service.Suspension, error) {
	return f.suspensions, nil
}

func (f *fakeNode) Settings(context.Context) ([]byte, uint64, error) {
	return []byte("tenants: []\n"), 7, nil
}

func (f *fakeNode) Apply(context.Context, service.Application) (service.Applied, error) {
	return service.Applied{}, service.ErrNotYet
}

func (f *fakeNode) RunJob(_ context.Context, name string) error {
	if name != "retention" {
		return fmt.Errorf("job %q: %w", name, service.ErrNotFound)
	}
	f.jobs = append(f.jobs, name)
	return nil
}

// front is a served Server over a fakeNode.
type front struct {
	t     *testing.T
	node  *fakeNode
	clock *clock.Clock
	log   *strings.Builder
	url   string
}

func mustFront(t *testing.T, change func(*Config)) *front {
	t.Helper()
	f := &front{t: t, node: &fakeNode{code: "right", status: service.Status{Name: "n1", Version: "v9", State: service.StateUnsealed}},
		clock: &clock.Clock{}, log: &strings.Builder{}}
	c := Config{Address: "127.0.0.1:0", Token: testToken, Clock: f.clock, Testing: true,
		Log:     slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ekiden_sealed 0") }),
		Services: Services{Node: f.node, Numbers: f.node, Log: f.node, Groups: f.node, Gates: f.node, Settings: f.node,
			Jobs: f.node}}
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(s.Handler())
	srv.Config.Protocols = s.http.Protocols
	srv.Start()
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

type answer struct {
	status int
	header http.Header
	body   string
}

// call sends one request; header lines are "Name: value".
func (f *front) call(method, path, body string, header ...string) answer {
	f.t.Helper()
	req, err := http.NewRequest(method, f.url+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(raw)}
}

const (
	bearer = "Authorization: Bearer " + testToken
	asJSON = "Content-Type: application/json"
	calls  = "/ekiden.admin.v1.AdminService/"
)

func TestOnlyTheOperatorPasses(t *testing.T) {
	tests := []struct {
		name, method, path, body string
		without, with            int
	}{
		{"health", "GET", "/healthz", "", 200, 200},
		{"ready", "GET", "/readyz", "", 200, 200},
		{"page", "GET", "/", "", 200, 200},
		{"metrics on loopback", "GET", "/metrics", "", 200, 200},
		{"counters", "GET", "/v1/counters", "", 401, 200},
		{"queues", "GET", "/v1/queues", "", 401, 200},
		{"events", "GET", "/v1/events", "", 401, 200},
		{"unknown call", "GET", "/v1/nothing", "", 401, 404},
		{"status", "POST", calls + "GetStatus", "{}", 401, 200},
		{"unseal", "POST", calls + "Unseal", `{"code":"wrong"}`, 401, 403},
		{"stop by RPC", "POST", calls + "StopGroup", `{"group":"g1"}`, 401, 200},
		{"stop", "POST", "/v1/groups/g1/stop", "", 401, 200},
		{"discard what is not stopped", "POST", "/v1/groups/g1/discard", "{}", 401, 409},
		{"resume what is not stopped", "POST", "/v1/groups/g1/resume", "{}", 401, 404},
		{"unbuilt", "POST", calls + "Drain", `{}`, 401, 501},
		{"unknown procedure", "POST", calls + "Nothing", `{}`, 401, 404},
		{"elsewhere", "GET", "/admin.token", "", 404, 404},
		{"traversal", "GET", "/v1/../../admin.token", "", 404, 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := mustFront(t, nil)
			if a := f.call(tt.method, tt.path, tt.body, asJSON); a.status != tt.without {
				t.Errorf("without token: got %d %s, want %d", a.status, a.body, tt.without)
			}
			for _, wrong := range []string{"Bearer wrong", "Bearer", "Basic " + testToken, "Bearer " + testToken + "x", testToken} {
				if a := f.call(tt.method, tt.path, tt.body, asJSON, "Authorization: "+wrong); a.status != tt.without {
					t.Errorf("with %q: got %d, want %d", wrong, a.status, tt.without)
				}
			}
			if a := f.call(tt.method, tt.path, tt.body, asJSON, bearer); a.status != tt.with {
				t.Errorf("with token: got %d %s, want %d", a.status, a.body, tt.with)
			}
			if strings.Contains(f.log.String(), testToken) {
				t.Error("the token stands in the log")
			}
		})
	}
}

func TestMetricsNeedTheTokenOffLoopback(t *testing.T) {
	f := mustFront(t, func(c *Config) { c.Address = "0.0.0.0:0" })
	if a := f.call("GET", "/metrics", ""); a.status != 401 {
		t.Errorf("got %d, want 401", a.status)
	}
	if a := f.call("GET", "/metrics", "", bearer); a.status != 200 || !strings.Contains(a.body, "ekiden_sealed") {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := f.call("GET", "/", ""); strings.Contains(a.body, "n1") || strings.Contains(a.body, "v9") {
		t.Errorf("the page tells strangers who it is: %s", a.body)
	}
}

func TestGuessersAreSlowedAndTheOperatorIsNot(t *testing.T) {
	f := mustFront(t, nil)
	for i := range guessBurst {
		if a := f.call("GET", "/v1/queues", "", "Authorization: Bearer guess"); a.status != 401 {
			t.Fatalf("guess %d: got %d, want 401", i, a.status)
		}
	}
	a := f.call("GET", "/v1/queues", "", "Authorization: Bearer guess")
	if a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("got %d, want 429 with Retry-After", a.status)
	}
	if a := f.call("POST", calls+"GetStatus", "{}", asJSON, "Authorization: Bearer guess"); a.status != 429 || !strings.Contains(a.body, "resource_exhausted") {
		t.Errorf("rpc: got %d %s", a.status, a.body)
	}
	if a := f.call("GET", "/v1/queues", "", bearer); a.status != 200 {
		t.Errorf("the operator was locked out: %d", a.status)
	}
}

func TestGuessersAreForgottenInTime(t *testing.T) {
	g := newGuard(testToken, slog.New(slog.DiscardHandler))
	now := time.Unix(1e9, 0)
	peer := netip.MustParseAddr("192.0.2.1")
	for range guessBurst {
		g.guess(peer, now)
	}
	if g.guess(peer, now) {
		t.Error("the burst is not bounded")
	}
	if !g.guess(peer, now.Add(guessPeriod)) {
		t.Error("nothing is given back after a period")
	}
	for i := range 3 * maxGuessers {
		g.guess(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(g.guessers) > maxGuessers {
		t.Errorf("%d peers remembered, at most %d wanted", len(g.guessers), maxGuessers)
	}
}

func TestReadyzTellsEveryReason(t *testing.T) {
	f := mustFront(t, nil)
	if a := f.call("GET", "/readyz", ""); a.status != 200 || !strings.Contains(a.body, `"ready":true`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
	for _, code := range []string{"sealed", "draining", "disk", "store"} {
		f.node.status = service.Status{State: service.StateSealed, Reasons: []service.Reason{{Code: code, Detail: "because <b>"}, {Code: "other"}}}
		a := f.call("GET", "/readyz", "")
		var got struct {
			Ready   bool
			Reasons []struct{ Code, Detail string }
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatal(err)
		}
		if a.status != 503 || got.Ready || len(got.Reasons) != 2 || got.Reasons[0].Code != code || got.Reasons[0].Detail != "because <b>" {
			t.Errorf("%s: got %d %s", code, a.status, a.body)
		}
		if strings.Contains(a.body, "<b>") {
			t.Errorf("markup is not escaped: %s", a.body)
		}
		if a := f.call("GET", "/healthz", ""); a.status != 200 {
			t.Errorf("healthz while %s: %d", code, a.status)
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	f := mustFront(t, nil)
	big := `{"advance":"` + strings.Repeat("1", maxBody) + `s"}`
	if a := f.call("POST", "/testing/clock", big); a.status != 413 {
		t.Errorf("clock: got %d %s, want 413", a.status, a.body)
	}
	huge := `{"code":"` + strings.Repeat("1", maxRPCBody) + `"}`
	if a := f.call("POST", calls+"Unseal", huge, asJSON, bearer); a.status != 429 && a.status != 413 {
		t.Errorf("rpc: got %d %s, want a refusal of its size", a.status, a.body)
	}
	if a := f.call("POST", calls+"Unseal", `{"code":"`+strings.Repeat("1", 1000)+`"}`, asJSON, bearer); a.status != 400 {
		t.Errorf("long code: got %d %s, want 400", a.status, a.body)
	}
}

func TestBrowsersOfOtherSitesAreRefused(t *testing.T) {
	f := mustFront(t, nil)
	for _, header := range [][]string{{"Origin: https://evil.example"}, {"Sec-Fetch-Site: cross-site"}, {"Host: evil.example"}} {
		if a := f.call("POST", "/testing/clock", `{"advance":"1h"}`, header...); a.status != 403 {
			t.Errorf("%v: got %d, want 403", header, a.status)
		}
	}
	a := f.call("GET", "/", "")
	for name, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"} {
		if !strings.Contains(a.header.Get(name), want) {
			t.Errorf("%s: got %q, want %q", name, a.header.Get(name), want)
		}
	}
}

func TestClockIsSteered(t *testing.T) {
	f := mustFront(t, nil)
	now := func() int64 {
		var out struct{ Now int64 }
		if err := json.Unmarshal([]byte(f.call("GET", "/testing/clock", "").body), &out); err != nil {
			t.Fatal(err)
		}
		return out.Now
	}
	if a := f.call("POST", "/testing/clock", `{"set":2000000000}`); a.status != 200 {
		t.Fatalf("set: %d %s", a.status, a.body)
	}
	if n := now(); n < 2000000000 || n > 2000000060 {
		t.Errorf("after set the clock shows %d", n)
	}
	if a := f.call("POST", "/testing/clock", `{"advance":"90m"}`); a.status != 200 {
		t.Fatalf("advance: %d %s", a.status, a.body)
	}
	if n := now(); n < 2000005400 || n > 2000005460 {
		t.Errorf("after advance the clock shows %d", n)
	}
	for _, bad := range []string{``, `{}`, `[]`, `{"set":1,"advance":"1s"}`, `{"advance":"soon"}`, `{"set":-1}`, `{"set":1}{"set":2}`, `{"sat":1}`} {
		if a := f.call("POST", "/testing/clock", bad); a.status != 400 || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%q: got %d %s, want a problem 400", bad, a.status, a.body)
		}
	}
	off := mustFront(t, func(c *Config) { c.Testing = false })
	if a := off.call("POST", "/testing/clock", `{"set":1}`, bearer); a.status != 404 {
		t.Errorf("testing off: got %d, want 404", a.status)
	}
}

func TestJobsRunNow(t *testing.T) {
	f := mustFront(t, nil)
	if a := f.call("POST", "/testing/jobs/retention", ""); a.status != 200 || len(f.node.jobs) != 1 {
		t.Errorf("got %d %s, ran %v", a.status, a.body, f.node.jobs)
	}
	if a := f.call("POST", "/testing/jobs/dance", ""); a.status != 404 {
		t.Errorf("unknown job: got %d", a.status)
	}
}

func TestCountersHaveTheFormOfTheContract(t *testing.T) {
	f := mustFront(t, nil)
	a := f.call("GET", "/v1/counters?unit=total", "", bearer)
	want := `{"buckets":[{"start":0,"undelivered":1,"retry":2,"in_delivery":3,"succeeded":4,"failed":5,"temporary":6,` +
		`"dns_temporary":7,"connect_failed":8,"connect_error":9,"dns_failed":10,"expired":11,"interrupted":12}]}`
	if strings.TrimSpace(a.body) != want {
		t.Errorf("got  %s\nwant %s", a.body, want)
	}
	for unit, n := range map[string]int{"": 1, "hour": 6, "5min": 12} {
		var out struct{ Buckets []map[string]int64 }
		if err := json.Unmarshal([]byte(f.call("GET", "/v1/counters?unit="+unit, "", bearer).body), &out); err != nil || len(out.Buckets) != n {
			t.Errorf("%q: got %d buckets, want %d (%v)", unit, len(out.Buckets), n, err)
		}
	}
	if a := f.call("GET", "/v1/counters?domain=EMPTY.example", "", bearer); !strings.Contains(a.body, `"undelivered":0`) {
		t.Errorf("the domain does not narrow: %s", a.body)
	}
	for _, bad := range []string{"unit=day", "domain=a..b"} {
		if a := f.call("GET", "/v1/counters?"+bad, "", bearer); a.status != 400 || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %d %s", bad, a.status, a.header)
		}
	}
	if a := f.call("GET", "/v1/queues", "", bearer); strings.TrimSpace(a.body) != `{"queues":[{"name":"docomo","waiting":298,"slowed":3,"urgent":2,"warming":1},{"name":"ezweb","waiting":0}]}` {
		t.Errorf("queues: %s", a.body)
	}
}

func someEvents(n int) []mail.Event {
	events := make([]mail.Event, n)
	for i := range events {
		events[i] = mail.Event{At: time.UnixMilli(int64(1e12 + i)), Kind: mail.EventDeferred, Message: mail.MessageID{Lineage: 1, Seq: mail.Seq(i + 1)},
			To: "user@example.jp", From: "a@b.example", Stage: mail.StageRcpt, Status: mail.StatusOverCapacity,
			Reply:  smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 2, Detail: 2}, Text: "full\r\n<script>\x1b[2J\xff"},
			Source: netip.MustParseAddr("127.0.0.2"), Remote: netip.MustParseAddrPort("127.0.0.9:25")}
	}
	return events
}

func TestEventsArePagedByCursor(t *testing.T) {
	f := mustFront(t, nil)
	f.node.events = someEvents(7)
	f.node.events[3].Kind = mail.EventDelivered
	type page struct {
		Events []struct {
			At, Status, Message, To, Stage, Reply string
			Code                                  int
		}
		NextCursor string `json:"next_cursor"`
		More       bool
	}
	get := func(query string) page {
		t.Helper()
		a := f.call("GET", "/v1/events?"+query, "", bearer)
		if a.status != 200 {
			t.Fatalf("%s: %d %s", query, a.status, a.body)
		}
		if strings.Contains(a.body, "<script>") || strings.Contains(a.body, "\x1b") {
			t.Errorf("foreign text is not escaped: %s", a.body)
		}
		var p page
		if err := json.Unmarshal([]byte(a.body), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	cursor, seen := "", map[string]bool{}
	for _, want := range []int{3, 3, 1, 0} {
		p := get("limit=3&cursor=" + cursor)
		if len(p.Events) != want || p.More != (want == 3) {
			t.Fatalf("got %d events, more=%v; want %d", len(p.Events), p.More, want)
		}
		for _, e := range p.Events {
			seen[e.Message] = true
		}
		cursor = p.NextCursor
	}
	if len(seen) != 7 {
		t.Errorf("saw %d messages of 7", len(seen))
	}
	if p := get("status=succeeded"); len(p.Events) != 1 || p.Events[0].Status != "succeeded" {
		t.Errorf("status: got %+v", p.Events)
	}
	if all, none := get("status=succeeded,deferred&limit=9"), get("status=failed,discarded"); len(all.Events) != 7 || len(none.Events) != 0 {
		t.Errorf("statuses: got %+v and %+v", all.Events, none.Events)
	}
	if p := get("to=USER@example.jp&limit=1"); len(p.Events) != 1 || p.Events[0].Code != 452 || p.Events[0].Stage != "rcpt" ||
		p.Events[0].Reply != "full\r\n<script>\x1b[2J\uFFFD" {
		t.Errorf("to: got %+v", p.Events)
	}
	if p := get("since=" + time.UnixMilli(1e12+6000).UTC().Format(time.RFC3339)); len(p.Events) != 0 {
		t.Errorf("since: got %d events", len(p.Events))
	}
	for _, bad := range []string{"limit=0", "limit=1001", "limit=x", "mail=perhaps", "status=lost", "status=failed,lost", "status=failed,", "since=yesterday", "message=1", "domain=a..b",
		"source=here", "class=13", "class=x",
		"cursor=" + strings.Repeat("1", maxCursor+1), "to=" + strings.Repeat("a", 1001)} {
		if a := f.call("GET", "/v1/events?"+bad, "", bearer); a.status != 400 {
			t.Errorf("%.30s: got %d, want 400", bad, a.status)
		}
	}
}

func TestTokenIsMadeOnceAndClosedToOthers(t *testing.T) {
	dir := t.TempDir()
	first, err := Token(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, TokenFile)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", st.Mode(), err)
	}
	if len(first) != 43 {
		t.Errorf("token has %d characters, want 43 (256 bits)", len(first))
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := Token(dir)
	if err != nil || again != first {
		t.Errorf("got %q %v, want the first token", again, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("an open file stayed open: %v %v", st.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Token(dir); err == nil {
		t.Error("a short token is taken")
	}
}

func TestStartAndStop(t *testing.T) {
	s, err := New(Config{Address: "127.0.0.1:0", Token: testToken, Clock: &clock.Clock{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + s.Addr() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 {
		t.Errorf("without a node: got %d, want 503", resp.StatusCode)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if _, err := New(Config{Address: "127.0.0.1:0", Token: "short", Clock: &clock.Clock{}, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a short token is accepted")
	}
}
