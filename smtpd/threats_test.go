package smtpd

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/secret"
	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

func TestT1NothingBehindStartTLSIsExecuted(t *testing.T) {
	r := mustStart(t, Config{Listeners: []Listener{{TLS: wire.TLSOptional}}}, nil)
	t.Run("same segment", func(t *testing.T) {
		c := r.dial(t, 0).hello()
		c.raw("STARTTLS\r\nMAIL FROM:<x@shop.test>\r\n")
		c.want("503 5.5.1")
		c.want("closed")
	})
	t.Run("one octet", func(t *testing.T) {
		c := r.dial(t, 0).hello()
		c.raw("STARTTLS\r\nR")
		c.want("503 5.5.1")
		c.want("closed")
	})
	t.Run("before the handshake", func(t *testing.T) {
		c := r.dial(t, 0).hello()
		c.ask("STARTTLS", "220")
		c.raw("MAIL FROM:<x@shop.test>\r\n")
		for { // an alert at most, then the end
			b, err := c.r.ReadByte()
			if err != nil {
				break
			}
			if b == '2' || b == '5' {
				t.Fatal("answered in the clear")
			}
		}
	})
	t.Run("state", func(t *testing.T) {
		c := r.dial(t, 0).hello()
		c.ask("MAIL FROM:<x@shop.test>", "250")
		c.ask("STARTTLS", "503")
		c.ask("RSET", "250")
		c.ask("STARTTLS", "220")
		c = c.tls()
		c.ask("MAIL FROM:<x@shop.test>", "503 5.5.1")
		c.ask("RCPT TO:<x@mx.test>", "503 5.5.1")
	})
	if n := len(r.box.messages()); n != 0 {
		t.Fatal(n)
	}
}

func TestT4Injection(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello()
	for _, params := range []string{
		"ENVID=a+0D+0AX:y", "ENVID=a+00b", "ENVID=+", "ENVID=+A", "ENVID=+0d", "ENVID=", "AUTH=", "AUTH=+", "AUTH=a+0Ab@c",
		"AUTH=a=b", "BODY=8BIT", "BODY=", "BODY", "SIZE=", "SIZE=-1", "SIZE=1e3", "SIZE=1 SIZE=1", "RET=NONE", "SMTPUTF8=",
		"=", "=x", "A==b", "SIZE=123456789012345678901",
	} {
		c.ask("MAIL FROM:<a@shop.test> "+params, "501 5.5.4")
		c.ask("MAIL FROM:<a@shop.test>", "250") // nothing of the refused command stays
		c.ask("RSET", "250")
		if got := c.open().send("x\r\n"); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
	}
	c.ask("MAIL FROM:<a@shop.test> AUTH=<> SIZE=1 BODY=7BIT", "250")
	for _, params := range []string{
		"ORCPT=rfc822;a+00b", "ORCPT=rfc822;a+0D+0Ab", "ORCPT=a@b", "ORCPT=;a", "NOTIFY=NEVER,SUCCESS", "NOTIFY=", "NOTIFY=NEVER NOTIFY=NEVER",
		"ORCPT=rfc822;a+b",
	} {
		c.ask("RCPT TO:<b@mx.test> "+params, "501 5.5.4")
	}
	c.ask("RSET", "250")
	c.ask("EHLO a\rb", "501")
}

