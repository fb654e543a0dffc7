package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ekiden-mta/ekiden/admin"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ekiden": main})
}

const scriptToken = "script-token-script-token-script-token-0123"

// TestScripts runs the commands as an operator does, against a served front over plain facts: $EKIDEN_SERVER, with
// the token in $WORK/data. Without a script of its own setting, nothing listens at $NOBODY.
func TestScripts(t *testing.T) {
	names := dnstest.Start(t, senderZone())
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			f := &facts{code: "AAAA-BBBB"}
			b := &book{f: f}
			front, err := admin.New(admin.Config{Address: "127.0.0.1:0", Token: scriptToken, Clock: &clock.Clock{},
				Log: slog.New(slog.DiscardHandler), Services: admin.Services{Node: f, Numbers: f, Statistics: days{}, Log: f, Groups: f, Gates: f, Settings: b, Suppressions: b, DeliveryStops: b,
					Members: club{b}, Keys: b, Audit: b, Replies: f, Tenants: estate{"default", "shop", "third"}, Tokens: ring{b}}})
			if err != nil {
				return err
			}
			srv := httptest.NewServer(front.Handler())
			e.Defer(srv.Close)
			gone := httptest.NewServer(nil)
			gone.Close()
			e.Setenv("EKIDEN_SERVER", srv.URL)
			e.Setenv("NOBODY", gone.URL)
			e.Setenv("TZ", "UTC")
			e.Setenv("DNS", names.Addr) // a name server of senderZone
			data := filepath.Join(e.WorkDir, "ekiden-data")
			if err := os.Mkdir(data, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(data, admin.TokenFile), []byte(scriptToken+"\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "envsubst": envsubst},
	})
}

// senderZone is what the doctor's scripts find in the DNS: good.test without a fault, bad.test with one of each.
func senderZone() dnstest.Zone {
	const key = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	return dnstest.Zone{TTL: 60,
		PTR: map[string][]string{"192.0.2.7": {"relay.good.test"}, "192.0.2.8": {"stray.bad.test"}},
		A:   map[string][]string{"relay.good.test": {"192.0.2.7"}, "stray.bad.test": {"192.0.2.99"}, "mx.good.test": {"127.0.0.1"}},
		MX:  map[string][]dnstest.MX{"good.test": {{Pref: 10, Host: "mx.good.test"}}, "bad.test": {{Host: "."}}},
		TXT: map[string][]string{
			"good.test":               {"v=spf1 a:relay.good.test -all"},
			"s1._domainkey.good.test": {key},
			"_dmarc.good.test":        {"v=DMARC1; p=reject"},
			"bad.test":                {"v=spf1 ip4:192.0.2.7 -all"},
			"s1._domainkey.bad.test":  {"v=DKIM1; p="},
			"_dmarc.bad.test":         {"v=DMARC1; p=reject; aspf=s"},
			"bounce.test":             {"v=spf1 ip4:192.0.2.0/24 -all"},
		}}
}

// exits CODE command…: runs ekiden and compares its exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("ekiden", args[1:]...)
	got := 0
	if err != nil {
		if _, e := fmt.Sscanf(err.Error(), "exit status %d", &got); e != nil {
			ts.Fatalf("%v", err)
		}
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// envsubst FROM TO: writes a file with the variables of the script in it.
func envsubst(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// facts is a node made of plain facts.
type facts struct {
	mu          sync.Mutex
	code        string
	unsealed    bool
	suspensions []service.Suspension
	stopped     string // a group
}

// Conservation is nobody's to tell while the node is sealed, and out of balance once somebody has stopped the group g1.
func (f *facts) Conservation() service.Conservation {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped != "g1" {
		return service.Conservation{Books: f.unsealed}
	}
	return service.Conservation{Books: f.unsealed, LogGap: -2, Overdue: 1, Oldest: []service.Overdue{{Domain: "a.example"}}}
}

func (f *facts) Status() service.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := service.Status{Name: "n1", Version: "test", State: service.StateUnsealed, Helo: "relay.good.test", SMTP: []string{"127.0.0.1:2525"}, Started: clock.Wall()}
	if !f.unsealed {
		s.State, s.Reasons = service.StateSealed, []service.Reason{{Code: "sealed", Detail: "waits for the recovery code"}}
	}
	return s
}

func (f *facts) Unseal(_ context.Context, code string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case code == "SOON":
		return service.ErrTooSoon
	case code != f.code:
		return service.ErrWrongCode
	case f.unsealed:
		return service.ErrNotSealed
	}
	f.unsealed = true
	return nil
}

