package webhook

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// TestMain makes the certificate that the receivers of all tests show, and lets SSL_CERT_FILE name it: the process reads
// that once.
func TestMain(m *testing.M) { os.Exit(withCertificate(m)) }

func withCertificate(m *testing.M) int {
	dir, err := os.MkdirTemp("", "webhook")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		panic(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
	for name, text := range map[string][]byte{"SSL_CERT_FILE": cert, "TEST_KEY_FILE": private} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			panic(err)
		}
		os.Setenv(name, file)
	}
	return m.Run()
}

// taken is one post as the receiver got it.
type taken struct {
	head http.Header
	body string
	message
}

func (t *taken) to() (out []string) {
	for _, raw := range t.Events {
		var d struct{ To string }
		if err := json.Unmarshal(raw, &d); err != nil {
			panic(err)
		}
		out = append(out, d.To)
	}
	return out
}

// receiver is an HTTPS server of a tenant; answer decides the status of the n-th post, counted from 1.
type receiver struct {
	*httptest.Server
	posts  chan taken
	answer func(n int) int
}

func startReceiver(t *testing.T, answer func(n int) int) *receiver {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(os.Getenv("SSL_CERT_FILE"), os.Getenv("TEST_KEY_FILE"))
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{posts: make(chan taken, 1000), answer: answer}
	n := 0
	var mu sync.Mutex
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		mu.Lock()
		n++
		status := 200
		if r.answer != nil {
			status = r.answer(n)
		}
		mu.Unlock()
		got := taken{head: req.Header, body: string(raw)}
		if strings.HasPrefix(req.Header.Get("Content-Type"), "application/json") {
			if err := json.Unmarshal(raw, &got.message); err != nil {
				t.Errorf("%s: %v", raw, err)
			}
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		r.posts <- got
	}))
	r.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

// next is the next post, whatever was answered to it.
func (r *receiver) next(t *testing.T) taken {
	t.Helper()
	select {
	case p := <-r.posts:
		return p
	case <-time.After(10 * time.Second):
		t.Fatal("no post")
		panic("unreachable")
	}
}

// memoryLog is an event log in memory. Positions are numbers with leading zeros.
type memoryLog struct {
	mu     sync.Mutex
	events []mail.Event
	wake   chan struct{}
	handed atomic.Int64 // to followers
}

func (l *memoryLog) add(events ...mail.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, events...)
	close(l.wake)
	l.wake = make(chan struct{})
}

func (l *memoryLog) Follow(ctx context.Context, after string, f func(*mail.Event, string) bool) error {
	at := 0
	if after != "" {
		if _, err := fmt.Sscanf(after, "%d", &at); err != nil {
			return err
		}
	}
	for {
		l.mu.Lock()
		list, wake := l.events, l.wake
		l.mu.Unlock()
		for ; at < len(list); at++ {
			if !f(&list[at], fmt.Sprintf("%08d", at+1)) {
				return nil
			}
			l.handed.Add(1)
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *memoryLog) End() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%08d", len(l.events))
}

func (l *memoryLog) Acceptance(_ context.Context, m mail.MessageID) (mail.Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Message == m && e.Kind == mail.EventAccepted {
			return e, nil
		}
	}
	return mail.Event{}, nil
}

// memory keeps values; broken is a disk that takes no more, as after a crash.
type memory struct {
	mu     sync.Mutex
	kept   map[string]string
	broken bool
}

func (m *memory) Load(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.kept[name]; ok {
		return []byte(v), nil
	}
	return nil, nil
}

func (m *memory) Keep(_ context.Context, name string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.broken:
		return errors.New("no disk")
	case value == nil:
		delete(m.kept, name)
	default:
		m.kept[name] = string(value)
	}
	return nil
}

// rig is a poster over a log and a memory that outlive it.
type rig struct {
	*testing.T
	log    *memoryLog
	memory *memory
	clock  *clock.Clock
	poster *Poster
	mu     sync.Mutex
	counts map[string]int
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, log: &memoryLog{wake: make(chan struct{})}, memory: &memory{kept: map[string]string{}}, clock: &clock.Clock{},
		counts: map[string]int{}}
	r.start(func(netip.AddrPort) error { return nil })
	t.Cleanup(func() { r.poster.Close() })
	return r
}

