package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	stdsmtp "net/smtp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

// TestR5TruthTable plays the three access modes against address and AUTH, on both kinds of listener.
func TestR5TruthTable(t *testing.T) {
	const deny, login, ok = "550 5.7.1", "530 5.7.0", "250 2.1.0"
	for _, row := range []struct {
		access            string
		registered        bool
		auth              string // ok, none, bad
		relay, submission string
	}{
		{"either", true, "ok", ok, ok}, {"either", true, "none", ok, login}, {"either", true, "bad", ok, login},
		{"either", false, "ok", ok, ok}, {"either", false, "none", deny, login}, {"either", false, "bad", deny, login},
		{"network", true, "ok", ok, ok}, {"network", true, "none", ok, login}, {"network", true, "bad", ok, login},
		{"network", false, "ok", deny, deny}, {"network", false, "none", deny, login}, {"network", false, "bad", deny, login},
		{"both", true, "ok", ok, ok}, {"both", true, "none", login, login}, {"both", true, "bad", login, login},
		{"both", false, "ok", deny, deny}, {"both", false, "none", deny, login}, {"both", false, "bad", deny, login},
	} {
		t.Run(fmt.Sprintf("%s registered=%v auth=%s", row.access, row.registered, row.auth), func(t *testing.T) {
			g := Grant{Tenant: "shop", Composition: "main", Access: row.access}
			b := openBook()
			b.networks[loopback] = []Grant{g}
			b.users["app1"] = bookUser{g, hashOf("s3cret")}
			r := mustStart(t, Config{Listeners: []Listener{{}, {Role: RoleSubmission}}}, b)
			for i, want := range []string{row.relay, row.submission} {
				from := "127.0.0.1"
				if !row.registered {
					from = "127.0.0.9"
				}
				c := r.dialFrom(t, i, from).hello()
				switch row.auth {
				case "ok":
					c.ask(plain("app1", "s3cret"), "235")
				case "bad":
					c.ask(plain("app1", "wrong"), "535")
				}
				got := c.ask("MAIL FROM:<a@shop.test>", want)
				if strings.HasPrefix(got, "250") {
					c.ask("RCPT TO:<b@mx.test>", "250")
				}
			}
		})
	}
}

func TestR1AddressIsPermitted(t *testing.T) {
	b := openBook()
	r := mustStart(t, Config{}, b)
	r.dial(t, 0).hello().ask("MAIL FROM:<a@x.test>", "250")
	r.dialFrom(t, 0, "127.0.0.2").hello().ask("MAIL FROM:<a@x.test>", "550 5.7.1")
}

func TestR2FromDomainsChooseTheComposition(t *testing.T) {
	b := openBook()
	b.networks[loopback] = []Grant{
		{Tenant: "shop", Composition: "one", FromDomains: []mail.Domain{"one.test", "both.test"}},
		{Tenant: "shop", Composition: "two", FromDomains: []mail.Domain{"two.test", "both.test"}},
	}
	b.users["app1"] = bookUser{Grant{Tenant: "shop", Composition: "two", FromDomains: []mail.Domain{"two.test"}}, hashOf("s3cret")}
	r := mustStart(t, Config{}, b)
	c := r.dial(t, 0).hello()
	send := func(from, want string) {
		t.Helper()
		c.ask("MAIL FROM:<"+from+">", "250")
		c.ask("RCPT TO:<b@mx.test>", "250")
		if got := c.send("x\r\n"); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
		m := r.box.messages()
		if got := m[len(m)-1].Composition; got != want {
			t.Fatalf("%s went to %s", from, got)
		}
	}
	send("a@one.test", "one")
	send("a@TWO.test", "two")
	send("a@two.test", "two")
	send("a@both.test", "one")
	send("", "one")
	c.ask("MAIL FROM:<a@three.test>", "553 5.7.1")
	c.ask("MAIL FROM:<a@sub.one.test>", "553 5.7.1")
	c.ask(plain("app1", "s3cret"), "235")
	c.ask("MAIL FROM:<a@one.test>", "553 5.7.1") // the user decides
	send("a@two.test", "two")
	if m := r.box.messages(); m[len(m)-1].User != "app1" || m[len(m)-1].Protocol != "ESMTPA" {
		t.Fatalf("%+v", m[len(m)-1])
	}
}

func TestWithdrawnGrantEndsInsideASession(t *testing.T) {
	b := openBook()
	swap := &swapBook{}
	swap.book.Store(b)
	srv := mustStartWith(t, Config{Hostname: "mx.test", Listeners: []Listener{{Address: "127.0.0.1:0"}}}, swap)
	c := srv.dial(t, 0).hello()
	c.ask("MAIL FROM:<a@x.test>", "250")
	c.ask("RSET", "250")
	swap.book.Store(&book{})
	eventually(t, "withdrawn", func() bool {
		c.raw("MAIL FROM:<a@x.test>\r\n")
		if strings.HasPrefix(c.reply(), "550 5.7.1") {
			return true
		}
		c.ask("RSET", "250")
		time.Sleep(100 * time.Millisecond) // an answer holds for a second
		return false
	})
}