func (f *facts) Drain(context.Context) error { return service.ErrNotYet }

func (f *facts) Counters(_ context.Context, q service.CounterQuery) ([]service.CounterBucket, error) {
	n := map[string]int{service.UnitTotal: 1, service.UnitHour: 6, service.UnitFive: 12}[q.Unit]
	out := make([]service.CounterBucket, n)
	for i := range out {
		if q.Unit != service.UnitTotal {
			out[i].Start = time.Unix(int64(1_000_000_000+3600*i), 0)
		}
		for j := range out[i].Counters {
			out[i].Counters[j] = int64(1000 + j)
		}
		if q.Domain == "empty.example" {
			out[i].Counters = service.Counters{}
		}
	}
	return out, nil
}

func (f *facts) Queues(context.Context, string) ([]service.Queue, error) {
	return []service.Queue{{Name: "docomo", Waiting: 298, Urgent: 2, Warming: 1}, {Name: "pc"}}, nil
}

func (f *facts) Receivers(context.Context) ([]service.Receiver, error) {
	return []service.Receiver{
		{Receiver: "google", State: "open", Connections: 2, Limit: 10},
		{Receiver: "docomo", Source: netip.MustParseAddr("127.0.0.2"), State: "blocked", Waiting: 7, Detail: "421 \x1b[31mbusy"},
	}, nil
}

// log is two messages: one delivered at the second try, one that waits; the reply tries to write on the terminal.
func (f *facts) log() []mail.Event {
	at := time.Unix(1_000_000_000, 0)
	one, two := mail.MessageID{Lineage: 1, Seq: 10}, mail.MessageID{Lineage: 1, Seq: 20}
	return []mail.Event{
		{At: at, Kind: mail.EventAccepted, Message: one, Delivery: 10, From: "a@b.example", To: "one@example.jp", Group: "g1", Size: 1024},
		{At: at.Add(time.Second), Kind: mail.EventDeferred, Message: one, Delivery: 10, Attempt: 1, From: "a@b.example", To: "one@example.jp", Group: "g1",
			Stage: mail.StageRcpt, Source: netip.MustParseAddr("127.0.0.2"), Remote: netip.MustParseAddrPort("[2001:db8::1]:25"), MX: "mx.example.jp",
			Reply: smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 7}, Text: "busy\r\n\x1b]0;pwned\a\u202eok\ttab"}, Next: at.Add(time.Minute)},
		{At: at.Add(time.Minute), Kind: mail.EventDelivered, Message: one, Delivery: 10, Attempt: 2, From: "a@b.example", To: "one@example.jp", Group: "g1",
			Stage: mail.StageDot, Source: netip.MustParseAddr("127.0.0.2"), Remote: netip.MustParseAddrPort("192.0.2.1:25"), Reply: smtp.Reply{Code: 250, Text: "ok"}},
		{At: at.Add(2 * time.Minute), Kind: mail.EventFailed, Message: two, Delivery: 20, From: "=cmd|x@b.example", To: "two@example.jp",
			Stage: mail.StageDNS, Detail: "no such domain"},
	}
}

