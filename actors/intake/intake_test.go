package intake

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// memory is a store that commits at once, from a goroutine of its own as a real one does.
type memory struct {
	mu   sync.Mutex
	next mail.Seq
	all  []*mail.Accepted
	keys map[string]mail.MessageID
	fail error
	sync bool
}

type twin mail.MessageID

func (t twin) Error() string               { return "key used before" }
func (t twin) DuplicateOf() mail.MessageID { return mail.MessageID(t) }

func (m *memory) Allot(n int) mail.Seq {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next += mail.Seq(n)
	return m.next - mail.Seq(n)
}

func (m *memory) Lineage() mail.Lineage { return 7 }

func (m *memory) Put(a *mail.Accepted, done func(error)) {
	err := m.put(a)
	if m.sync {
		done(err)
		return
	}
	go done(err)
}

func (m *memory) put(a *mail.Accepted) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id, ok := m.keys[a.Tenant+"\n"+a.Key]; ok && a.Key != "" {
		return twin(id)
	}
	if m.fail != nil {
		return m.fail
	}
	if m.keys == nil {
		m.keys = map[string]mail.MessageID{}
	}
	m.keys[a.Tenant+"\n"+a.Key] = a.ID
	m.all = append(m.all, a)
	return nil
}

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.FixedZone("JST", 9*3600))

// rig is an intake with one composition, its store, and what it offered.
type rig struct {
	*Intake
	store *memory
	jobs  chan []mail.Job
	log   *bytes.Buffer
}

func newRig(t testing.TB, edit func(*settings.Composition)) *rig {
	t.Helper()
	s := settings.Default()
	if edit != nil {
		edit(&s.Tenants[0].Compositions[0])
	}
	s.Fill()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	x, err := settings.NewIndex(s)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{store: &memory{next: 1000}, jobs: make(chan []mail.Job, 1<<12), log: &bytes.Buffer{}}
	r.Intake, err = New(Config{
		Store: r.store, Settings: func() *settings.Index { return x }, Offer: func(j []mail.Job) { r.jobs <- j },
		Hostname: "relay.example.jp", Clock: &clock.Clock{}, Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) mustSubmit(t testing.TB, s *mail.Submission) *mail.Accepted {
	t.Helper()
	id, err := r.Submit(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	a := r.store.all[len(r.store.all)-1]
	if a.ID != id {
		t.Fatalf("id %v, stored %v", id, a.ID)
	}
	return a
}

func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

func submission(data string, to ...mail.Address) *mail.Submission {
	if len(to) == 0 {
		to = []mail.Address{"a@docomo.ne.jp"}
	}
	return &mail.Submission{
		Tenant: "default", Composition: "default", Client: netip.MustParseAddr("192.0.2.7"), Local: netip.MustParseAddr("2001:db8::1"),
		Helo: "app.shop.example", Protocol: "ESMTP", From: "info@shop.example", To: to, Data: crlf(data), At: noon,
	}
}

const plainMail = "From: Shop <info@shop.example>\nSubject: =?ISO-2022-JP?B?GyRCJDMkcyRLJEEkTxsoQg==?=\nMessage-ID: <1@shop.example>\n\nHello\n"

func TestReceivedModes(t *testing.T) {
	const data = "Received: from x by y; z\nSubject: a\nReceived: from v\n by w; u\n\nbody\n"
	const date = "Wed, 01 Jul 2026 12:00:00 +0900"
	tests := []struct{ mode, want string }{
		{"short", "Received: from app.shop.example by relay.example.jp; " + date + "\n" + data},
		{"normal", "Received: from app.shop.example (app.shop.example [192.0.2.7])" +
			" by relay.example.jp (relay.example.jp [IPv6:2001:db8::1]); " + date + "\n" + data},
		{"keep", data},
		{"strip", "Subject: a\n\nbody\n"},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			r := newRig(t, func(c *settings.Composition) { c.Received = tt.mode })
			a := r.mustSubmit(t, submission(data))
			if string(a.Body) != string(crlf(tt.want)) {
				t.Errorf("got  %q\nwant %q", a.Body, crlf(tt.want))
			}
			if a.Deliveries[0].Size != len(a.Body) {
				t.Errorf("size %d of %d", a.Deliveries[0].Size, len(a.Body))
			}
		})
	}
}

func TestHostileHelo(t *testing.T) {
	tests := []struct{ name, helo, want string }{
		{"line break", "a\r\nX-Evil: 1", "a??X-Evil:?1"},
		{"comment", "a (b", "a??b"},
		{"literal", "[192.0.2.1]", "[192.0.2.1]"},
		{"empty", "", "unknown"},
		{"long", strings.Repeat("h", 5000), strings.Repeat("h", maxName)},
		{"not ASCII", "ホスト", strings.Repeat("?", 9)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *settings.Composition) { c.Received = "normal" })
			s := submission("Subject: a\n\n")
			s.Helo = tt.helo
			a := r.mustSubmit(t, s)
			line, rest, _ := strings.Cut(string(a.Body), "\r\n")
			if !strings.HasPrefix(line, "Received: from "+tt.want+" (") || rest != "Subject: a\r\n\r\n" || len(line) > 998 {
				t.Errorf("got %q", a.Body)
			}
		})
	}
}