func TestR8Sessions(t *testing.T) {
	b := openBook()
	g := Grant{Tenant: "shop", Composition: "main", Sessions: 2}
	b.networks[loopback] = []Grant{g}
	b.users["app1"] = bookUser{g, hashOf("s3cret")}
	r := mustStart(t, Config{Listeners: []Listener{{}, {Role: RoleSubmission}}}, b)
	one, two := r.dial(t, 0).hello(), r.dial(t, 0).hello()
	third := r.dial(t, 0)
	third.want("421 4.7.0")
	third.want("closed")
	// by AUTH the composition is known later
	c := r.dialFrom(t, 1, "127.0.0.9").hello()
	c.ask(plain("app1", "s3cret"), "421 4.7.0")
	c.want("closed")
	one.ask("QUIT", "221")
	one.want("closed")
	eventually(t, "a place is free", func() bool { return strings.HasPrefix(r.dial(t, 0).reply(), "220") })
	two.ask("NOOP", "250")
}

func TestR9Interval(t *testing.T) {
	b := openBook()
	b.networks[loopback] = []Grant{{Tenant: "shop", Composition: "main", Interval: 60 * time.Millisecond}}
	r := mustStart(t, Config{}, b)
	c := r.dial(t, 0).hello()
	begin := time.Now()
	for range 5 {
		if got := c.open().send("x\r\n"); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
	}
	if d := time.Since(begin); d < 300*time.Millisecond || d > 3*time.Second {
		t.Fatal(d)
	}
}

func TestR10Size(t *testing.T) {
	b := openBook()
	b.networks[loopback] = []Grant{{Tenant: "shop", Composition: "main", SizeKB: 100}}
	r := mustStart(t, Config{}, b)
	c := r.dial(t, 0)
	c.want("220")
	if got := c.ask("EHLO x", "250"); !strings.Contains(got, "|250-SIZE 102400|") {
		t.Fatal(got)
	}
	line := strings.Repeat("x", 510) + "\r\n"
	if got := c.open().send(strings.Repeat(line, 198)); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	if got := c.open().send(strings.Repeat(line, 202)); !strings.HasPrefix(got, "552 5.3.4") {
		t.Fatal(got)
	}
	c.ask(fmt.Sprintf("MAIL FROM:<a@shop.test> SIZE=%d", 101<<10), "552 5.3.4")
	big := strings.Repeat(line, 202)
	c.open()
	c.raw(fmt.Sprintf("BDAT %d LAST\r\n%s", len(big), big))
	c.want("552 5.3.4")
	c.ask("NOOP", "250")
}

func TestGate(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello()
	r.door.shut(temporary(452, 4, 3, 1, "The disk is nearly full"))
	c.ask("MAIL FROM:<a@shop.test>", "452 4.3.1")
	other := r.dial(t, 0).hello()
	other.ask("MAIL FROM:<a@shop.test>", "452 4.3.1")
	r.door.shut(temporary(421, 4, 3, 2, "This node is sealed"))
	c.ask("MAIL FROM:<a@shop.test>", "421 4.3.2 This node is sealed")
	c.want("closed")
	other.ask("EHLO x", "421 4.3.2")
	r.dial(t, 0).want("421 4.3.2")
}

func TestSubmitErrors(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello()
	for _, row := range []struct {
		err  error
		want string
	}{
		{&Refusal{temporary(550, 5, 7, 1, "No such header\r\n250 OK")}, "550 5.7.1 No such header??250 OK"},
		{fmt.Errorf("intake: %w", &Refusal{temporary(452, 4, 3, 1, "full")}), "452 4.3.1 full"},
		{errors.New("badger: disk on fire at /var/lib"), "451 4.3.0 Local trouble, try again"},
	} {
		r.box.mu.Lock()
		r.box.err = row.err
		r.box.mu.Unlock()
		if got := c.open().send("x\r\n"); got != row.want {
			t.Fatalf("%q, want %q", got, row.want)
		}
	}
	if r.Stats().Deferred.Load() != 2 || r.Stats().Refused.Load() != 1 {
		t.Fatal("not counted")
	}
}