// relayPairs are the envelope pairs of nmap's smtp-open-relay and some more (threat T5).
var relayPairs = []struct{ from, to string }{
	{"", "relaytest@other.test"}, {"antispam@other.test", "relaytest@other.test"}, {"antispam", "relaytest@other.test"},
	{"antispam@mx.test", "relaytest@other.test"}, {"antispam@[127.0.0.1]", "relaytest@other.test"},
	{"antispam@[127.0.0.1]", "relaytest%other.test@[127.0.0.1]"}, {"antispam@[127.0.0.1]", "relaytest%other.test@mx.test"},
	{"antispam@[127.0.0.1]", `"relaytest@other.test"`}, {"antispam@[127.0.0.1]", `"relaytest%other.test"`},
	{"antispam@[127.0.0.1]", "relaytest@other.test@[127.0.0.1]"}, {"antispam@[127.0.0.1]", `"relaytest@other.test"@[127.0.0.1]`},
	{"antispam@[127.0.0.1]", "relaytest@other.test@mx.test"}, {"antispam@[127.0.0.1]", "@[127.0.0.1]:relaytest@other.test"},
	{"antispam@[127.0.0.1]", "@mx.test:relaytest@other.test"}, {"antispam@[127.0.0.1]", "other.test!relaytest"},
	{"antispam@[127.0.0.1]", "other.test!relaytest@[127.0.0.1]"}, {"antispam@[127.0.0.1]", "other.test!relaytest@mx.test"},
	{"a@shop.test", "user"}, {"a@shop.test", `"a@b"`}, {"a@shop.test", `"a%b"@mx.test`}, {"a@shop.test", "a%b@mx.test"},
	{"a@shop.test", "a!b@mx.test"}, {"a@shop.test", "b!a"}, {"a@shop.test", "a@b@mx.test"}, {"a@shop.test", "@mx.test:a@b"},
	{"a@shop.test", "@mx.test,@x:a@b"}, {"a@shop.test", "a@[127.0.0.1]"}, {"a@shop.test", "a@[IPv6:::1]"}, {"a@shop.test", "a@b."},
	{"a@shop.test", "a@b%00mx.test"}, {"A@SHOP.TEST", "A@OTHER.TEST"}, {"a@xn--r8jz45g.test", "a@xn--r8jz45g.test"},
	{"a@shop.test", "postmaster"}, {"postmaster", "postmaster"},
}

func refused(got string) bool {
	return strings.HasPrefix(got, "550 5.7.1") || strings.HasPrefix(got, "530 5.7.0")
}

func TestT5NoOpenRelay(t *testing.T) {
	b := openBook()
	cfg := Config{Listeners: []Listener{
		{TLS: wire.TLSOptional}, {Role: RoleSubmission, TLS: wire.TLSOptional}, {}, {Role: RoleSubmission},
	}, Limits: wire.Limits{Junk: 1000}, Auth: AuthLimits{Failures: 100, Delay: time.Microsecond, Burst: 1000}}
	r := mustStart(t, cfg, b)
	try := func(t *testing.T, c *talker) {
		t.Helper()
		for _, p := range relayPairs {
			// each command on its own, whatever was answered before it
			for _, command := range []string{"MAIL FROM:<" + p.from + ">", "RCPT TO:<" + p.to + ">", "DATA"} {
				if got := c.ask(command, "5"); !refused(got) {
					t.Errorf("%s: %s", command, got)
				}
			}
		}
		c.raw("RCPT TO:<a@\xe4\xbe\x8b.test>\r\n")
		if got := c.reply(); !refused(got) {
			t.Error(got)
		}
	}
	for i := range cfg.Listeners {
		from := "127.0.0.9" // not registered
		if cfg.Listeners[i].Role == RoleSubmission {
			from = "127.0.0.1" // registered, which is not enough there
		}
		t.Run(fmt.Sprintf("listener %d", i), func(t *testing.T) {
			c := r.dialFrom(t, i, from)
			c.want("220")
			try(t, c) // before EHLO
			c.ask("EHLO x", "250")
			try(t, c)
			c.ask("RSET", "250")
			try(t, c)
			if cfg.Listeners[i].TLS == wire.TLSOptional {
				c = c.starttls()
				try(t, c)
			}
			c.ask(plain("app1", "wrong"), "535")
			try(t, c)
			c.ask(plain("nobody", "s3cret"), "535")
			try(t, c)
		})
	}
	if n := len(r.box.messages()); n != 0 {
		t.Fatal(n, "messages")
	}
}

