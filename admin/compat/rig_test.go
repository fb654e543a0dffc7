package compat_test

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
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

	"golang.org/x/crypto/argon2"

	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/statistics"
	"github.com/ekiden-mta/ekiden/policy/suppression"
)

var update = flag.Bool("update", false, "write the golden bodies anew")

// key is what all users of the tests prove themselves by.
const key = "secret-key-1"

func hashOf(s string) string {
	salt := []byte("saltsalt")
	enc := base64.RawStdEncoding.EncodeToString
	return "argon2id:$argon2id$v=19$m=64,t=1,p=1$" + enc(salt) + "$" + enc(argon2.IDKey([]byte(s), salt, 1, 64, 1, 32))
}

// site is a node made of plain facts.
type site struct {
	users   map[string]service.User
	events  []mail.Event
	missing []service.Absent
	behind  []service.Absent // only from look-ups of single messages
	only    netip.Addr       // the only address that may call; invalid = all may
	node    service.Node     // nil = it is never asked how it is
	blocked []service.Suppression
	counted service.StatisticsQuery // what was asked for last
	stopped string                  // a group
	reset   []string
	broken  error              // how searches end, after all events
	lookups int                // of acceptances
	walks   int                // of lists
	hold    chan struct{}      // searches wait until it is closed
	slow    time.Duration      // from one event to the next
	asked   service.EventQuery // by the last search that did not wait
	entered chan struct{}      // one for each search that waits
}

func (s *site) User(name string) (service.User, string, bool) {
	u, ok := s.users[name]
	return u, hashOf(key), ok
}

func (s *site) Compositions(tenant string) []string {
	return map[string][]string{"shop": {"main", "second"}, "other": {"main"}}[tenant]
}

func (s *site) AllowsAPI(from netip.Addr) bool { return !s.only.IsValid() || s.only == from }

func (s *site) Search(ctx context.Context, q service.EventQuery, yield func(mail.Event, string) bool) error {
	if s.hold != nil {
		s.entered <- struct{}{}
		<-s.hold
	}
	if !q.Message.IsZero() {
		s.lookups++
	}
	after := -1
	if q.After != "" {
		n, err := strconv.Atoi(q.After)
		if err != nil {
			return service.ErrInvalid
		}
		after = n
	}
	if s.hold == nil && q.Message.IsZero() {
		s.asked = q
	}
	for i, e := range s.events {
		if i <= after {
			continue
		}
		time.Sleep(s.slow) // of a bubble's time
		switch {
		case q.User != "" && e.User != q.User, q.Source.IsValid() && e.Source != q.Source, q.Group != "" && e.Group != q.Group,
			q.Tenant != "" && e.Tenant != q.Tenant, !q.Message.IsZero() && e.Message != q.Message,
			!q.Since.IsZero() && e.At.Before(q.Since), !q.Until.IsZero() && !e.At.Before(q.Until),
			len(q.Kinds) > 0 && !slices.Contains(q.Kinds, e.Kind), !strings.Contains(e.To.Fold(), q.To.Fold()):
			if q.Reached != nil && !q.Reached(strconv.Itoa(i)) {
				return nil
			}
			continue
		}
		if !yield(e, strconv.Itoa(i)) {
			return nil
		}
	}
	if s.broken != nil {
		return s.broken
	}
	if q.One && s.behind != nil {
		return &service.Partial{Missing: s.behind}
	}
	if s.missing != nil {
		return &service.Partial{Missing: s.missing}
	}
	return ctx.Err()
}

func (s *site) Trace(context.Context, service.TraceQuery) (service.Trace, error) {
	return service.Trace{}, service.ErrNotFound
}

func (s *site) List(_ context.Context, q service.SuppressionQuery, yield func(service.Suppression, string) bool) error {
	s.walks++
	for i, b := range s.blocked {
		if (q.Tenant == "" || b.Tenant == q.Tenant) && b.List == q.List && q.Within(b.Since) && strings.Contains(b.Address.Fold(), strings.ToLower(q.Part)) && !yield(b, strconv.Itoa(i)) {
			return nil
		}
	}
	return nil
}