// TestSignatureSurvives: a message signed by the customer verifies after every mode that leaves what was signed.
func TestSignatureSurvives(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	record := "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub)
	data := string(crlf("Received: from x by y; z\n" + plainMail + strings.Repeat("line\n\n", 50)))
	tests := []struct {
		mode         string
		signReceived bool
		valid        bool
	}{
		{"short", false, true}, {"normal", false, true}, {"keep", true, true}, {"strip", false, true}, {"strip", true, false},
	}
	for _, tt := range tests {
		for _, canon := range []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed} {
			t.Run(tt.mode+" "+string(canon), func(t *testing.T) {
				headers := []string{"From", "Subject", "Message-ID"}
				if tt.signReceived {
					headers = append(headers, "Received")
				}
				var signed bytes.Buffer
				err := dkim.Sign(&signed, strings.NewReader(data), &dkim.SignOptions{
					Domain: "shop.example", Selector: "s1", Signer: key, Hash: crypto.SHA256, HeaderKeys: headers,
					HeaderCanonicalization: canon, BodyCanonicalization: canon,
				})
				if err != nil {
					t.Fatal(err)
				}
				steering := "X-Relay-Group: g\r\nX-KAEDE-Cleaning: true\r\nX-Relay-Lifetime:\r\n 3600\r\n"
				s := submission("")
				s.Data = []byte(steering + signed.String())
				r := newRig(t, func(c *settings.Composition) { c.Received = tt.mode })
				a := r.mustSubmit(t, s)
				if d := a.Deliveries[0]; d.Signers == "" || d.Group != "g" || !d.Cleaning || d.Expires.Sub(noon) != time.Hour {
					t.Errorf("delivery %+v", d)
				}
				v, err := dkim.VerifyWithOptions(bytes.NewReader(a.Body), &dkim.VerifyOptions{
					LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
				})
				if err != nil || len(v) != 1 {
					t.Fatalf("%v, %v", v, err)
				}
				if (v[0].Err == nil) != tt.valid {
					t.Errorf("verdict %v, want valid %v", v[0].Err, tt.valid)
				}
			})
		}
	}
}

