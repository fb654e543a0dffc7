package gather

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ekiden-mta/ekiden/admin"
	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// fakeMember answers for one node, from plain fields.
type fakeMember struct {
	name        string
	source      string // the address it has
	events      []mail.Event
	suspensions []service.Suspension
	drained     int
	searches    int
	creeps      bool // a search comes no further than one event until it is ended
	roster      service.Roster
}

func (f *fakeMember) Counters(_ context.Context, q service.CounterQuery) ([]service.CounterBucket, error) {
	if q.Unit == service.UnitTotal {
		return []service.CounterBucket{{Counters: service.Counters{service.Succeeded: 10, service.Interrupted: 1}}}, nil
	}
	first := int64(3600)
	if f.name == "n2" { // its clock is ahead: it has begun another bucket
		first = 7200
	}
	var out []service.CounterBucket
	for i := range int64(6) {
		out = append(out, service.CounterBucket{Start: time.Unix(first+3600*i, 0), Counters: service.Counters{service.Failed: i}})
	}
	return out, nil
}

func (f *fakeMember) Queues(context.Context, string) ([]service.Queue, error) {
	return []service.Queue{{Name: "docomo", Waiting: 7, Slowed: 3, Urgent: 2, Warming: 1}, {Name: "pc"}}, nil
}

func (f *fakeMember) Receivers(context.Context) ([]service.Receiver, error) {
	return []service.Receiver{{Receiver: "docomo", Source: netip.MustParseAddr(f.source), State: "open"}}, nil
}

func (f *fakeMember) Search(_ context.Context, q service.EventQuery, yield func(mail.Event, string) bool) error {
	f.searches++
	after := -1
	if q.After != "" {
		n, err := strconv.Atoi(q.After)
		if err != nil {
			return fmt.Errorf("%w: position", service.ErrInvalid)
		}
		after = n
	}
	for i, e := range f.events {
		if i > after && (q.To == "" || q.To.Fold() == e.To.Fold()) && (len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) &&
			(q.Message.IsZero() || q.Message == e.Message) && !yield(e, strconv.Itoa(i)) {
			return nil
		}
		if i > after && f.creeps {
			for q.Reached(strconv.Itoa(i)) {
				runtime.Gosched()
			}
			return nil
		}
	}
	return nil
}

func (f *fakeMember) Trace(_ context.Context, q service.TraceQuery) (service.Trace, error) {
	var t service.Trace
	for _, e := range f.events {
		if e.To.Fold() == q.Address.Fold() {
			t.Events = append(t.Events, e)
		}
	}
	if len(t.Events) == 0 {
		return t, service.ErrNotFound
	}
	t.Waiting = []service.Waiting{{Delivery: mail.Delivery{Seq: 7, To: q.Address}, Binding: "slot", Detail: f.name}}
	return t, nil
}

// fakeGroups are the groups that f knows.
type fakeGroups struct {
	localGroups
	f *fakeMember
}

func (g fakeGroups) Groups(context.Context) ([]service.Group, error) {
	return []service.Group{{Name: "g", State: "open", Counters: service.Counters{1}}, {Name: "only-" + g.f.name, State: "open"}}, nil
}

func (f *fakeMember) Suspend(_ context.Context, s service.Suspension) error {
	if s.Kind == service.SubjectSource && s.Value != f.source {
		return fmt.Errorf("%w: not a source of %s", service.ErrInvalid, f.name)
	}
	f.suspensions = append(f.suspensions, s)
	return nil
}

func (f *fakeMember) Unsuspend(_ context.Context, s service.Subject, _ string) error {
	n := len(f.suspensions)
	f.suspensions = slices.DeleteFunc(f.suspensions, func(have service.Suspension) bool { return have.Subject == s })
	if len(f.suspensions) == n {
		return service.ErrNotFound
	}
	return nil
}

func (f *fakeMember) Suspensions(context.Context) ([]service.Suspension, error) {
	return f.suspensions, nil
}

