package smtpd

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// book is a Directory of fixed entries.
type book struct {
	networks map[netip.Addr][]Grant
	users    map[string]bookUser
	inbound  map[mail.Domain]Grant
}

type bookUser struct {
	grant Grant
	hash  string
}

func (b *book) ByNetwork(ip netip.Addr) []Grant { return b.networks[ip] }
func (b *book) ByUser(name string) (Grant, string, bool) {
	u, ok := b.users[name]
	return u.grant, u.hash, ok
}
func (b *book) ByRecipientDomain(d mail.Domain) (Grant, bool) {
	g, ok := b.inbound[d]
	return g, ok
}

// hashOf returns what a settings file holds for a secret, at the smallest cost argon2id has.
func hashOf(s string) string {
	salt := []byte("saltsaltsalt")
	sum := argon2.IDKey([]byte(s), salt, 1, 64, 1, 32)
	enc := base64.RawStdEncoding.EncodeToString
	return "argon2id:$argon2id$v=19$m=64,t=1,p=1$" + enc(salt) + "$" + enc(sum)
}

// box is a Submitter that keeps copies.
type box struct {
	mu     sync.Mutex
	got    []mail.Submission
	err    error
	drop   bool          // keep nothing
	full   bool          // who submits has to wait
	waited int           // calls of Submit
	hold   chan struct{} // not nil: Submit waits for it
	came   chan struct{} // not nil: told of every Submit
}

func (b *box) Submit(ctx context.Context, s *mail.Submission) (mail.MessageID, error) {
	b.mu.Lock()
	b.waited++
	b.mu.Unlock()
	return b.take(ctx, s)
}

func (b *box) take(ctx context.Context, s *mail.Submission) (mail.MessageID, error) {
	if b.came != nil {
		b.came <- struct{}{}
	}
	if b.hold != nil {
		select {
		case <-b.hold:
		case <-ctx.Done():
			return mail.MessageID{}, ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drop {
		return mail.MessageID{Lineage: 1, Seq: 2}, nil
	}
	if b.err == errPanic {
		panic(errPanic)
	}
	if b.err != nil {
		return mail.MessageID{}, b.err
	}
	c := *s
	c.Data, c.To = slices.Clone(s.Data), slices.Clone(s.To)
	b.got = append(b.got, c)
	return mail.MessageID{Lineage: 7, Seq: mail.Seq(len(b.got))}, nil
}

func (b *box) SubmitAsync(ctx context.Context, s *mail.Submission, done func(mail.MessageID, error)) {
	b.mu.Lock()
	err := b.err
	b.mu.Unlock()
	if err == errPanic {
		panic(errPanic)
	}
	c := *s
	c.Data, c.To = slices.Clone(s.Data), slices.Clone(s.To)
	go func() { done(b.take(ctx, &c)) }()
}

func (b *box) Crowded() bool { return b.full }

func (b *box) messages() []mail.Submission {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

// What makes box and door panic.
var errPanic = errors.New("panic")

const panicCode = -1

// door is a Gate that tests shut.
type door struct {
	mu    sync.Mutex
	reply smtp.Reply
}

func (d *door) Ready() (bool, smtp.Reply) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reply.Code == panicCode {
		panic("gate")
	}
	return d.reply.IsZero(), d.reply
}

func (d *door) shut(r smtp.Reply) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reply = r
}

// rig is a server with everything that surrounds it.
type rig struct {
	*Server
	box  *box
	door *door
	book *book
}

var loopback = netip.MustParseAddr("127.0.0.1")

func openBook() *book {
	g := Grant{Tenant: "shop", Composition: "main"}
	return &book{
		networks: map[netip.Addr][]Grant{loopback: {g}},
		users:    map[string]bookUser{"app1": {g, hashOf("s3cret")}},
		inbound:  map[mail.Domain]Grant{"bounce.test": g},
	}
}

func mustStart(t *testing.T, cfg Config, b *book) *rig {
	t.Helper()
	if b == nil {
		b = openBook()
	}
	r := mustStartWith(t, cfg, b)
	r.book = b
	return r
}

// swapBook is a Directory whose entries change.
type swapBook struct{ book atomic.Pointer[book] }

func (s *swapBook) ByNetwork(ip netip.Addr) []Grant          { return s.book.Load().ByNetwork(ip) }
func (s *swapBook) ByUser(name string) (Grant, string, bool) { return s.book.Load().ByUser(name) }

func mustStartWith(t *testing.T, cfg Config, d Directory) *rig {
	t.Helper()
	r := &rig{box: &box{}, door: &door{}}
	if cfg.Hostname == "" {
		cfg.Hostname = "mx.test"
	}
	if cfg.Listeners == nil {
		cfg.Listeners = []Listener{{}}
	}
	for i := range cfg.Listeners {
		if cfg.Listeners[i].Address == "" {
			cfg.Listeners[i].Address = "127.0.0.1:0"
		}
	}
	if cfg.TLS == nil {
		cfg.TLS = mustTLS(t)
	}
	s, err := New(cfg, d, r.box, r.door)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r.Server = s
	return r
}

func mustTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"mx.test"}, NotAfter: time.Unix(4e9, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// talker is a client that says exactly what it is told.
type talker struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (r *rig) dial(t *testing.T, listener int) *talker { return r.dialFrom(t, listener, "127.0.0.1") }

func (r *rig) dialFrom(t *testing.T, listener int, ip string) *talker {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", r.Addrs()[listener].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &talker{t, c, bufio.NewReader(c)}
}

func (c *talker) raw(s string) {
	c.t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		c.t.Fatalf("write %q: %v", s, err)
	}
}