func (s *site) Remove(_ context.Context, at service.Place, list []mail.Address, author string) (int, error) {
	before := len(s.blocked)
	s.blocked = slices.DeleteFunc(s.blocked, func(b service.Suppression) bool {
		if at.List == service.Unsubscribe && b.List == service.Leaving {
			b.List = at.List
		}
		return b.Place == at && slices.ContainsFunc(list, func(a mail.Address) bool { return a.Fold() == b.Address.Fold() })
	})
	return before - len(s.blocked), nil
}

func (s *site) Add(context.Context, []service.Suppression) (int, error) { return 0, service.ErrNotYet }

func (s *site) Import(context.Context, []service.Suppression) (int, error) {
	return 0, service.ErrNotYet
}

func (s *site) Reset(_ context.Context, tenant string, list []mail.Address, author string) (n int, err error) {
	for _, b := range s.blocked {
		if b.List == service.Errors && b.Tenant == tenant && b.Address == list[0] {
			s.reset = append(s.reset, author+" resets "+tenant+" "+string(list[0]))
			n++
		}
	}
	return n, nil
}

func (s *site) ErrorThreshold(tenant string) int { return map[string]int{"shop": 3}[tenant] }

func (s *site) Counters(_ context.Context, q service.CounterQuery) ([]service.CounterBucket, error) {
	n := map[string]int{service.UnitTotal: 1, service.UnitHour: 6, service.UnitFive: 12}[q.Unit]
	out := make([]service.CounterBucket, n)
	for i := range out {
		for j := range out[i].Counters {
			out[i].Counters[j] = int64(len(q.Tenant)*100 + j + 1)
		}
		if q.Unit != service.UnitTotal {
			out[i].Start = time.Unix(int64(3600*(i+1)), 0)
		}
	}
	return out, nil
}

func (s *site) Queues(context.Context, string) ([]service.Queue, error) {
	return nil, service.ErrNotYet
}

func (s *site) Receivers(context.Context) ([]service.Receiver, error) { return nil, service.ErrNotYet }

func (s *site) Groups(context.Context) ([]service.Group, error) {
	g := service.Group{Name: "g 1", Tenant: "shop", State: service.GroupOpen}
	if g.Counters[service.Undelivered], g.Counters[service.Retry] = 7, 2; s.stopped == g.Name {
		g.State = service.GroupStopped
	}
	if s.stopped == "empty" {
		return []service.Group{{Name: "empty", Tenant: "shop", State: service.GroupStopped}}, nil
	}
	return []service.Group{g, {Name: "g 1", Tenant: "other", State: service.GroupOpen}}, nil
}

func (s *site) Stop(_ context.Context, stop service.GroupStop) (service.GroupStanding, error) {
	s.stopped = stop.Group
	return service.GroupStanding{State: service.GroupStopping, Held: 7, InFlight: 2}, nil
}

func (s *site) Resume(_ context.Context, _, group, _ string) error {
	if s.stopped != group {
		return service.ErrNotFound
	}
	s.stopped = ""
	return nil
}

func (s *site) Discard(_ context.Context, _, group, _ string) (int, error) {
	if s.stopped != group {
		return 0, service.ErrRefused
	}
	return 9, nil
}

// Statistics are the two days of requirement R81.
func (s *site) Statistics(_ context.Context, q service.StatisticsQuery) (service.StatisticsReport, error) {
	s.counted = q
	date, err := statistics.ParseDate("2026/03/09")
	if err != nil || q.First > date || q.Last < date+1 {
		return service.StatisticsReport{}, err
	}
	row := statistics.Row{Tenant: q.Tenant, Composition: "main"}
	return service.StatisticsReport{Through: date + 1, Rows: []statistics.Counted{
		{Date: date, Row: row, Result: statistics.Result{Queued: 7833, Succeeded: 7800, Failed: 33}},
		{Date: date + 1, Row: row, Result: statistics.Result{Queued: 649, Succeeded: 605, Failed: 40, Blocked: 4}},
	}}, nil
}