// fakeMembers is the view of the cluster that f has.
type fakeMembers struct {
	service.Members
	f *fakeMember
}

func (m fakeMembers) List(context.Context) (service.Roster, error) { return m.f.roster, nil }

func (m fakeMembers) Drain(context.Context, string) error { m.f.drained++; return nil }

type fakeNode struct {
	service.Node
	name string
}

func (n fakeNode) Conservation() service.Conservation { return service.Conservation{} }

func (n fakeNode) Status() service.Status {
	return service.Status{Name: n.name, State: service.StateUnsealed}
}

func (f *fakeMember) services() service.Services {
	return service.Services{Node: fakeNode{name: f.name}, Numbers: f, Log: f, Groups: fakeGroups{f: f}, Gates: f, Members: fakeMembers{f: f}}
}

// rig is n1, which gathers, n2, which answers over HTTP, and n3, which nobody reaches.
type rig struct {
	all service.Services
	n   map[string]*fakeMember
}

type peers map[string]adminpb.AdminServiceClient

func (p peers) List() (out []Peer) {
	for name := range p {
		out = append(out, Peer{Name: name})
	}
	return out
}

func (p peers) Client(name string) adminpb.AdminServiceClient { return p[name] }

func mustRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{n: map[string]*fakeMember{}}
	p := peers{}
	for i, name := range []string{"n1", "n2"} {
		f := &fakeMember{name: name, source: "127.0.0." + strconv.Itoa(i+2)}
		r.n[name] = f
		front, err := admin.New(admin.Config{Address: "127.0.0.1:0", Token: strings.Repeat("t", 40), Clock: &clock.Clock{},
			Log: slog.New(slog.DiscardHandler), Services: f.services()})
		if err != nil {
			t.Fatal(err)
		}
		if name != "n1" {
			srv := httptest.NewServer(front.PeerHandler())
			t.Cleanup(srv.Close)
			p[name] = NewClient(srv.Client(), srv.URL)
		}
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	p["n3"] = NewClient(http.DefaultClient, gone.URL)
	r.all = Services(Config{Name: "n1", Local: r.n["n1"].services(), Peers: p, Timeout: 30 * time.Second, Log: slog.New(slog.DiscardHandler)})
	return r
}

// mustMiss checks that err says that n3, and nobody else, did not answer.
func mustMiss(t *testing.T, err error) {
	t.Helper()
	var partial *service.Partial
	if !errors.As(err, &partial) || len(partial.Missing) != 1 || partial.Missing[0].Name != "n3" || partial.Missing[0].For >= 0 || partial.Missing[0].Reason == "" {
		t.Errorf("got %v, want a partial answer that n3 is missing from", err)
	}
}

func TestNumbersAddUp(t *testing.T) {
	r, ctx := mustRig(t), t.Context()
	total, err := r.all.Numbers.Counters(ctx, service.CounterQuery{Unit: service.UnitTotal})
	mustMiss(t, err)
	if len(total) != 1 || total[0].Counters[service.Succeeded] != 20 || total[0].Counters[service.Interrupted] != 2 {
		t.Errorf("total %v", total)
	}
	hours, err := r.all.Numbers.Counters(ctx, service.CounterQuery{Unit: service.UnitHour})
	mustMiss(t, err)
	var got []string
	for _, b := range hours {
		got = append(got, fmt.Sprintf("%d:%d", b.Start.Unix()/3600, b.Counters[service.Failed]))
	}
	if want := "2:1 3:3 4:5 5:7 6:9 7:5"; strings.Join(got, " ") != want {
		t.Errorf("hours %v, want %s", got, want)
	}
	queues, err := r.all.Numbers.Queues(ctx, "")
	mustMiss(t, err)
	if want := []service.Queue{{Name: "docomo", Waiting: 14, Slowed: 6, Urgent: 4, Warming: 2}, {Name: "pc"}}; !slices.Equal(queues, want) {
		t.Errorf("queues %v", queues)
	}
	receivers, err := r.all.Numbers.Receivers(ctx)
	mustMiss(t, err)
	if len(receivers) != 2 || receivers[0].Node != "n1" || receivers[1].Node != "n2" || receivers[1].Source.String() != "127.0.0.3" {
		t.Errorf("receivers %v", receivers)
	}
	groups, err := r.all.Groups.Groups(ctx)
	mustMiss(t, err)
	if len(groups) != 3 || groups[0].Counters[0] != 2 || groups[1].Name != "only-n1" || groups[2].Name != "only-n2" {
		t.Errorf("groups %v", groups)
	}
}