// reply reads one reply, its lines joined by "|".
func (c *talker) reply() string {
	var lines []string
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			return strings.Join(append(lines, "closed"), "|")
		}
		l = strings.TrimSuffix(l, "\r\n")
		lines = append(lines, l)
		if len(l) < 4 || l[3] != '-' {
			return strings.Join(lines, "|")
		}
	}
}

func (c *talker) want(prefix string) string {
	c.t.Helper()
	got := c.reply()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got %q, want %q", got, prefix)
	}
	return got
}

// ask sends a command and checks the reply's beginning.
func (c *talker) ask(command, prefix string) string {
	c.t.Helper()
	c.raw(command + "\r\n")
	got := c.reply()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("%.80q: got %q, want %q", command, got, prefix)
	}
	return got
}

// hello gets past the greeting and EHLO.
func (c *talker) hello() *talker {
	c.t.Helper()
	c.want("220 ")
	c.ask("EHLO client.test", "250")
	return c
}

// open begins a transaction.
func (c *talker) open() *talker {
	c.t.Helper()
	c.ask("MAIL FROM:<a@shop.test>", "250 2.1.0")
	c.ask("RCPT TO:<b@mx.test>", "250 2.1.5")
	return c
}

// send sends a body in DATA, dots as they are, and returns the reply.
func (c *talker) send(body string) string {
	c.t.Helper()
	c.ask("DATA", "354 ")
	c.raw(body + ".\r\n")
	return c.reply()
}

func (c *talker) tls() *talker {
	c.t.Helper()
	tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return &talker{c.t, tc, bufio.NewReader(tc)}
}

// starttls goes above TLS and says EHLO again.
func (c *talker) starttls() *talker {
	c.t.Helper()
	c.ask("STARTTLS", "220 ")
	n := c.tls()
	n.ask("EHLO client.test", "250")
	return n
}

func plain(user, pass string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+pass))
}

// eventually waits for a condition of another goroutine.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // polls a socket's other end
	}
}

func TestMessageArrives(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello()
	c.ask("MAIL FROM:<a@shop.test> SIZE=100 BODY=8BITMIME", "250 2.1.0")
	c.ask(`RCPT TO:<"quoted one"@mx.test>`, "250 2.1.5")
	c.ask("RCPT TO:<a..b@docomo.ne.jp>", "250 2.1.5")
	if got := c.send("Subject: x\r\n\r\n..dot\r\n\xe3\x81\x82\r\n"); got != "250 2.0.0 OK id=000000070000000000000001" {
		t.Fatal(got)
	}
	c.ask("QUIT", "221 2.0.0")
	m := r.box.messages()
	if len(m) != 1 {
		t.Fatalf("%d messages", len(m))
	}
	g := m[0]
	if string(g.Data) != "Subject: x\r\n\r\n.dot\r\n\xe3\x81\x82\r\n" || !g.EightBit || g.From != "a@shop.test" ||
		!slices.Equal(g.To, []mail.Address{`"quoted one"@mx.test`, "a..b@docomo.ne.jp"}) || g.Protocol != "ESMTP" ||
		g.Helo != "client.test" || g.Client != loopback || g.Local != loopback || g.Tenant != "shop" || g.Composition != "main" || g.At.IsZero() {
		t.Fatalf("%+v", g)
	}
}