func TestShutdownFinishesOpenTransactions(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	r.box.hold, r.box.came = make(chan struct{}), make(chan struct{}, 1)
	idle, busy, open := r.dial(t, 0).hello(), r.dial(t, 0).hello().open(), r.dial(t, 0).hello().open()
	busy.ask("DATA", "354")
	busy.raw("x\r\n.\r\n")
	<-r.box.came
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- r.Shutdown(ctx)
	}()
	idle.want("421 4.3.2")
	idle.want("closed")
	eventually(t, "no more connections", func() bool {
		c, err := net.Dial("tcp", r.Addrs()[0].String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(r.box.hold)
	busy.want("250 2.0.0")
	busy.want("421 4.3.2")
	if got := open.send("y\r\n"); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	open.want("421 4.3.2")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := r.Stats().Open.Load(); n != 0 {
		t.Fatal(n, "open")
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello().open()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if got := c.reply(); !strings.HasSuffix(got, "closed") {
		t.Fatal(got)
	}
}

func TestPanicEndsOneConnectionOnly(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	other, one, two := r.dial(t, 0).hello(), r.dial(t, 0).hello(), r.dial(t, 0).hello()
	r.box.mu.Lock()
	r.box.err = errPanic
	r.box.mu.Unlock()
	one.open().ask("DATA", "354")
	one.raw("x\r\n.\r\n")
	one.want("421")
	one.want("closed")
	r.door.shut(smtp.Reply{Code: panicCode})
	two.raw("MAIL FROM:<a@shop.test>\r\n")
	two.want("421")
	two.want("closed")
	r.door.shut(smtp.Reply{})
	other.ask("NOOP", "250")
}

// TestClients sends with clients that others wrote.
func TestClients(t *testing.T) {
	r := mustStart(t, Config{Listeners: []Listener{
		{Role: RoleSubmission, TLS: wire.TLSRequired}, {Role: RoleSubmission, TLS: wire.TLSImplicit},
	}}, nil)
	insecure := &tls.Config{InsecureSkipVerify: true}
	body := "Subject: x\r\n\r\n.dot\r\n" + strings.Repeat("0123456789abcdef\r\n", 20000)
	check := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		m := r.box.messages()
		got := m[len(m)-1]
		if string(got.Data) != body || got.Protocol != "ESMTPSA" || got.User != "app1" {
			t.Fatalf("%d octets by %s as %q", len(got.Data), got.Protocol, got.User)
		}
	}
	t.Run("net/smtp", func(t *testing.T) {
		c, err := stdsmtp.Dial(r.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		steps := []func() error{
			func() error { return c.StartTLS(insecure) },
			func() error { return c.Auth(stdsmtp.PlainAuth("", "app1", "s3cret", "127.0.0.1")) },
			func() error { return c.Mail("a@shop.test") },
			func() error { return c.Rcpt("b@mx.test") },
		}
		for i, f := range steps {
			if err := f(); err != nil {
				t.Fatal(i, err)
			}
		}
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
		check(t, w.Close())
		if err := c.Quit(); err != nil {
			t.Fatal(err)
		}
	})
	for name, auth := range map[string]sasl.Client{
		"PLAIN": sasl.NewPlainClient("", "app1", "s3cret"), "LOGIN": sasl.NewLoginClient("app1", "s3cret"),
	} {
		t.Run("go-smtp STARTTLS "+name, func(t *testing.T) {
			c, err := gosmtp.DialStartTLS(r.Addrs()[0].String(), insecure)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Auth(auth); err != nil {
				t.Fatal(err)
			}
			check(t, c.SendMail("a@shop.test", []string{"b@mx.test"}, strings.NewReader(body)))
		})
	}
	t.Run("go-smtp implicit TLS", func(t *testing.T) {
		c, err := gosmtp.DialTLS(r.Addrs()[1].String(), insecure)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Auth(sasl.NewPlainClient("", "app1", "s3cret")); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			check(t, c.SendMail("a@shop.test", []string{"b@mx.test"}, strings.NewReader(body)))
		}
	})
	if n := r.Stats().TLS.Load(); n != 4 {
		t.Fatal(n, "sessions above TLS")
	}
}

func TestAuthIsNotOfferedInTheClear(t *testing.T) {
	r := mustStart(t, Config{Listeners: []Listener{{Role: RoleSubmission, TLS: wire.TLSOptional}}}, nil)
	c := r.dial(t, 0)
	c.want("220")
	if got := c.ask("EHLO x", "250"); strings.Contains(got, "AUTH") || !strings.Contains(got, "STARTTLS") {
		t.Fatal(got)
	}
	c.ask(plain("app1", "s3cret"), "538 5.7.11")
	c = c.starttls()
	c.ask(plain("app1", "s3cret"), "235")
}

func TestConfigValidate(t *testing.T) {
	if err := (&Config{}).Validate(); err == nil {
		t.Fatal("no host name passes")
	}
	if err := (&Config{Hostname: "x", Listeners: []Listener{{TLS: wire.TLSOptional}}}).Validate(); err == nil {
		t.Fatal("TLS without a certificate passes")
	}
}