func (s *site) Rebuild(context.Context, bool) ([]service.Rebuilt, error) {
	return nil, service.ErrNotYet
}

func (s *site) Downloads(context.Context, string) ([]service.Download, error) {
	return nil, service.ErrNotYet
}

func (s *site) NoteDownload(context.Context, service.Download) error { return service.ErrNotYet }

// noon is when the tests' day is half over, in Tokyo.
func noon(t *testing.T) time.Time {
	t.Helper()
	return time.Date(2026, 3, 10, 12, 0, 0, 0, tokyo(t))
}

func tokyo(t *testing.T) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// newSite is a tenant's two days: two messages of one user, one of another, and somebody else's.
func newSite(t *testing.T) *site {
	t.Helper()
	zone, day := tokyo(t), noon(t)
	admin := service.User{Name: "ann@shop.example", Tenant: "shop", Composition: "main", HTTP: true, Administrator: true, ViewAddresses: true, Zone: zone}
	own, reader, blind, smtpOnly, utc := admin, admin, admin, admin, admin
	own.Name, own.OwnData, own.Administrator = "own@shop.example", true, false
	reader.Name, reader.Administrator = "reader@shop.example", false
	blind.Name, blind.ViewAddresses = "blind@shop.example", false
	smtpOnly.Name, smtpOnly.HTTP = "smtp@shop.example", false
	utc.Name, utc.Zone = "utc@shop.example", time.UTC
	s := &site{users: map[string]service.User{}}
	for _, u := range []service.User{admin, own, reader, blind, smtpOnly, utc} {
		s.users[u.Name] = u
	}
	add := func(at time.Time, n int, e mail.Event) {
		e.At, e.Message = at, mail.MessageID{Lineage: 1, Seq: mail.Seq(n)}
		if e.Tenant == "" {
			e.Tenant = "shop"
		}
		if e.Composition == "" {
			e.Composition = "main"
		}
		e.From, e.Domain = "return@shop.example", e.To.Domain()
		s.events = append(s.events, e)
	}
	head := func(n int, to mail.Address, user, data string) mail.Event {
		return mail.Event{Kind: mail.EventAccepted, To: to, User: user, APIData: data, HeaderFrom: "news@shop.example",
			HeaderID: "<" + strconv.Itoa(n) + "@shop.example>", Subject: "Offer <" + strconv.Itoa(n) + "> & more", Client: netip.MustParseAddr("192.0.2.1")}
	}
	outcome := func(kind mail.EventKind, to mail.Address, user, data string, status mail.Status, code int, text string) mail.Event {
		return mail.Event{Kind: kind, To: to, User: user, APIData: data, Status: status, Stage: mail.StageRcpt,
			Reply: smtp.Reply{Code: code, Text: text}, Source: netip.MustParseAddr("198.51.100.7")}
	}
	add(day.Add(-26*time.Hour), 1, head(1, "taro@docomo.ne.jp", "", "C1"))
	add(day.Add(-26*time.Hour), 1, outcome(mail.EventDelivered, "taro@docomo.ne.jp", "", "C1", 0, 250, "ok"))
	add(day.Add(-3*time.Hour), 2, head(2, "Hanako@Example.JP", "own@shop.example", "C2"))
	add(day.Add(-3*time.Hour+time.Minute), 2, outcome(mail.EventDeferred, "Hanako@Example.JP", "own@shop.example", "C2", 0, 451, "try later"))
	add(day.Add(-2*time.Hour), 2, outcome(mail.EventFailed, "Hanako@Example.JP", "own@shop.example", "C2", mail.StatusUserUnknown, 550, "5.1.1 <b>unknown</b> ユーザー"))
	blocked := head(3, "jiro@example.jp", "ann@shop.example", "D3")
	add(day.Add(-time.Hour), 3, blocked)
	end := outcome(mail.EventSuppressed, "jiro@example.jp", "ann@shop.example", "D3", mail.StatusBlockListed, 0, "")
	end.Detail, end.Source, end.Stage = "on the block list", netip.Addr{}, mail.StageNone
	add(day.Add(-time.Hour), 3, end)
	second := head(4, "saburo@example.jp", "", "")
	second.Composition = "second"
	add(day.Add(-time.Hour), 4, second)
	foreign := head(5, "taro@docomo.ne.jp", "", "")
	foreign.Tenant = "other"
	add(day.Add(-time.Hour), 5, foreign)
	bounce := outcome(mail.EventBounced, "taro@docomo.ne.jp", "", "C1", mail.StatusOverCapacity, 552, "mailbox full")
	add(day.Add(-30*time.Minute), 1, bounce)
	block := func(list, tenant string, address mail.Address, reason string, at time.Time) {
		s.blocked = append(s.blocked, service.Suppression{Place: service.Place{List: list, Tenant: tenant}, Address: address, Reason: reason, Since: at})
	}
	block(service.BlockList, "shop", "=jiro@example.jp", "delivery stop: status 2, occurred 3", day.Add(-12*time.Hour))
	block(service.BlockList, "shop", "hanako@example.jp", "asked by phone", day.Add(-36*time.Hour))
	block(service.BlockList, "other", "taro@docomo.ne.jp", "", day)
	block(service.Unsubscribe, "shop", "taro@docomo.ne.jp", "", day)
	block(service.Errors, "shop", "hanako@example.jp", "2=2,5=1", day.Add(-48*time.Hour))
	s.blocked[len(s.blocked)-1].Evidence = suppression.Evidence(&mail.Event{At: day.Add(-2 * time.Hour), Status: mail.StatusUserUnknown})
	block(service.Errors, "shop", "jiro@example.jp", "3=1", day.Add(-48*time.Hour))
	block(service.Errors, "other", "hanako@example.jp", "2=4", day.Add(-48*time.Hour))
	add(day.Add(-10*time.Minute), 0, mail.Event{Kind: mail.EventReleased, To: "shiro@example.jp", Status: mail.StatusOverCapacity, Attempt: 2, Due: day.Add(-30 * time.Hour)})
	return s
}