func (r *rig) start(allowed func(netip.AddrPort) error) {
	r.poster = New(Config{Node: "n1", Version: "test", Events: r.log, Memory: r.memory, Clock: r.clock, Allowed: allowed,
		Log: slog.New(slog.DiscardHandler), Posted: func(result string, events int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.counts[result] += events
		}})
}

func (r *rig) count(result string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[result]
}

func mustBecome(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(10 * time.Second); !f(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

// accepted are n events of one tenant, to rcpt0@a.test and so on, from the number first.
func accepted(first, n int) (out []mail.Event) {
	for i := first; i < first+n; i++ {
		out = append(out, mail.Event{At: time.Date(2026, 11, 26, 1, 2, 3, 0, time.UTC), Kind: mail.EventAccepted, Tenant: "shop",
			Composition: "main", Message: mail.MessageID{Lineage: 1, Seq: mail.Seq(i + 1)}, From: "bounce@shop.test",
			To: mail.Address(fmt.Sprintf("rcpt%d@a.test", i)), HeaderFrom: "news@shop.test",
			HeaderID: fmt.Sprintf("<%d@shop.test>", i), Subject: "こんにちは", APIData: "k1", Client: netip.MustParseAddr("192.0.2.1")})
	}
	return out
}

// after is what became of an accepted delivery.
func after(e mail.Event, kind mail.EventKind, code int, words string, status mail.Status) mail.Event {
	return mail.Event{At: e.At.Add(time.Second), Kind: kind, Tenant: e.Tenant, Message: e.Message, From: e.From, To: e.To, Status: status,
		Reply: smtp.Reply{Code: code, Text: words}, Source: netip.MustParseAddr("198.51.100.7")}
}

// TestBatches: 250 events at once are posts of 100, 100 and 50, in order, and of this tenant only (requirement R141).
func TestBatches(t *testing.T) {
	r, to := newRig(t), startReceiver(t, nil)
	old, foreign := accepted(900, 3), accepted(800, 3)
	for i := range foreign {
		foreign[i].Tenant = "another"
	}
	r.log.add(old...)
	r.poster.Use([]Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries}})
	r.log.add(append(foreign, accepted(0, 250)...)...)
	n := 0
	for i, want := range []int{100, 100, 50} {
		p := to.next(t)
		if len(p.Events) != want || p.Type != "deliveries" || p.Sequence != uint64(i+1) || p.Composition != "main" || p.Node != "n1" {
			t.Errorf("post %d: %d events, %+v", i, len(p.Events), p.message)
		}
		for _, a := range p.to() {
			if a != fmt.Sprintf("rcpt%d@a.test", n) {
				t.Fatalf("event %d is to %s", n, a)
			}
			n++
		}
	}
	mustBecome(t, "all counted, none late", func() bool { return r.count(ResultPosted) == 250 && r.poster.Lag() == 0 })
}