func event(second int, to string) mail.Event {
	return mail.Event{At: time.Unix(int64(second), 0), Kind: mail.EventDelivered, To: mail.Address(to), Attempt: 1, Stage: mail.StageDot,
		Message: mail.MessageID{Lineage: 1, Seq: mail.Seq(second)}}
}

func TestSearchMergesByTimeAndGoesOnWhereItStood(t *testing.T) {
	r := mustRig(t)
	const each = 1300 // more than two pages of a member
	for i := range each {
		r.n["n1"].events = append(r.n["n1"].events, event(2*i, "a@example.jp"))
		r.n["n2"].events = append(r.n["n2"].events, event(2*i+1, "b@example.jp"))
	}
	var seen []int64
	read := func(after string, limit int) (next string) {
		n := 0
		next = after
		err := r.all.Log.Search(t.Context(), service.EventQuery{After: after}, func(e mail.Event, position string) bool {
			if n == limit {
				return false
			}
			n++
			seen = append(seen, e.At.Unix())
			next = position
			return true
		})
		mustMiss(t, err)
		return next
	}
	next := ""
	for range 2*each/200 + 1 {
		next = read(next, 200)
	}
	if len(seen) != 2*each || !slices.IsSorted(seen) {
		t.Fatalf("%d events, sorted %v; want %d", len(seen), slices.IsSorted(seen), 2*each)
	}
	if again := read(next, 10); again != next || len(seen) != 2*each {
		t.Error("the end is not the end")
	}
	r.n["n2"].events = append(r.n["n2"].events, event(1, "late@example.jp"))
	if read(next, 10); len(seen) != 2*each+1 {
		t.Error("what was written later is not found from the last position on")
	}
	if err := r.all.Log.Search(t.Context(), service.EventQuery{After: "all.%"}, nil); !errors.Is(err, service.ErrInvalid) {
		t.Errorf("a broken cursor: %v", err)
	}
}

// TestCursorOfOneMember: a position with a member's name, as webhooks tell it, is read on in that member's log only, wherever
// it is asked for.
func TestCursorOfOneMember(t *testing.T) {
	r := mustRig(t)
	for i := range 700 { // more than a page of a member
		r.n["n1"].events = append(r.n["n1"].events, event(i, "a@example.jp"))
		r.n["n2"].events = append(r.n["n2"].events, event(i, "b@example.jp"))
	}
	for _, row := range []struct {
		after string
		first int64
		n     int
		last  string
	}{{"n1@9", 10, 690, "n1@699"}, {"n2@9", 10, 690, "n2@699"}, {"n2@", 0, 700, "n2@699"}, {"n2@699", 0, 0, ""}} {
		var seen []mail.Event
		last := ""
		if err := r.all.Log.Search(t.Context(), service.EventQuery{After: row.after}, func(e mail.Event, position string) bool {
			seen, last = append(seen, e), position
			return true
		}); err != nil {
			t.Fatalf("%s: %v", row.after, err)
		}
		to := map[bool]mail.Address{true: "a@example.jp", false: "b@example.jp"}[row.after[:2] == "n1"]
		if len(seen) != row.n || last != row.last || row.n > 0 && (seen[0].At.Unix() != row.first ||
			slices.ContainsFunc(seen, func(e mail.Event) bool { return e.To != to })) {
			t.Errorf("%s: %d events, then %s", row.after, len(seen), last)
		}
	}
	for _, after := range []string{"n9@1", "n1@x", "n2@x", "@1"} {
		if err := r.all.Log.Search(t.Context(), service.EventQuery{After: after}, nil); !errors.Is(err, service.ErrInvalid) {
			t.Errorf("%s: %v", after, err)
		}
	}
	mustMiss(t, r.all.Log.Search(t.Context(), service.EventQuery{After: "n3@1"}, nil))
}