func TestSplit(t *testing.T) {
	r := newRig(t, nil)
	s := submission(plainMail, "A@docomo.ne.jp", "x@-bad.example", "a@docomo.ne.jp", "A@docomo.ne.jp", "..d@EZweb.ne.jp")
	s.User = "app1"
	a := r.mustSubmit(t, s)
	if len(a.Deliveries) != 3 || len(a.Events) != 5 {
		t.Fatalf("%d deliveries, %d events", len(a.Deliveries), len(a.Events))
	}
	for i, want := range []struct {
		seq    mail.Seq
		to     mail.Address
		domain mail.Domain
	}{{1000, "A@docomo.ne.jp", "docomo.ne.jp"}, {1002, "a@docomo.ne.jp", "docomo.ne.jp"}, {1003, "..d@EZweb.ne.jp", "ezweb.ne.jp"}} {
		d := a.Deliveries[i]
		if d.Seq != want.seq || d.To != want.to || d.Domain != want.domain || d.Message != a.ID || d.Priority != NormalPriority ||
			d.Pool != "default" || !d.Due.Equal(noon) || d.Expires.Sub(noon) != 30*time.Minute || d.RetryEvery != time.Minute {
			t.Errorf("delivery %d: %+v", i, d)
		}
	}
	kinds := ""
	for _, e := range a.Events {
		kinds += e.Kind.String() + " "
		if e.Message != a.ID || e.Tenant != "default" || e.From != s.From {
			t.Errorf("event %+v", e)
		}
	}
	if kinds != "accepted accepted failed accepted accepted " {
		t.Errorf("events: %s", kinds)
	}
	if e := a.Events[2]; e.Status != mail.StatusFormat || e.To != "x@-bad.example" || e.Delivery != 1001 || e.Detail == "" {
		t.Errorf("failed event %+v", e)
	}
	e := a.Events[0]
	if e.HeaderFrom != "info@shop.example" || e.HeaderID != "<1@shop.example>" || e.Subject != "こんにちは" || e.User != "app1" ||
		e.Size != len(a.Body) || e.Client != s.Client || e.Composition != "default" || !e.Due.IsZero() {
		t.Errorf("accepted event %+v", e)
	}
	jobs := <-r.jobs
	if len(jobs) != 3 || jobs[2].Delivery.Seq != 1003 || !bytes.Equal(jobs[0].Body, a.Body) {
		t.Errorf("offered %+v", jobs)
	}
}

func TestAllMalformed(t *testing.T) {
	r := newRig(t, nil)
	a := r.mustSubmit(t, submission(plainMail, "x@-bad.example"))
	if len(a.Deliveries) != 0 || len(a.Events) != 2 {
		t.Errorf("%d deliveries, %d events", len(a.Deliveries), len(a.Events))
	}
	if len(r.jobs) != 0 {
		t.Error("offered what is not to be delivered")
	}
}

func TestDirectivesApplied(t *testing.T) {
	later := noon.Add(2 * time.Hour)
	tests := []struct {
		name, header string
		edit         func(*settings.Composition)
		check        func(d *mail.Delivery, e *mail.Event) bool
	}{
		{"reservation", "X-KAEDE-Appoint: 1782882000\n", nil, func(d *mail.Delivery, e *mail.Event) bool {
			return d.Reserved && d.Due.Equal(later) && d.Expires.Equal(later.Add(30*time.Minute)) && e.Due.Equal(later)
		}},
		{"reservation in RFC 3339", "X-Relay-Start-Time: 2026-07-01T14:00:00+09:00\n", nil, func(d *mail.Delivery, e *mail.Event) bool {
			return d.Reserved && d.Due.Equal(later)
		}},
		{"reservation in the past", "X-KAEDE-Appoint: 1\n", nil, func(d *mail.Delivery, e *mail.Event) bool {
			return !d.Reserved && d.Due.Equal(noon) && e.Due.IsZero()
		}},
		{"lifetime and retry", "X-Relay-Lifetime: 120\nX-Relay-Retry-Interval: 30\n", nil, func(d *mail.Delivery, _ *mail.Event) bool {
			return d.Expires.Sub(noon) == 2*time.Minute && d.RetryEvery == 30*time.Second
		}},
		{"lifetime out of range", "X-Relay-Lifetime: 5\n", nil, func(d *mail.Delivery, _ *mail.Event) bool {
			return d.Expires.Sub(noon) == 30*time.Minute
		}},
		{"cleaning by default", "", func(c *settings.Composition) { c.CleaningDefault = true }, func(d *mail.Delivery, e *mail.Event) bool {
			return d.Cleaning && e.Cleaning
		}},
		{"group of a chosen header", "X-Campaign: c\n", func(c *settings.Composition) { c.Headers.Group = "X-Campaign" }, func(d *mail.Delivery, e *mail.Event) bool {
			return d.Group == "c" && e.Group == "c"
		}},
		{"priority by header", "X-P: high\n", priorities, func(d *mail.Delivery, _ *mail.Event) bool { return d.Priority == 90 }},
		{"priority needs the whole value", "X-P: higher\n", priorities, func(d *mail.Delivery, _ *mail.Event) bool { return d.Priority == 20 }},
		{"priority by the envelope recipient", "To: someone@else.example\n", priorities, func(d *mail.Delivery, _ *mail.Event) bool { return d.Priority == 20 }},
		{"API data", "X-Api-Data: CMC00123\n", nil, func(_ *mail.Delivery, e *mail.Event) bool { return e.APIData == "CMC00123" }},
		{"no subject kept", "", func(c *settings.Composition) { no := false; c.StoreSubject = &no }, func(_ *mail.Delivery, e *mail.Event) bool {
			return e.Subject == ""
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.edit)
			a := r.mustSubmit(t, submission(tt.header+plainMail))
			if !tt.check(&a.Deliveries[0], &a.Events[0]) {
				t.Errorf("delivery %+v\nevent %+v", a.Deliveries[0], a.Events[0])
			}
			kept := bytes.Contains(a.Body, []byte("X-P")) || bytes.Contains(a.Body, []byte("To:")) || bytes.Contains(a.Body, []byte("X-Api"))
			if tt.header != "" && !kept && !bytes.HasSuffix(a.Body, append([]byte("+0900\r\n"), crlf(plainMail)...)) {
				t.Errorf("body %q", a.Body)
			}
		})
	}
}