// serve puts the site on a socket of this machine, with the clock at noon.
func (s *site) serve(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(s.front(t))
	t.Cleanup(srv.Close)
	return srv.URL
}

func (s *site) front(t *testing.T) http.Handler {
	t.Helper()
	c := &clock.Clock{}
	c.Set(noon(t))
	return compat.New(compat.Config{Services: service.Services{Node: s.node, Users: s, Log: s, Suppressions: s, Statistics: s,
		Numbers: s, Groups: s}, Operator: operator, Clock: c, Log: slog.New(slog.DiscardHandler)}).Handler()
}

const token = "the-token-of-the-operator-0123456789abcdef"

// operator knows the admin token.
func operator(r *http.Request) (int, error) {
	if r.Header.Get("Authorization") != "Bearer "+token {
		return http.StatusUnauthorized, errors.New("no token")
	}
	return http.StatusOK, nil
}

// get calls as a user, or as the operator where it is "".
func get(t *testing.T, url, user string, head ...string) (int, string, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if req.SetBasicAuth(user, key); user == "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	return do(t, req)
}

// post sends a body and returns status, type and body of the answer.
func post(t *testing.T, url, kind, body string, head ...string) (int, string, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	for i := 0; i+1 < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	return do(t, req)
}

func do(t *testing.T, req *http.Request) (int, string, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(raw)
}

// golden compares a body with the one that was written down.
func golden(t *testing.T, name, body string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if body != string(want) {
		t.Errorf("%s:\n%s\nwant\n%s", name, body, want)
	}
}