// network is a look-up and a connection.
func (f *facts) network() []mail.Event {
	at := time.Unix(1_000_000_200, 0)
	return []mail.Event{
		{At: at, Kind: mail.EventLookup, Domain: "example.jp", Reply: smtp.Reply{Text: "NOERROR"}, Detail: "MX 10 mx.example.jp.", Stage: mail.StageDNS},
		{At: at.Add(time.Minute), Taken: at, Kind: mail.EventConnection, Domain: "example.jp", Source: netip.MustParseAddr("127.0.0.2"),
			Remote: netip.MustParseAddrPort("192.0.2.1:25"), Reply: smtp.Reply{Code: 220, Text: "mx.example.jp"}, Served: mail.Served{Delivered: 3, Failed: 1}},
	}
}

// replies are two that a receiver gave: one as the built-in rules have it, one as they had it once.
func (f *facts) replies() []mail.Event {
	at := time.Unix(1_000_000_300, 0)
	unknown := mail.Event{At: at, Kind: mail.EventFailed, Message: mail.MessageID{Lineage: 1, Seq: 40}, Delivery: 40, From: "a@b.example", To: "x@docomo.ne.jp",
		Receiver: "docomo", Stage: mail.StageRcpt, Reply: smtp.Reply{Code: 550, Text: "Unknown user x@docomo.ne.jp"},
		Status: mail.StatusUserUnknown, Rule: "docomo/unknown"}
	full := unknown
	full.Delivery, full.Reply.Code, full.Reply.Text = 41, 552, "Too much mail data x@docomo.ne.jp"
	full.Status, full.Rule = mail.StatusRefused, "docomo/old"
	return []mail.Event{unknown, full}
}

func (f *facts) ReplyRules(context.Context) ([]service.ReplyRule, error) {
	return []service.ReplyRule{
		{Rule: "own/docomo/house", Receivers: []string{"docomo"}, Own: true, Status: mail.StatusRefused, Scope: mail.ScopeTenant,
			Action: mail.ActSuspend, For: 2 * time.Hour, Source: "a letter of theirs", Date: "2026-11-01", Hits: 1234},
		{Rule: "any/blocked", Status: mail.StatusRefused, Scope: mail.ScopeSource, Then: (&mail.Jump{Share: 25, For: time.Hour}).String(), Source: "ZoneMTA", Date: "2026-07-01"},
	}, nil
}

func (f *facts) ReceiverRows(context.Context) ([]service.ReceiverRow, error) {
	return []service.ReceiverRow{
		{Name: "house", Matches: []string{"house.example", "mx .house.example"}, Own: true, Limits: "3 connections", Source: "a letter of theirs", Date: "2026-11-01"},
		{Name: "docomo", Matches: []string{"docomo.ne.jp"}, Limits: "10 connections", Source: "requirements D2", Date: "2026-07-01", Hits: 77},
	}, nil
}

func (f *facts) Search(_ context.Context, q service.EventQuery, yield func(mail.Event, string) bool) error {
	after := -1
	if q.After != "" {
		n, err := strconv.Atoi(q.After)
		if err != nil {
			return service.ErrInvalid
		}
		after = n
	}
	all := f.log()
	if len(q.Kinds) > 0 && q.Kinds[0].Aside() {
		all = f.network()
	}
	if slices.Contains(q.Kinds, mail.EventFailed) {
		all = append(all, f.replies()...)
	}
	for i, e := range all {
		if i <= after || q.To != "" && q.To.Fold() != e.To.Fold() || len(q.Kinds) > 0 && !slices.Contains(q.Kinds, e.Kind) ||
			!q.Since.IsZero() && e.At.Before(q.Since) || !q.Until.IsZero() && !e.At.Before(q.Until) {
			continue
		}
		if !yield(e, strconv.Itoa(i)) {
			return nil
		}
	}
	return nil
}

func (f *facts) Trace(_ context.Context, q service.TraceQuery) (service.Trace, error) {
	var t service.Trace
	for _, e := range f.log() {
		if e.Message == q.Message || q.Address != "" && e.To.Fold() == q.Address.Fold() {
			t.Events = append(t.Events, e)
		}
	}
	if q.Address.Fold() == "waits@example.jp" {
		t.Waiting = []service.Waiting{{Delivery: mail.Delivery{Message: mail.MessageID{Lineage: 1, Seq: 30}, To: q.Address, Attempts: 1},
			Receiver: "docomo", Binding: "suspension", Detail: "their MX is down \x1b[2J(operator)", Until: time.Unix(1_000_003_600, 0)}}
	}
	return t, nil
}