func priorities(c *settings.Composition) {
	c.Priority = []settings.Priority{
		{Filter: settings.Filter{Name: "absent", Header: "X-Absent", Pattern: ".*"}, Priority: 99},
		{Filter: settings.Filter{Name: "urgent", Header: "x-p", Pattern: "high"}, Priority: 90},
		{Filter: settings.Filter{Name: "docomo", Header: "to", Pattern: `.+@docomo\.ne\.jp`}, Priority: 20},
	}
}

func TestFlags(t *testing.T) {
	tests := []struct {
		name, data    string
		to            mail.Address
		utf8          bool
		eight, smtpU8 bool
	}{
		{"ASCII", "Subject: a\n\nb\n", "a@b.example", true, false, false},
		{"8-bit body", "Subject: a\n\nあ\n", "a@b.example", true, true, false},
		{"UTF-8 header", "Subject: あ\n\nb\n", "a@b.example", true, true, true},
		{"raw header without SMTPUTF8", "Subject: あ\n\nb\n", "a@b.example", false, true, false},
		{"UTF-8 recipient", "Subject: a\n\nb\n", "あ@b.example", true, false, true},
		{"U-label domain only", "Subject: a\n\nb\n", "a@日本.jp", true, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := submission(tt.data, tt.to)
			s.UTF8 = tt.utf8
			d := newRig(t, nil).mustSubmit(t, s).Deliveries[0]
			if d.EightBit != tt.eight || d.UTF8 != tt.smtpU8 {
				t.Errorf("8-bit %v, SMTPUTF8 %v", d.EightBit, d.UTF8)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name string
		s    *mail.Submission
		code int
		enh  string
	}{
		{"loop", submission(strings.Repeat("Received: x\n", 100) + "\n"), 554, "5.4.6"},
		{"no recipients", &mail.Submission{Tenant: "default", Composition: "default"}, 554, "5.5.1"},
		{"composition gone", &mail.Submission{Tenant: "default", Composition: "old"}, 451, "4.3.5"},
		{"group stopped", submission("X-Relay-Group: campaign\n\n"), 451, "4.3.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.Stopped = func(tenant, group string) bool { return tenant == "default" && group == "campaign" }
			_, err := r.Submit(context.Background(), tt.s)
			var told interface{ SMTPReply() smtp.Reply }
			if !errors.As(err, &told) {
				t.Fatalf("got %v", err)
			}
			if got := told.SMTPReply(); got.Code != tt.code || got.Enhanced.String() != tt.enh || got.Text == "" {
				t.Errorf("told %v", got)
			}
			if len(r.store.all) != 0 {
				t.Error("stored all the same")
			}
		})
	}
	r := newRig(t, nil)
	r.mustSubmit(t, submission(strings.Repeat("Received: x\n", 99)+"\n"))
}

// TestNullSender: where FROM domains are registered, the null sender is judged by the header From (E-25, R2).
func TestNullSender(t *testing.T) {
	registered := func(c *settings.Composition) { c.FromDomains = []string{"shop.example", "News.example"} }
	tests := []struct {
		name, header string
		from         mail.Address
		edit         func(*settings.Composition)
		taken        bool
	}{
		{"registered", "From: Shop <info@Shop.example>\n", "", registered, true},
		{"registered, bare and folded", "from:\n info@news.example\n", "", registered, true},
		{"not registered", "From: info@other.example\n", "", registered, false},
		{"below a registered one", "From: info@a.shop.example\n", "", registered, false},
		{"registered in the display name only", "From: \"info@shop.example\" <info@other.example>\n", "", registered, false},
		{"registered in a comment only", "From: info@other.example (info@shop.example)\n", "", registered, false},
		{"with a comment, as mailer daemons write it", "From: MAILER-DAEMON@shop.example (Mail Delivery System)\n", "", registered, true},
		{"comment left open", "From: info@other.example (info@shop.example\n", "", registered, false},
		{"bracket left open", "From: info@other.example <info@shop.example\n", "", registered, false},
		{"second From", "From: info@other.example\nFrom: info@shop.example\n", "", registered, false},
		{"no From", "Subject: a\n", "", registered, false},
		{"no address in From", "From: Shop\n", "", registered, false},
		{"From is empty", "From: <>\n", "", registered, false},
		{"none registered: any", "From: info@other.example\n", "", nil, true},
		{"none registered: no From", "Subject: a\n", "", nil, true},
		{"an envelope sender decides alone", "From: info@other.example\n", "b@shop.example", registered, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.edit)
			s := submission(tt.header + "\nbody\n")
			s.From = tt.from
			_, err := r.Submit(context.Background(), s)
			var no *Refusal
			switch {
			case tt.taken && err != nil:
				t.Errorf("refused: %v", err)
			case !tt.taken && !errors.As(err, &no):
				t.Errorf("got %v", err)
			case !tt.taken && (no.SMTPReply().Code != 553 || no.SMTPReply().Enhanced.String() != "5.7.1" || len(r.store.all) > 0):
				t.Errorf("told %v with %d stored", no.SMTPReply(), len(r.store.all))
			}
		})
	}
}