// TestRecords: the field names of B3 and B4, in JSON.
func TestRecords(t *testing.T) {
	e := accepted(0, 1)[0]
	own := e
	own.Own = true
	rows := []struct {
		name string
		hook Hook
		tell mail.Event
		want string // "" = nothing is posted
	}{
		{"queued", Hook{Type: Deliveries}, e, `{"created":"2026-11-26 01:02:03","returnPath":"bounce@shop.test","from":"news@shop.test","to":"rcpt0@a.test","messageId":"\u003c0@shop.test\u003e","reason":"","senderIp":"","sourceIp":"192.0.2.1","status":"queued","subject":"こんにちは","apiData":"k1"}`},
		{"succeeded", Hook{Type: Deliveries, Zone: "Asia/Tokyo"}, after(e, mail.EventDelivered, 250, "ok", 0), `{"created":"2026-11-26 10:02:04","returnPath":"bounce@shop.test","from":"news@shop.test","to":"rcpt0@a.test","messageId":"\u003c0@shop.test\u003e","reason":"","senderIp":"198.51.100.7","sourceIp":"","status":"succeeded","subject":"こんにちは","apiData":"k1"}`},
		{"deferred", Hook{Type: Deliveries}, after(e, mail.EventDeferred, 451, "later", 3), `{"created":"2026-11-26 01:02:04","returnPath":"bounce@shop.test","from":"news@shop.test","to":"rcpt0@a.test","messageId":"\u003c0@shop.test\u003e","reason":"451 later","senderIp":"198.51.100.7","sourceIp":"","status":"deferred","subject":"こんにちは","apiData":"k1"}`},
		{"not wanted", Hook{Type: Deliveries, Statuses: "queued,failed"}, after(e, mail.EventDeferred, 451, "later", 3), ""},
		{"bounce", Hook{Type: Bounces}, after(e, mail.EventFailed, 550, "no such user", 2), `{"created":"2026-11-26 01:02:04","status":"2","from":"news@shop.test","to":"rcpt0@a.test","messageId":"\u003c0@shop.test\u003e","returnPath":"bounce@shop.test","subject":"こんにちは","apiData":"k1","reason":"550 no such user"}`},
		{"late bounce", Hook{Type: Bounces}, after(e, mail.EventBounced, 550, "", 0), `{"created":"2026-11-26 01:02:04","status":"99","from":"news@shop.test","to":"rcpt0@a.test","messageId":"\u003c0@shop.test\u003e","returnPath":"bounce@shop.test","subject":"こんにちは","apiData":"k1","reason":"550"}`},
		{"blocked", Hook{Type: Blocks}, mail.Event{At: e.At, Kind: mail.EventBlocked, Tenant: "shop", To: "rcpt0@a.test", Status: 2, Attempt: 3, Due: e.At}, `{"created":"2026-11-26 01:02:03","email":"rcpt0@a.test","status":"2","occurred":"3","operation":"added"}`},
		{"released", Hook{Type: Blocks, Zone: "Asia/Tokyo"}, mail.Event{At: e.At, Kind: mail.EventReleased, Tenant: "shop", To: "rcpt0@a.test"}, `{"created":"2026-11-26 10:02:03","email":"rcpt0@a.test","status":"","occurred":"0","operation":"removed"}`},
		{"alarm", Hook{Type: Alarms}, mail.Event{At: e.At, Kind: mail.EventAlarm, Rule: "late_bounces", Receiver: "au", Detail: "its 250 means little", Due: e.At.Add(time.Minute)}, `{"version":1,"created":"2026-11-26T01:02:03Z","node":"n1","alarm":"late_bounces","about":"au","state":"raised","text":"its 250 means little","until":"2026-11-26T01:03:03Z"}`},
		{"alarm that ended", Hook{Type: Alarms, Zone: "Asia/Tokyo"}, mail.Event{At: e.At, Kind: mail.EventAlarm, Rule: "x"}, `{"version":1,"created":"2026-11-26T10:02:03+09:00","node":"n1","alarm":"x","about":"","state":"ended","text":"","until":null}`},
		{"alarms are no tenant's deliveries", Hook{Type: Deliveries}, mail.Event{At: e.At, Kind: mail.EventAlarm, Rule: "x", Tenant: "shop"}, ""},
		{"of another tenant", Hook{Type: Blocks}, mail.Event{At: e.At, Kind: mail.EventBlocked, Tenant: "another", To: "rcpt0@a.test"}, ""},
		{"no delivery", Hook{Type: Deliveries}, mail.Event{At: e.At, Kind: mail.EventBlocked, Tenant: "shop", To: "rcpt0@a.test"}, ""},
		{"interrupted is no bounce", Hook{Type: Bounces}, after(e, mail.EventDiscarded, 0, "", 12), ""},
		{"own mail", Hook{Type: Deliveries}, own, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r, to := newRig(t), startReceiver(t, nil)
			r.log.add(e)
			if row.hook.URL = to.URL; row.hook.Type != Alarms {
				row.hook.Tenant = "shop"
			}
			if row.hook.Zone == "" {
				row.hook.Zone = "UTC"
			}
			r.poster.Use([]Hook{row.hook})
			last := accepted(7, 1)[0] // what is surely posted, so that nothing before it can be missed
			end := after(last, mail.EventFailed, 550, "", 2)
			r.log.add(row.tell, last, end, mail.Event{At: e.At, Kind: mail.EventBlocked, Tenant: "shop", To: "rcpt7@a.test"},
				mail.Event{At: e.At, Kind: mail.EventAlarm, Rule: "rcpt7@a.test"})
			p := to.next(t)
			got := string(p.Events[0])
			if strings.Contains(got, "rcpt7@") {
				got = ""
			}
			if got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

// TestFormAndSignature: the form carries the same fields; the signature is that of the Standard Webhooks.
func TestFormAndSignature(t *testing.T) {
	r, to := newRig(t), startReceiver(t, nil)
	secret := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	r.poster.Use([]Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries, Form: true, Secret: secret, Second: "another", APIKey: "k", Bearer: "b"}})
	r.log.add(numbered(11, accepted(0, 2))...)
	p := to.next(t)
	form, err := url.ParseQuery(p.body)
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]string
	if err := json.Unmarshal([]byte(form.Get("event")), &list); err != nil || len(list) != 2 {
		t.Errorf("event %q: %v", form.Get("event"), err)
	}
	if form.Get("api_key") != "k" || form.Get("event_type") != "deliveries" || form.Get("server_composition") != "main" ||
		p.head.Get("Authorization") != "Bearer b" || p.head.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("form %v, head %v", form, p.head)
	}
	id, at := p.head.Get("webhook-id"), p.head.Get("webhook-timestamp")
	if id == "" || p.head.Get("webhook-signature") != sign(secret, id, at, []byte(p.body))+" "+sign("another", id, at, []byte(p.body)) {
		t.Errorf("head %v", p.head)
	}
	for name, want := range map[string]string{"sequence": "1", "node": "n1", "first_event": "11", "last_event": "12", "cursor": "n1@00000002"} {
		if form.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, form.Get(name), want)
		}
	}
	// The example of the specification's reference libraries.
	if got := sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)); got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signature of the example: %s", got)
	}
}