func TestT6GuessesAreThrottledAlike(t *testing.T) {
	cfg := Config{Listeners: []Listener{{Role: RoleSubmission}},
		Auth: AuthLimits{Failures: 1000, Delay: time.Nanosecond, Burst: 10, Every: time.Hour}}
	r := mustStart(t, cfg, nil)
	verdicts := func(ip, user string) string {
		c := r.dialFrom(t, 0, ip).hello()
		out := ""
		for range 12 {
			out += c.ask(plain(user, "guess"), "")[:3] + " "
		}
		return out
	}
	real, fake := verdicts("127.0.0.2", "app1"), verdicts("127.0.0.3", "nobody")
	if real != fake || strings.Count(real, "535") != 10 || strings.Count(real, "454") != 2 {
		t.Fatalf("%s\n%s", real, fake)
	}
	// the user's bucket is empty from every address
	if got := verdicts("127.0.0.4", "app1"); strings.Contains(got, "535") {
		t.Fatal(got)
	}
}

func TestT6VerifiedSecretIsRememberedAndSurvivesAttack(t *testing.T) {
	cfg := Config{Listeners: []Listener{{Role: RoleSubmission}},
		Auth: AuthLimits{Failures: 1000, Delay: time.Nanosecond, Burst: 3, Every: time.Hour}}
	r := mustStart(t, cfg, nil)
	r.dial(t, 0).hello().ask(plain("app1", "s3cret"), "235")
	c := r.dialFrom(t, 0, "127.0.0.5").hello()
	for range 5 {
		c.ask(plain("app1", "guess"), "")
	}
	r.dial(t, 0).hello().ask(plain("app1", "s3cret"), "235")
	// a changed secret ends what was remembered
	r.book.users["app1"] = bookUser{r.book.users["app1"].grant, hashOf("other")}
	r.dialFrom(t, 0, "127.0.0.6").hello().ask(plain("app1", "s3cret"), "454")
}