func TestIdempotency(t *testing.T) {
	r := newRig(t, nil)
	first := r.mustSubmit(t, submission("X-Relay-Idempotency-Key: order 17\n"+plainMail))
	<-r.jobs
	id, err := r.Submit(context.Background(), submission("x-relay-idempotency-key: order 17\n"+plainMail))
	if err != nil || id != first.ID {
		t.Errorf("got %v, %v; want %v", id, err, first.ID)
	}
	if len(r.store.all) != 1 || len(r.jobs) != 0 {
		t.Errorf("%d stored, %d offered again", len(r.store.all), len(r.jobs))
	}
}

// TestFirstLine: nothing stands in front of the header section. What no field can be joined to is refused, and the line of an
// mbox file goes, so that the steering headers behind it are obeyed and removed.
func TestFirstLine(t *testing.T) {
	const steered = "X-Relay-Group: g\n" + plainMail
	tests := []struct {
		name, data string
		left       string // behind our Received; "" = refused
	}{
		{"blank", " \n" + steered, ""},
		{"blank and text", " X: y\n" + steered, ""},
		{"tab", "\tX: y\n" + steered, ""},
		{"mbox", "From a@shop.example Wed Jul  1 12:00:00 2026\n" + steered, plainMail},
		{"mbox, then a blank", "From a@shop.example Wed Jul  1 12:00:00 2026\n x\n" + steered, ""},
		{"a field with a blank before its colon", "From : a@shop.example\n" + steered, "From : a@shop.example\n" + plainMail},
		{"no header", "\n From the body\n", "\n From the body\n"},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			s := submission(tt.data)
			_, err := r.Submit(context.Background(), s)
			if tt.left == "" && tt.data != "" {
				var no *Refusal
				if !errors.As(err, &no) || no.SMTPReply().Code != 554 || no.SMTPReply().Enhanced.String() != "5.6.0" || len(r.store.all) > 0 {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := r.store.all[0].Body; !strings.HasPrefix(string(got), "Received: ") || !bytes.HasSuffix(got, append([]byte("\r\n"), crlf(tt.left)...)) {
				t.Errorf("got %q", got)
			}
			if strings.Contains(tt.data, "X-Relay") && (r.store.all[0].Deliveries[0].Group != "g" || bytes.Contains(r.store.all[0].Body, []byte("X-Relay"))) {
				t.Errorf("not obeyed: %q", r.store.all[0].Body)
			}
			if string(s.Data) != string(crlf(tt.data)) {
				t.Error("the submission was changed")
			}
		})
	}
}