// numbered gives events the numbers of a log from first on.
func numbered(first uint64, list []mail.Event) []mail.Event {
	for i := range list {
		list[i].Sequence = first + uint64(i)
	}
	return list
}

// TestPublishedFields: version 1 posts a form of what the compatible service posts, and nothing else (requirement B7.1).
func TestPublishedFields(t *testing.T) {
	r, to := newRig(t), startReceiver(t, nil)
	r.poster.Use([]Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries, Form: true, Published: true, APIKey: "k"}})
	r.log.add(accepted(0, 1)...)
	form, err := url.ParseQuery(to.next(t).body)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(form)); !slices.Equal(got, []string{"api_key", "event", "event_type", "server_composition"}) {
		t.Errorf("fields %v", got)
	}
	if got := form.Get("event"); !strings.HasPrefix(got, `[{"created":`) || !strings.Contains(got, `"envelopeTo":"rcpt0@a.test"`) || strings.Contains(got, "apiData") {
		t.Errorf("records of version 1: %s", got)
	}
}

// TestGaps: posts tell where their events stand in the tenant's log, so that a receiver that lost one knows where to read on.
func TestGaps(t *testing.T) {
	r, to := newRig(t), startReceiver(t, nil)
	r.poster.Use([]Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries}})
	r.log.add(numbered(5, accepted(0, 150))...)
	a, b := to.next(t), to.next(t)
	if a.First != 5 || a.Last != 104 || a.Cursor != "n1@00000100" || b.First != 105 || b.Last != 154 || b.Cursor != "n1@00000150" {
		t.Errorf("%d to %d, cursor %s; %d to %d, cursor %s", a.First, a.Last, a.Cursor, b.First, b.Last, b.Cursor)
	}
}

// TestRestart: what a stop or a crash interrupts is said again under the same name, nothing is lost, and nothing that was
// taken and noted is said twice.
func TestRestart(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %v", crash), func(t *testing.T) {
			r, to := newRig(t), startReceiver(t, func(n int) int { return map[bool]int{true: 503, false: 200}[n == 2] })
			hooks := []Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries}}
			r.poster.Use(hooks)
			r.log.add(accepted(0, 150)...)
			first, second := to.next(t), to.next(t)
			mustBecome(t, "the failure is known", func() bool { return r.count(ResultFailed) == 50 })
			r.memory.mu.Lock()
			r.memory.broken = crash // nothing that is written from here on survives
			r.memory.mu.Unlock()
			r.poster.Close()
			r.memory.broken = false
			r.log.add(accepted(150, 30)...)
			r.start(func(netip.AddrPort) error { return nil })
			r.poster.Use(hooks)
			again, rest := to.next(t), to.next(t)
			if again.body != second.body || again.head.Get("webhook-id") != second.head.Get("webhook-id") {
				t.Errorf("said again in other words:\n%s\n%s", second.body, again.body)
			}
			if len(first.Events) != 100 || len(again.Events) != 50 || len(rest.Events) != 30 || rest.Sequence != 3 {
				t.Errorf("%d, %d, %d events, sequence %d", len(first.Events), len(again.Events), len(rest.Events), rest.Sequence)
			}
		})
	}
}