func TestT6ManyConnections(t *testing.T) {
	cfg := Config{Listeners: []Listener{{Role: RoleSubmission}}, Auth: AuthLimits{Delay: time.Millisecond, Burst: 5, Every: time.Hour}}
	r := mustStart(t, cfg, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	looked := 0
	for i := range 40 {
		c := r.dialFrom(t, 0, "127.0.0.7").hello()
		wg.Go(func() {
			for range 5 {
				c.raw(plain(fmt.Sprint("user", i), "guess") + "\r\n")
				if strings.HasPrefix(c.reply(), "535") {
					mu.Lock()
					looked++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if looked != 5 {
		t.Fatalf("%d guesses were verified", looked)
	}
}

func TestT7SlowConnectionsCostLittle(t *testing.T) {
	const n = 1000
	cfg := Config{Listeners: []Listener{{}}, PerAddress: n, Limits: wire.Limits{Idle: time.Minute}}
	r := mustStart(t, cfg, nil)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	conns := make([]*talker, n)
	for i := range conns {
		c := r.dialFrom(t, 0, fmt.Sprintf("127.0.1.%d", 1+i%200))
		conns[i] = c
		c.want("220")
		switch i % 3 {
		case 0:
		case 1:
			c.ask("EHLO slow", "250")
		case 2:
			c.raw("EHL")
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	// both ends live in this process: the client's buffer is counted too
	per := (int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)) / n
	t.Logf("%d octets per connection, client's 4 KiB included", per)
	if per > 32<<10 {
		t.Fatal(per)
	}
	begin := time.Now()
	if got := r.dial(t, 0).hello().open().send("x\r\n"); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	if d := time.Since(begin); d > time.Second {
		t.Fatal(d)
	}
}

// TestShortMemoryIsTemporary: what finds no memory is told to come again, however much of it had to be thrown away on this
// connection.
func TestShortMemoryIsTemporary(t *testing.T) {
	b := openBook()
	b.networks[loopback] = []Grant{{Tenant: "shop", Composition: "main", SizeKB: 10 << 10}}
	r := mustStart(t, Config{Limits: wire.Limits{Memory: 1 << 10, Discard: 1 << 20}}, b)
	line := strings.Repeat("x", 98) + "\r\n"
	for _, row := range []struct {
		name   string
		octets int
		ends   bool
	}{
		{"many bodies of one connection", 600 << 10, false}, {"one body", 2 << 20, true},
	} {
		body := strings.Repeat(line, row.octets/len(line))
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, BDAT %v", row.name, chunked), func(t *testing.T) {
				c := r.dial(t, 0).hello()
				for range 4 {
					c.open()
					if chunked {
						go func() { _, _ = fmt.Fprintf(c, "BDAT %d LAST\r\n%s", len(body), body) }()
					} else {
						c.ask("DATA", "354")
						go func() { _, _ = io.WriteString(c, body+".\r\n") }()
					}
					c.want("452 4.3.1")
					if row.ends {
						return
					}
				}
				if got := c.open().send("x\r\n"); !strings.HasPrefix(got, "250") {
					t.Fatal(got)
				}
			})
		}
	}
}

func TestT7FullHouseEvictsTheMostSilent(t *testing.T) {
	r := mustStart(t, Config{PerAddress: 2, Limits: wire.Limits{DataIdle: 100 * time.Millisecond}}, nil)
	first := r.dialFrom(t, 0, "127.0.0.9").hello()
	second := r.dialFrom(t, 0, "127.0.0.9").hello()
	third := r.dialFrom(t, 0, "127.0.0.9")
	third.want("421 4.7.0") // nobody has been silent for long
	third.want("closed")
	eventually(t, "the first is evicted", func() bool {
		second.ask("NOOP", "250")
		time.Sleep(100 * time.Millisecond) // two seconds of silence have to pass
		return strings.HasPrefix(r.dialFrom(t, 0, "127.0.0.9").reply(), "220")
	})
	first.want("421 4.4.5")
}

// TestT7SilenceBeforeTheHandshakeCounts: an address that is not registered has its places and no more, and strangers together
// three quarters of the house, though none of them ever begins the handshake.
func TestT7SilenceBeforeTheHandshakeCounts(t *testing.T) {
	proxy := netip.MustParsePrefix("127.0.0.8/32")
	r := mustStart(t, Config{
		Listeners: []Listener{{TLS: wire.TLSImplicit}}, Connections: 8, PerAddress: 2, ProxyFrom: []netip.Prefix{proxy},
	}, nil)
	stays := func(c *talker) {
		t.Helper()
		c.tls().want("220 ")
	}
	silent := []*talker{r.dialFrom(t, 0, "127.0.0.9"), r.dialFrom(t, 0, "127.0.0.9")}
	eventually(t, "both are counted", func() bool { return r.peers.of("127.0.0.9") == 2 })
	r.dialFrom(t, 0, "127.0.0.9").want("closed")
	eventually(t, "who was refused is gone", func() bool { return r.Stats().Open.Load() == 2 })
	for range 2 { // named by a balancer
		c := r.dialFrom(t, 0, "127.0.0.8")
		c.raw("PROXY TCP4 192.0.2.1 192.0.2.2 1 465\r\n")
		silent = append(silent, c)
	}
	eventually(t, "both are counted", func() bool { return r.peers.of("192.0.2.1") == 2 })
	c := r.dialFrom(t, 0, "127.0.0.8")
	c.raw("PROXY TCP4 192.0.2.1 192.0.2.2 1 465\r\n")
	c.want("closed")
	eventually(t, "who was refused is gone", func() bool { return r.Stats().Open.Load() == 4 })

	silent = append(silent, r.dialFrom(t, 0, "127.0.0.10"), r.dialFrom(t, 0, "127.0.0.11"))
	eventually(t, "all are counted", func() bool { return r.peers.of("127.0.0.10")+r.peers.of("127.0.0.11") == 2 })
	r.dialFrom(t, 0, "127.0.0.12").want("closed") // the quarter is kept
	stays(r.dial(t, 0))
	for _, c := range silent[:2] {
		stays(c)
	}
}

// of is how many connections of an unregistered address are counted.
func (p *peers) of(ip string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.addresses[secret.Household(netip.MustParseAddr(ip))])
}

func TestT8Floods(t *testing.T) {
	r := mustStart(t, Config{Limits: wire.Limits{Discard: 1 << 20, HeaderFields: 100, HeaderBytes: 20000}}, func() *book {
		b := openBook()
		b.networks[loopback] = []Grant{{Tenant: "shop", Composition: "main", SizeKB: 100}}
		return b
	}())
	endless := func(c *talker, piece string) (last string) {
		go func() {
			for { // until the server closes
				if _, err := io.WriteString(c, piece); err != nil {
					return
				}
			}
		}()
		for {
			got := c.reply()
			if strings.HasSuffix(got, "closed") {
				return last
			}
			last = got
		}
	}
	junk := strings.Repeat("x", 8192)
	for _, row := range []struct {
		name, before, piece, want string
	}{
		{"command line without end", "", junk, "500 5.5.2"},
		{"RCPT line without end", "MAIL FROM:<a@shop.test>\r\nRCPT TO:<", junk, "501 5.5.2"},
		{"body line without end", "MAIL FROM:<a@shop.test>\r\nRCPT TO:<b@c.test>\r\nDATA\r\n", junk, "552 5.3.4"},
		{"body without end", "MAIL FROM:<a@shop.test>\r\nRCPT TO:<b@c.test>\r\nDATA\r\n\r\n", "xx\r\n", "552 5.3.4"},
		{"header without end", "MAIL FROM:<a@shop.test>\r\nRCPT TO:<b@c.test>\r\nDATA\r\n", "X: y\r\n", "552 5.3.4"},
		{"pipelined commands", "", strings.Repeat("NOOP\r\n", 1000), "421 4.7.0"},
		{"chunks of one octet", "MAIL FROM:<a@shop.test>\r\nRCPT TO:<b@c.test>\r\n", strings.Repeat("BDAT 1\r\nx", 100), "421 4.7.0"},
		{"chunk of 4 GiB", "BDAT 4294967295\r\n", junk, "503 5.5.1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := r.dial(t, 0).hello()
			c.raw(row.before)
			if got := endless(c, row.piece); !strings.HasPrefix(got, row.want) {
				t.Fatalf("%q", got)
			}
		})
	}
	for _, row := range []struct{ name, body, want string }{
		{"100 header fields", strings.Repeat("X: y\r\n", 100) + "\r\nx\r\n", "250"},
		{"101 header fields", strings.Repeat("X: y\r\n", 101) + "\r\nx\r\n", "552 5.3.4"},
		{"large header field", "X: y\r\n" + strings.Repeat(" "+strings.Repeat("z", 900)+"\r\n", 30), "552 5.3.4"},
		{"large body line count", "\r\n" + strings.Repeat("X: y\r\n", 1000), "250"},
		{"998", strings.Repeat("x", 998) + "\r\n", "250"},
		{"999", strings.Repeat("x", 999) + "\r\n", "554 5.6.0"},
		{"dot and 998", "." + strings.Repeat("x", 998) + "\r\n", "250"},
		{"dot and 999", "." + strings.Repeat("x", 999) + "\r\n", "554 5.6.0"},
		{"99 KB", "\r\n" + strings.Repeat(strings.Repeat("x", 510)+"\r\n", 99*2), "250"},
		{"101 KB", "\r\n" + strings.Repeat(strings.Repeat("x", 510)+"\r\n", 101*2), "552 5.3.4"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := r.dial(t, 0).hello().open()
			if got := c.send(row.body); !strings.HasPrefix(got, row.want) {
				t.Fatal(got)
			}
			c.ask("NOOP", "250") // the session goes on
		})
	}
	t.Run("line lengths", func(t *testing.T) {
		c := r.dial(t, 0).hello()
		c.ask("NOOP "+strings.Repeat("x", 505), "250")
		c.ask("NOOP "+strings.Repeat("x", 506), "500 5.5.2")
		c.ask("MAIL FROM:<a@shop.test>", "250")
		c.ask("RCPT TO:<"+strings.Repeat("x", 300)+"@mx.test>", "250")
		c.ask("RCPT TO:<"+strings.Repeat("x", 2048-len("RCPT TO:<@mx.test>\r\n"))+"@mx.test>", "250") // E-41: recorded as status 9
		c.ask("RCPT TO:<"+strings.Repeat("x", 2049-len("RCPT TO:<@mx.test>\r\n"))+"@mx.test>", "501 5.5.2")
		c.ask("RCPT TO:<b@mx.test>", "250")
	})
}

// TestT11Order drives random commands against a model of RFC 5321 §4.1.4 and RFC 3030.
func TestT11Order(t *testing.T) {
	r := mustStart(t, Config{Limits: wire.Limits{Junk: 1 << 30, Idles: 1 << 30, Commands: 1 << 30}}, nil)
	const seed = 20261122
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := r.dial(t, 0)
	c.want("220")
	hello, inMail, rcpts, chunked, sent := false, false, 0, false, 0
	reset := func() { inMail, rcpts, chunked = false, 0, false }
	for step := range 3000 {
		var command, want string
		switch rnd.IntN(12) {
		case 0:
			command, want, hello = "EHLO x", "250", true
			reset()
		case 1:
			command, want = "RSET", "250"
			reset()
		case 2, 3:
			command, want = "MAIL FROM:<a@shop.test>", "503"
			if hello && !inMail {
				want, inMail = "250", true
			}
		case 4, 5:
			command, want = "RCPT TO:<b@mx.test>", "503"
			if inMail && !chunked {
				want = "250"
				rcpts++
			}
		case 6:
			command, want = "RCPT TO:<nobody>", "501"
			if !inMail || chunked {
				want = "503"
			}
		case 7:
			command, want = "DATA", "503"
			if rcpts > 0 && !chunked {
				c.ask("DATA", "354")
				command, want = "x\r\n.", "250"
				if rnd.IntN(3) == 0 {
					command, want = strings.Repeat("x", 1500)+"\r\n.", "554" // refused at the end of data
				} else {
					sent++
				}
				reset()
			}
		case 8, 9:
			command, want = "BDAT 3\r\nx", "503" // with the CRLF that ask adds
			if rcpts > 0 {
				want, chunked = "250", true
			} else {
				reset()
			}
		case 10:
			command, want = "BDAT 0 LAST", "503"
			if rcpts > 0 {
				want = "250"
				sent++
			}
			reset()
		case 11:
			command, want = "BDAT 3 FIRST\r\nx", "501"
			reset()
		}
		if command == "BDAT 0 LAST" {
			c.raw(command + "\r\n")
		} else {
			c.raw(command + "\r\n")
		}
		if got := c.reply(); !strings.HasPrefix(got, want) {
			t.Fatalf("seed %d step %d: %q: got %q, want %s", seed, step, command, got, want)
		}
	}
	if n := len(r.box.messages()); n != sent || sent < 20 {
		t.Fatalf("%d messages, %d were answered 250", n, sent)
	}
}

func TestT17Proxy(t *testing.T) {
	b := openBook()
	b.networks = map[netip.Addr][]Grant{netip.MustParseAddr("192.0.2.7"): {{Tenant: "shop", Composition: "main"}}, loopback: {{Tenant: "shop", Composition: "lb"}}}
	v2 := func(ip string, size int) string {
		a := netip.MustParseAddr(ip).As4()
		return "\r\n\r\n\x00\r\nQUIT\n\x21\x11" + string([]byte{byte(size >> 8), byte(size)}) + string(a[:]) + "\x01\x02\x03\x04\x10\x00\x00\x19"
	}
	r := mustStart(t, Config{
		ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Limits: wire.Limits{Header: 100 * time.Millisecond, Handshake: 100 * time.Millisecond},
		Listeners: []Listener{{}, {TLS: wire.TLSImplicit}},
	}, b)
	for _, row := range []struct{ name, header, mail string }{
		{"v1", "PROXY TCP4 192.0.2.7 127.0.0.1 1000 25\r\n", "250"},
		{"v1 not registered", "PROXY TCP4 192.0.2.8 127.0.0.1 1000 25\r\n", "550 5.7.1"},
		{"v1 unknown", "PROXY UNKNOWN\r\n", "550 5.7.1"}, // the balancer's own address vouches for nobody
		{"v2", v2("192.0.2.7", 12), "250"},
		{"v2 not registered", v2("192.0.2.9", 12), "550 5.7.1"},
		{"v2 local", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "550 5.7.1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := r.dial(t, 0)
			c.raw(row.header)
			c.hello().ask("MAIL FROM:<a@shop.test>", row.mail)
		})
	}
	t.Run("octet by octet", func(t *testing.T) {
		c := r.dial(t, 0)
		for _, b := range []byte("PROXY TCP4 192.0.2.7 127.0.0.1 1000 25\r\n") {
			c.raw(string(b))
		}
		c.hello().ask("MAIL FROM:<a@shop.test>", "250")
	})
	t.Run("two headers", func(t *testing.T) {
		c := r.dial(t, 0)
		c.raw("PROXY TCP4 192.0.2.8 127.0.0.1 1000 25\r\nPROXY TCP4 192.0.2.7 127.0.0.1 1000 25\r\n")
		c.want("220")
		c.want("421 4.7.0")
		c.want("closed")
	})
	t.Run("above TLS", func(t *testing.T) {
		c := r.dial(t, 1)
		c.raw("PROXY TCP4 192.0.2.7 127.0.0.1 1000 25\r\n")
		c.tls().hello().ask("MAIL FROM:<a@shop.test>", "250")
	})
	for name, bytes := range map[string]string{
		"health check": "", "no header": "EHLO x\r\n", "too long": v2("192.0.2.7", 65535), "TLS first": "\x16\x03\x01\x02\x00",
		"port": "PROXY TCP4 192.0.2.7 127.0.0.1 70000 25\r\n", "family": "PROXY TCP6 192.0.2.7 127.0.0.1 1 25\r\n",
		"CR": "PROXY TCP4 192.0.2.7\r 127.0.0.1 1 25\r\n", "no end": "PROXY " + strings.Repeat("x", 200), "version": "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t, 0)
			c.raw(bytes)
			c.want("closed")
		})
	}
	t.Run("untrusted", func(t *testing.T) {
		c := r.dialFrom(t, 0, "127.0.0.9")
		c.raw("PROXY TCP4 192.0.2.7 127.0.0.1 1000 25\r\n")
		c.want("220")
		c.want("421 4.7.0")
		c.want("closed")
		c = r.dialFrom(t, 0, "127.0.0.9")
		c.raw(v2("192.0.2.7", 12))
		c.want("220")
		c.want("500")
		for got := c.reply(); got != "closed"; got = c.reply() {
			if got[0] != '5' {
				t.Fatal(got)
			}
		}
	})
}

func TestT24TicketsStayWithTheirListener(t *testing.T) {
	r := mustStart(t, Config{Listeners: []Listener{{TLS: wire.TLSImplicit}, {TLS: wire.TLSImplicit}}}, nil)
	cache := tls.NewLRUClientSessionCache(4)
	resumed := func(listener int) bool {
		c := r.dial(t, listener)
		tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: "mx.test"})
		var b [512]byte
		if _, err := tc.Read(b[:]); err != nil { // the greeting; a ticket came before it
			t.Fatal(err)
		}
		return tc.ConnectionState().DidResume
	}
	if resumed(0) || !resumed(0) {
		t.Fatal("tickets do not work at all")
	}
	if resumed(1) {
		t.Fatal("a ticket of one listener opened another")
	}
}