func TestTraceIsFoundWhereverItIs(t *testing.T) {
	r := mustRig(t)
	r.n["n2"].events = []mail.Event{event(5, "b@example.jp"), event(9, "both@example.jp")}
	r.n["n1"].events = []mail.Event{event(7, "both@example.jp")}
	got, err := r.all.Log.Trace(t.Context(), service.TraceQuery{Address: "B@example.jp", Limit: 10})
	mustMiss(t, err)
	if len(got.Events) != 1 || len(got.Waiting) != 1 || got.Waiting[0].Detail != "n2" {
		t.Errorf("got %+v", got)
	}
	got, err = r.all.Log.Trace(t.Context(), service.TraceQuery{Address: "both@example.jp", Limit: 1})
	mustMiss(t, err)
	if len(got.Events) != 1 || got.Events[0].At.Unix() != 9 || len(got.Waiting) != 2 {
		t.Errorf("got %+v", got)
	}
	// n3 may know it: nobody may say that there is none.
	if _, err = r.all.Log.Trace(t.Context(), service.TraceQuery{Address: "c@example.jp"}); errors.Is(err, service.ErrNotFound) {
		t.Error("not found, though n3 was not heard")
	}
}

// What is suspended is agreed on: one member is asked. What another alone knows, its source or its block, is asked of it.
func TestSuspensionsAreAgreedOn(t *testing.T) {
	r, ctx := mustRig(t), t.Context()
	now := time.Unix(1e9, 0)
	domain := service.Suspension{Subject: service.Subject{Kind: service.SubjectDomain, Value: "a.example"}, Reason: "why", Since: now, Until: now.Add(time.Hour)}
	if err := r.all.Gates.Suspend(ctx, domain); err != nil || len(r.n["n1"].suspensions) != 1 || len(r.n["n2"].suspensions) != 0 {
		t.Fatalf("%v, n1 %v, n2 %v", err, r.n["n1"].suspensions, r.n["n2"].suspensions)
	}
	longer := domain
	longer.Until = time.Time{}
	r.n["n2"].suspensions = append(r.n["n2"].suspensions, longer)
	list, err := r.all.Gates.Suspensions(ctx)
	mustMiss(t, err)
	if len(list) != 1 || !list[0].Until.IsZero() {
		t.Errorf("list %v", list)
	}
	// A source is known to one member.
	of2 := service.Suspension{Subject: service.Subject{Kind: service.SubjectSource, Value: "127.0.0.3"}, Since: now}
	mustMiss(t, r.all.Gates.Suspend(ctx, of2))
	mustMiss(t, r.all.Gates.Unsuspend(ctx, of2.Subject, "operator"))
	if err := r.all.Gates.Unsuspend(ctx, of2.Subject, "operator"); !errors.Is(err, service.ErrNotFound) {
		t.Errorf("lifted twice: %v", err)
	}
	of9 := service.Suspension{Subject: service.Subject{Kind: service.SubjectSource, Value: "127.0.0.9"}, Since: now}
	if err := r.all.Gates.Suspend(ctx, of9); !errors.Is(err, service.ErrInvalid) {
		t.Errorf("nobody's source: %v", err)
	}
}