func (f *facts) Groups(context.Context) ([]service.Group, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state := service.GroupOpen
	if f.stopped == "g1" {
		state = service.GroupStopped
	}
	return []service.Group{{Name: "g1", Tenant: "default", State: state, Counters: service.Counters{service.Undelivered: 5}}}, nil
}

// Stop knows g1, and that any other group is slow to stop.
func (f *facts) Stop(_ context.Context, s service.GroupStop) (service.GroupStanding, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = s.Group
	st := service.GroupStanding{State: service.GroupStopped, Held: 5, InFlight: 1, LastSent: time.Unix(1_000_000_000, 0),
		Nodes: []service.GroupNode{{Name: "n1", Confirmed: true}}}
	if s.Group != "g1" {
		st.State, st.Nodes[0] = service.GroupStopping, service.GroupNode{Name: "n1", MissingFor: 1500 * time.Millisecond}
		f.stopped = "g1"
	}
	return st, nil
}

func (f *facts) Resume(context.Context, string, string, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped == "" {
		return service.ErrNotFound
	}
	return nil
}

func (f *facts) Discard(context.Context, string, string, string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped == "" {
		return 0, fmt.Errorf("%w: the group is not stopped", service.ErrRefused)
	}
	return 1234, nil
}

func (f *facts) Suspend(_ context.Context, s service.Suspension) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.suspensions = append(f.suspensions, s)
	return nil
}

func (f *facts) Unsuspend(_ context.Context, s service.Subject, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, have := range f.suspensions {
		if have.Subject == s {
			f.suspensions = append(f.suspensions[:i], f.suspensions[i+1:]...)
			return nil
		}
	}
	return service.ErrNotFound
}

func (f *facts) Suspensions(context.Context) ([]service.Suspension, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.suspensions, nil
}

func TestPrintable(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "250 2.0.0 ok", "250 2.0.0 ok"},
		{"Japanese", "日本語 ok", "日本語 ok"},
		{"escape sequence", "\x1b[2Jx", `\x1b[2Jx`},
		{"lines", "a\r\nb\tc", `a\r\nb\tc`},
		{"C1 control", "a\u009b2J", `a\u009b2J`},
		{"direction override", "a\u202eb", `a\u202eb`},
		{"line separator", "a\u2028b", `a\u2028b`},
		{"broken UTF-8", "a\xffb", `a\xffb`},
		{"delete", "a\x7f", `a\x7f`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := printable(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNumber(t *testing.T) {
	for in, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := number(in); got != want {
			t.Errorf("%d: got %s, want %s", in, got, want)
		}
	}
}

// TestEveryCommandHasHelpWithAnExample keeps the promise of the contract for commands to come, too.
func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	for _, line := range strings.Split("serve|check|apply|settings export|settings schema|group list|group status|group stop|group resume|"+
		"group discard|suspend|unsuspend|queue|stats daily|stats results|stats errors|stats rebuild|top|trace|log|suppress list|suppress add|suppress remove|suppress import|suppress reset|"+
		"reservation list|reservation cancel|probe|cluster members|cluster drain|cluster leave|cluster takeover|cluster recover|cluster init|cluster admit|cluster rotate-keys|cluster audit|"+
		"unseal|account list|account add|account passwd|account remove|token create|token list|token revoke|dkim create|dkim list|doctor|version", "|") {
		var out, errs strings.Builder
		code := run(append(strings.Fields(line), "--help"), stdio{strings.NewReader(""), &out, &errs})
		if code != 0 || !strings.Contains(out.String(), "Example: ekiden "+strings.Fields(line)[0]) || !strings.Contains(out.String(), "--json") {
			t.Errorf("%s --help: code %d\n%s%s", line, code, out.String(), errs.String())
		}
	}
}