// TestBackoff: 1, 2, 4, 8, 16 minutes of product time; a receiver that answers 5xx is waited for, one that refuses the
// post loses it after the sixth (requirement B7.1).
func TestBackoff(t *testing.T) {
	for name, row := range map[string]struct{ status, last, tries int }{"503": {503, 503, 7}, "429": {429, 429, 7}, "302": {302, 302, 7},
		"400": {400, 400, 6}, "503 and one 404": {503, 404, 7}} {
		t.Run(name, func(t *testing.T) {
			tries := row.tries
			r, to := newRig(t), startReceiver(t, func(n int) int {
				switch {
				case n < 6:
					return row.status
				case n == 6:
					return row.last
				}
				return 200
			})
			r.poster.Use([]Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries}})
			r.log.add(accepted(0, 1)...)
			for i, pause := range []time.Duration{1, 2, 4, 8, 16, 16} {
				to.next(t)
				mustBecome(t, "counted", func() bool { return r.count(ResultFailed) == i+1 })
				if i+1 == tries {
					break
				}
				// The timer is armed after the count: it fires whenever the clock passes its moment.
				mustBecome(t, "the next try", func() bool {
					r.clock.Advance(pause * time.Minute / 4)
					return len(to.posts) > 0
				})
			}
			r.log.add(accepted(1, 1)...)
			want := "rcpt0@a.test"
			if tries == 6 {
				want = "rcpt1@a.test"
			}
			if p := to.next(t); p.to()[0] != want {
				t.Errorf("then %v, want %s first", p.to(), want)
			}
			mustBecome(t, "dropped as told", func() bool { return r.count(ResultDropped) == 7-tries })
		})
	}
}

// TestCompositions: a post is of one composition; after trouble between two of a batch only the second is said again.
func TestCompositions(t *testing.T) {
	r, to := newRig(t), startReceiver(t, func(n int) int { return map[bool]int{true: 500, false: 200}[n == 2] })
	hooks := []Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries}}
	r.poster.Use(hooks)
	list := accepted(0, 3)
	list[1].Composition = "other"
	r.log.add(list...)
	a, b := to.next(t), to.next(t)
	if a.Composition != "main" || len(a.Events) != 2 || b.Composition != "other" || len(b.Events) != 1 {
		t.Errorf("%+v, %+v", a.message, b.message)
	}
	mustBecome(t, "the failure is known", func() bool { return r.count(ResultFailed) == 1 })
	r.poster.Close()
	r.start(func(netip.AddrPort) error { return nil })
	r.poster.Use(hooks)
	if again := to.next(t); again.Composition != "other" || again.Sequence != 2 {
		t.Errorf("again %+v", again.message)
	}
}

// TestGuard: the address that is dialled is asked about, whatever the name in front of it; http is not spoken (threat T20).
func TestGuard(t *testing.T) {
	to := startReceiver(t, nil)
	forbidden := errors.New("forbidden")
	p := newPoster(Config{Clock: &clock.Clock{}, Allowed: func(a netip.AddrPort) error {
		if a.Addr().Unmap().IsLoopback() {
			return forbidden
		}
		return nil
	}})
	_, port, err := net.SplitHostPort(to.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]error{"https://127.0.0.1:" + port: forbidden, "https://localhost:" + port + "/": forbidden,
		"https://a@127.1:" + port: nil, "https://[::ffff:127.0.0.1]:" + port: forbidden, "http://127.0.0.1:" + port: errPlain,
		"file:///etc/passwd": errPlain, "gopher://127.0.0.1:" + port: errPlain}
	for address, want := range rows {
		err := p.post(t.Context(), &Hook{URL: address}, "msg_1", &message{})
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
	}
	if len(to.posts) > 0 {
		t.Error("something came through")
	}
}