func TestMembersTellOfThemselves(t *testing.T) {
	r, ctx := mustRig(t), t.Context()
	queue := service.Lineage{ID: 0xa1, Epoch: 3, Owner: "n2", Phase: "owned"}
	r.n["n1"].roster = service.Roster{Cluster: "c", Quorum: true, Members: []service.Member{{Name: "n1", State: "unsealed"},
		{Name: "n2", Alive: true, Lineages: []service.Lineage{queue}}, {Name: "n3"}}}
	queue.Exposed, queue.Standbys = 4, []service.Standby{{Name: "n1", Acknowledging: true, Behind: 2}}
	r.n["n2"].roster = service.Roster{Members: []service.Member{{Name: "n2", State: "draining", Waiting: 9, Leader: true, Lineages: []service.Lineage{queue}}}}
	got, err := r.all.Members.List(ctx)
	mustMiss(t, err)
	want := []service.Member{{Name: "n1", State: "unsealed"}, {Name: "n2", Alive: true, State: "draining", Waiting: 9, Lineages: []service.Lineage{queue}}, {Name: "n3"}}
	if d := gocmp.Diff(want, got.Members); d != "" || !got.Quorum {
		t.Error(d)
	}
	if err := r.all.Members.Drain(ctx, "n2"); err != nil || r.n["n2"].drained != 1 || r.n["n1"].drained != 0 {
		t.Errorf("drain of n2: %v, n1 %d, n2 %d", err, r.n["n1"].drained, r.n["n2"].drained)
	}
	if err := r.all.Members.Drain(ctx, ""); err != nil || r.n["n1"].drained != 1 {
		t.Errorf("drain: %v", err)
	}
}

// TestADeafMemberIsNotWaitedFor holds a member whose machine takes connections and says nothing.
func TestADeafMemberIsNotWaitedFor(t *testing.T) {
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	f := &fakeMember{name: "n1", source: "127.0.0.2"}
	all := Services(Config{Name: "n1", Local: f.services(), Log: slog.New(slog.DiscardHandler), Timeout: 50 * time.Millisecond,
		Peers: peers{"n4": NewClient(http.DefaultClient, "http://"+deaf.Addr().String())}})
	start := clock.Wall()
	_, err = all.Numbers.Queues(t.Context(), "")
	var partial *service.Partial
	if !errors.As(err, &partial) || partial.Missing[0].Reason != "no answer within 50ms" {
		t.Errorf("got %v", err)
	}
	if took := clock.Since(start); took > 5*time.Second {
		t.Errorf("waited %v", took)
	}
}

func TestPeersMayAskOnlyWhatIsTheirs(t *testing.T) {
	r := mustRig(t)
	p := r.all.Numbers.(numbers).Peers
	_, err := p.Client("n2").Unseal(t.Context(), &adminpb.UnsealRequest{Code: "x"})
	if err == nil || !strings.Contains(err.Error(), "permission_denied") {
		t.Errorf("got %v", err)
	}
}

func TestEventsCrossTheWireWhole(t *testing.T) {
	want := mail.Event{At: time.Unix(5, 0).UTC(), Kind: mail.EventDeferred, Message: mail.MessageID{Lineage: 1, Seq: 2}, Delivery: 3, Tenant: "t",
		Group: "g", From: "a@example.jp", To: "b@example.jp", Domain: "example.jp", Attempt: 2, Receiver: "docomo", Stage: mail.StageRcpt,
		Status: mail.StatusRefused, InDoubt: true, Reply: smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 7, Detail: 1}, Text: "no\nno"},
		Detail: "d", Source: netip.MustParseAddr("127.0.0.2"), Remote: netip.MustParseAddrPort("[2001:db8::1]:25"), MX: "mx", TLS: true,
		Next: time.Unix(9, 0).UTC()}
	if d := gocmp.Diff(want, rpc.EventOf(rpc.Event(&want)), gocmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		gocmp.Comparer(func(a, b netip.AddrPort) bool { return cmp.Compare(a.String(), b.String()) == 0 })); d != "" {
		t.Error(d)
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add(cursor{"n1": "0001", "n2": ""}.String())
	f.Add("all.")
	f.Add("all.bnVsbA")
	f.Add("004f000000000000000100000002")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s, "n1")
		if err != nil {
			if !errors.Is(err, service.ErrInvalid) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if again, err := parseCursor(c.String(), "n1"); err != nil || len(again) != len(c) {
			t.Errorf("%q does not come back: %v %v", s, again, err)
		}
	})
}