// TestHopsAreCounted: a message that passed a hundred hosts is in a loop.
func TestHopsAreCounted(t *testing.T) {
	for _, tt := range []struct {
		hops  int
		taken bool
	}{{99, true}, {100, false}} {
		r := newRig(t, nil)
		_, err := r.Submit(context.Background(), submission(strings.Repeat("Received: from a by b; c\n", tt.hops)+plainMail))
		var no *Refusal
		switch {
		case tt.taken && err != nil:
			t.Errorf("%d hops: %v", tt.hops, err)
		case !tt.taken && (!errors.As(err, &no) || no.SMTPReply().Enhanced.String() != "5.4.6"):
			t.Errorf("%d hops: %v", tt.hops, err)
		}
	}
}

// TestIdempotencyKeyOfSplitMail: a client that puts some of the recipients into each transaction gives all of them one key.
func TestIdempotencyKeyOfSplitMail(t *testing.T) {
	const data = "X-Relay-Idempotency-Key: order 17\n" + plainMail
	tests := []struct {
		name   string
		to     []mail.Address
		stored bool
	}{
		{"the first", []mail.Address{"a@x.test", "b@x.test"}, true},
		{"the same again", []mail.Address{"a@x.test", "b@x.test"}, false},
		{"in another order, one twice, domain in capitals", []mail.Address{"b@X.TEST", "a@x.test", "b@x.test"}, false},
		{"the other recipients", []mail.Address{"c@x.test", "d@x.test"}, true},
		{"one of the first", []mail.Address{"a@x.test"}, true},
		{"capitals that only the receiver can judge", []mail.Address{"A@x.test", "b@x.test"}, true},
		{"the other recipients again", []mail.Address{"d@x.test", "c@x.test"}, false},
	}
	r := newRig(t, nil)
	stored := 0
	for _, tt := range tests {
		if _, err := r.Submit(context.Background(), submission(data, tt.to...)); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if tt.stored {
			stored++
			<-r.jobs
		}
		if len(r.store.all) != stored {
			t.Fatalf("%s: %d stored, want %d", tt.name, len(r.store.all), stored)
		}
	}
}

func TestStoreFails(t *testing.T) {
	r := newRig(t, nil)
	r.store.fail = errors.New("disk full")
	if _, err := r.Submit(context.Background(), submission(plainMail)); !errors.Is(err, r.store.fail) {
		t.Errorf("got %v", err)
	}
	if len(r.jobs) != 0 {
		t.Error("offered what is not stored")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Submit(ctx, submission(plainMail)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestWarnings(t *testing.T) {
	r := newRig(t, nil)
	r.mustSubmit(t, submission("X-KAEDE-Appoint: abc\n"+plainMail))
	if !strings.Contains(r.log.String(), "X-KAEDE-Appoint") {
		t.Errorf("log %q", r.log)
	}
}

func BenchmarkSubmit1K(b *testing.B) {
	r := newRig(b, nil)
	r.Offer = func([]mail.Job) {}
	r.store.sync = true
	s := submission("From: Shop <info@shop.example>\nTo: a@docomo.ne.jp\nSubject: your order of today\n" +
		"Date: Wed, 01 Jul 2026 12:00:00 +0900\nMessage-ID: <20260701120000.17@shop.example>\nMIME-Version: 1.0\n\n" +
		strings.Repeat("line of text that is about sixty characters long, as usual\n", 16))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Submit(context.Background(), s); err != nil {
			b.Fatal(err)
		}
		r.store.all = r.store.all[:0]
	}
}
