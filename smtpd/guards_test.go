package smtpd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

// The gaps that go-smtp leaves (threats section 1), each closed by package wire.

// ends are the ends of data that two servers could read differently (threats section 2).
var ends = []string{
	"\n.\n", "\n.\r", "\r.\n", "\r.\r", "\n.\r\n", "\r.\r\n", "\r\n\x00.\r\n", "\r\n.\r\r\n", "\r\r\n.\r\r\n",
	"\r\n.\n", "\r\n.\r", "\r\n.\x00\r\n",
}

func TestG1SmugglingIsRefused(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	for _, end := range ends {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			c := r.dial(t, 0).hello().open()
			c.ask("DATA", "354 ")
			c.raw("first" + end + "MAIL FROM:<evil@shop.test>\r\nRCPT TO:<v@mx.test>\r\nDATA\r\nsmuggled\r\n.\r\n")
			c.want("550 5.6.11")
			c.want("closed")
		})
	}
	if m := r.box.messages(); len(m) != 0 {
		t.Fatalf("taken: %q", m[0].Data)
	}
}

func TestG1NormalizedBodyHoldsOnlyCRLF(t *testing.T) {
	r := mustStart(t, Config{Listeners: []Listener{{Normalize: true}}}, nil)
	for _, end := range ends {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			before := len(r.box.messages())
			c := r.dial(t, 0).hello().open()
			if got := c.send("first" + end + "second\r\n"); !strings.HasPrefix(got, "250 ") {
				t.Fatal(got)
			}
			m := r.box.messages()
			if len(m) != before+1 {
				t.Fatalf("%d messages", len(m)-before)
			}
			if _, err := smtp.CheckData(m[before].Data); err != nil || !strings.HasSuffix(string(m[before].Data), "second\r\n") {
				t.Fatalf("%q: %v", m[before].Data, err)
			}
		})
	}
}

func TestG2DotAndCRStay(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello().open()
	if got := c.send("..a\r\n.b\r\n..\r\n...\r\n"); !strings.HasPrefix(got, "250 ") {
		t.Fatal(got)
	}
	if got := string(r.box.messages()[0].Data); got != ".a\r\nb\r\n.\r\n..\r\n" {
		t.Fatalf("%q", got)
	}
	c.open()
	if got := c.send(".\rX\r\n"); !strings.HasPrefix(got, "550 5.6.11") {
		t.Fatal(got)
	}
}

func TestG3CommandsEndWithCRLF(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0)
	c.want("220 ")
	c.raw("EHLO x\nMAIL FROM:<a@shop.test>\r\n")
	c.want("500 5.5.2")
	c.want("closed")
}

func TestG4StartTLSIsAWholeWord(t *testing.T) {
	r := mustStart(t, Config{Listeners: []Listener{{TLS: wire.TLSOptional}}}, nil)
	c := r.dial(t, 0).hello()
	c.ask("STARTTLSfoo", "500 5.5.2")
	c.ask("STARTTLS foo", "501 5.5.4")
	c.ask("NOOP", "250 ")
}

func TestG5SecondMailIsRefused(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello().open()
	c.ask("MAIL FROM:<other@shop.test>", "503 5.5.1")
	if got := c.send("x\r\n"); !strings.HasPrefix(got, "250 ") {
		t.Fatal(got)
	}
	if m := r.box.messages(); m[0].From != "a@shop.test" {
		t.Fatal(m[0].From)
	}
}

func TestG6QuotedLocalPartsStayQuoted(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello()
	c.ask(`MAIL FROM:<"x y"@shop.test>`, "250 ")
	const to = `"v@evil.test> NOTIFY=NEVER "@ok.test`
	c.ask("RCPT TO:<"+to+">", "250 ")
	if got := c.send("x\r\n"); !strings.HasPrefix(got, "250 ") {
		t.Fatal(got)
	}
	m := r.box.messages()[0]
	if m.From != `"x y"@shop.test` || len(m.To) != 1 || string(m.To[0]) != to || m.To[0].Domain() != "ok.test" {
		t.Fatalf("%q %q", m.From, m.To)
	}
}

func TestG7ControlsAreRefused(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	for _, ctl := range []string{"\x00", "\r", "\x1b", "\t", "\x7f", "\x08"} {
		c := r.dial(t, 0)
		c.want("220 ")
		if got := c.ask("EHLO a"+ctl+"b", "501 5.5.2"); strings.Contains(got, ctl) {
			t.Fatalf("%q echoed", ctl)
		}
		c.ask("EHLO ab", "250")
		c.ask("MAIL FROM:<a"+ctl+"b@shop.test>", "501 5.5.2")
		c.ask("MAIL FROM:<a@shop.test>", "250")
		c.ask("RCPT TO:<a"+ctl+"b@mx.test>", "501 5.5.2")
		c.ask(`RCPT TO:<"a`+ctl+`b"@mx.test>`, "501 5.5.2")
	}
}

func TestG8EightBitNeedsSMTPUTF8(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello()
	c.ask("MAIL FROM:<\xe9@shop.test>", "550 5.6.7")
	c.ask("MAIL FROM:<a@shop.test>", "250")
	c.ask("RCPT TO:<\xc3\xa9@mx.test>", "553 5.6.7")
	c.ask("RCPT TO:<a@\xe4\xbe\x8b.test>", "553 5.6.7")
	c.ask("EHLO \xc3\xa9", "501 5.5.2")
}

func TestG9AddressesNobodyCanMailNeverPassUnmarked(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello()
	for path, want := range map[string]string{
		"a@shop.test": "501 5.5.2", "<a@ok..test>": "501 5.1.7", "<a@ok_test;x>": "501 5.1.7", "": "501 5.5.2",
		"<@relay.test:a@shop.test>": "553 5.1.3", "<a>": "501 5.1.7", "<a@shop.test> X=1": "555 5.5.4",
		"<a@shop.test>>": "501 5.5.2",
	} {
		c.ask("MAIL FROM:"+path, want)
	}
	c.ask("MAIL FROM:<a@shop.test>", "250")
	c.ask("RCPT TO:a@mx.test", "501")
	c.ask("RCPT TO:<@relay.test:a@mx.test>", "553")
	// E-41: taken, and recognizable as what it is
	c.ask("RCPT TO:<a@ok..test>", "250")
	c.ask("RCPT TO:<a@ok_test;x>", "250")
	if got := c.send("x\r\n"); !strings.HasPrefix(got, "250 ") {
		t.Fatal(got)
	}
	for _, to := range r.box.messages()[0].To {
		if to.Check() == nil {
			t.Errorf("%q would be mailed", to)
		}
	}
}

func TestG10BadBdatSwallowsItsChunk(t *testing.T) {
	const chunk = "RSET\r\nMAIL FROM:<evil@x.test>\r\n"
	r := mustStart(t, Config{}, nil)
	for _, tail := range []string{" FIRST", " LAST LAST", " last x", "  LAST"} {
		c := r.dial(t, 0).hello().open()
		c.raw(fmt.Sprintf("BDAT %d%s\r\n%sNOOP\r\n", len(chunk), tail, chunk))
		c.want("501 5.5.4")
		c.want("250 2.0.0 OK")
		c.ask("DATA", "503 5.5.1") // a failed BDAT ends the transaction
		c.ask("MAIL FROM:<a@shop.test>", "250")
	}
	// without a transaction, and for somebody who may not send
	c := r.dial(t, 0).hello()
	c.raw(fmt.Sprintf("BDAT %d LAST\r\n%sNOOP\r\n", len(chunk), chunk))
	c.want("503 5.5.1")
	c.want("250 2.0.0 OK")
	c = r.dialFrom(t, 0, "127.0.0.9").hello()
	c.raw(fmt.Sprintf("BDAT %d LAST\r\n%sNOOP\r\n", len(chunk), chunk))
	c.want("550 5.7.1")
	c.want("250 2.0.0 OK")
	// a size that cannot be believed ends the connection
	for _, size := range []string{"-1", "+5", "0x5", "4294967296", "18446744073709551617", "", "x"} {
		c := r.dial(t, 0).hello().open()
		c.raw("BDAT " + size + " LAST\r\n" + chunk)
		c.want("501 5.5.4")
		c.want("closed")
	}
	if n := len(r.box.messages()); n != 0 {
		t.Fatal(n, "messages")
	}
}

// TestG10LinesThatAreNotRead: where a BDAT is refused for what its line is made of, the connection ends before an octet of
// the chunk could be taken for a command.
func TestG10LinesThatAreNotRead(t *testing.T) {
	r := mustStart(t, Config{Listeners: []Listener{{}, {TLS: wire.TLSRequired}}}, nil)
	for _, row := range []struct{ name, line, want string }{
		{"tab", "BDAT 30\tLAST", "501 5.5.2"},
		{"tab behind the word", "bdat\t30 LAST", "501 5.5.2"},
		{"NUL", "BDAT 30 L\x00ST", "501 5.5.2"},
		{"CR", "BDAT 30 LAST\r", "501 5.5.2"},
		{"not ASCII", "BDAT 30 LAST\xc3", "501 5.5.2"},
		{"too long for a command", "BDAT 30 " + strings.Repeat("x", 600), "500 5.5.2"},
		{"too long for any", "Bdat 30 " + strings.Repeat("x", 4000), "500 5.5.2"},
		{"a longer word", "BDATA 30 LAST", "500 5.5.2"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for listener := range 2 {
				c := r.dial(t, listener).hello()
				if listener == 0 {
					c.open()
				}
				c.raw(row.line + "\r\nRSET\r\nMAIL FROM:<evil@x.test>\r\n")
				c.want(row.want)
				c.want("closed")
			}
		})
	}
}

func TestG11FailedAuthEndsTheConnection(t *testing.T) {
	r := mustStart(t, Config{Listeners: []Listener{{Role: RoleSubmission}}, Auth: AuthLimits{Delay: 20 * time.Millisecond}}, nil)
	c := r.dial(t, 0).hello()
	begin := time.Now()
	for range 5 {
		c.ask(plain("app1", "wrong"), "535 5.7.8 Authentication failed")
	}
	c.want("closed")
	if d := time.Since(begin); d < 140*time.Millisecond { // 20 + 40 + 80 from the third on
		t.Fatalf("no tarpit: %v", d)
	}
	if n := r.Stats().AuthFailures.Load(); n != 5 {
		t.Fatal(n)
	}
}

// TestLongLineEndsAuth: a line that is too long inside an exchange is answered once, and what follows is a command again.
func TestLongLineEndsAuth(t *testing.T) {
	r := mustStart(t, Config{Listeners: []Listener{{Role: RoleSubmission}}}, nil)
	for _, begin := range []string{"BDAT", "MAIL", "xxxx"} {
		c := r.dial(t, 0).hello()
		c.ask("AUTH LOGIN", "334")
		c.raw(begin + strings.Repeat("x", 20000) + "\r\n")
		c.want("501")
		c.ask("NOOP", "250 2.0.0")
		c.ask("AUTH LOGIN YXBwMQ==", "334")
		c.ask("czNjcmV0", "235")
		c.ask("MAIL FROM:<a@shop.test>", "250")
	}
}

func TestG12CommandsWithoutMailEnd(t *testing.T) {
	r := mustStart(t, Config{Limits: wire.Limits{Recipients: 10, Commands: 100}}, nil)
	for _, row := range []struct {
		name, command string
		most          int
	}{
		{"NOOP", "NOOP", 51}, {"RSET", "RSET", 51}, {"VRFY", "VRFY x", 51}, {"EHLO", "EHLO x", 51},
		{"junk", "XYZZY", 21}, {"empty", "", 21}, {"bad MAIL", "MAIL FROM:x", 21}, {"bdat", "BDAT 1\r\nx", 21},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := r.dial(t, 0).hello()
			go func() { _, _ = c.Write([]byte(strings.Repeat(row.command+"\r\n", 1000))) }()
			n := 0
			last := ""
			for {
				got := c.reply()
				if got == "closed" {
					break
				}
				last = got
				n++
			}
			if n > row.most+1 || !strings.HasPrefix(last, "421 4.7.0") {
				t.Fatalf("%d replies, then %q", n, last)
			}
		})
	}
	t.Run("RCPT", func(t *testing.T) {
		c := r.dial(t, 0).hello()
		c.ask("MAIL FROM:<a@shop.test>", "250")
		for i := range 10 {
			c.ask(fmt.Sprintf("RCPT TO:<r%d@mx.test>", i), "250")
		}
		for range 10 {
			c.ask("RCPT TO:<more@mx.test>", "452 4.5.3")
		}
		c.ask("RCPT TO:<more@mx.test>", "421 4.7.0")
	})
	t.Run("commands", func(t *testing.T) {
		c := r.dial(t, 0).hello()
		for range 60 {
			c.ask("MAIL FROM:<a@shop.test>", "250")
			if c.raw("RSET\r\n"); strings.HasPrefix(c.reply(), "421") {
				return
			}
		}
		t.Fatal("never ended")
	})
}

// TestG12RefusedRecipients: a list with many addresses that cannot be taken goes through; a stranger's patience is short
// until he names somebody who is here.
func TestG12RefusedRecipients(t *testing.T) {
	r := mustStart(t, Config{Listeners: []Listener{{}, {Role: RoleBounce}}}, nil)
	many := func(c *talker, command, want string, n int) {
		t.Helper()
		for range n {
			c.ask(command, want)
		}
	}
	t.Run("customer", func(t *testing.T) {
		c := r.dial(t, 0).hello()
		c.ask("MAIL FROM:<a@shop.test>", "250")
		many(c, "RCPT TO:<no-domain>", "501 5.1.3", 50)
		c.ask("RCPT TO:<b@mx.test>", "250")
		many(c, "RCPT TO:<@route.test:a@mx.test>", "553 5.1.3", 50)
		if got := c.send("x\r\n"); !strings.HasPrefix(got, "250 ") {
			t.Fatal(got)
		}
	})
	t.Run("stranger", func(t *testing.T) {
		c := r.dialFrom(t, 1, "127.0.0.9").hello()
		c.ask("MAIL FROM:<>", "250")
		many(c, "RCPT TO:<a@elsewhere.test>", "550 5.7.1", 20)
		c.want("421 4.7.0")
		c.want("closed")
	})
	t.Run("stranger with a recipient", func(t *testing.T) {
		c := r.dialFrom(t, 1, "127.0.0.9").hello()
		c.ask("MAIL FROM:<>", "250")
		c.ask("RCPT TO:<a@bounce.test>", "250")
		many(c, "RCPT TO:<a@elsewhere.test>", "550 5.7.1", 50)
		if got := c.send("x\r\n"); !strings.HasPrefix(got, "250 ") {
			t.Fatal(got)
		}
	})
}

func TestG12AcceptedMailResetsTheCounts(t *testing.T) {
	r := mustStart(t, Config{Limits: wire.Limits{Commands: 100}}, nil)
	c := r.dial(t, 0).hello()
	for range 20 {
		for range 10 {
			c.ask("RSET", "250")
			c.ask("XYZZY", "500")
		}
		if got := c.open().send("x\r\n"); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
	}
}

func TestG13SlowIsNotDead(t *testing.T) {
	r := mustStart(t, Config{Limits: wire.Limits{
		Idle: 400 * time.Millisecond, DataIdle: 300 * time.Millisecond, RateGrace: 400 * time.Millisecond, MinRate: 100,
		DataMax: 1500 * time.Millisecond, Command: 400 * time.Millisecond, Envelope: time.Second,
	}}, nil)
	drip := func(c *talker, s string, every time.Duration, n int) {
		for range n {
			if _, err := c.Write([]byte(s)); err != nil {
				return
			}
			time.Sleep(every) // the pace is the test
		}
	}
	t.Run("honest", func(t *testing.T) { // longer than every time-out but the last
		c := r.dial(t, 0).hello().open()
		c.ask("DATA", "354")
		drip(c, strings.Repeat("x", 48)+"\r\n", 100*time.Millisecond, 12)
		c.raw(".\r\n")
		c.want("250")
	})
	t.Run("idle in data", func(t *testing.T) {
		c := r.dial(t, 0).hello().open()
		c.ask("DATA", "354")
		c.raw("x\r\n")
		c.want("421 4.4.2")
		c.want("closed")
	})
	t.Run("too slow", func(t *testing.T) {
		c := r.dial(t, 0).hello().open()
		c.ask("DATA", "354")
		go drip(c, "x", 100*time.Millisecond, 30)
		c.want("421 4.4.2")
	})
	t.Run("for ever", func(t *testing.T) {
		c := r.dial(t, 0).hello().open()
		c.ask("DATA", "354")
		go drip(c, strings.Repeat("x", 98)+"\r\n", 50*time.Millisecond, 100)
		c.want("421 4.4.2")
	})
	t.Run("idle", func(t *testing.T) {
		c := r.dial(t, 0).hello()
		c.want("421 4.4.2")
		c.want("closed")
	})
	t.Run("a recipient now and then", func(t *testing.T) {
		c := r.dial(t, 0).hello().open()
		go drip(c, "RCPT TO:<b@c.test>\r\n", 100*time.Millisecond, 40)
		for got := c.reply(); ; got = c.reply() {
			if !strings.HasPrefix(got, "250") {
				if !strings.HasPrefix(got, "421 4.4.2") {
					t.Fatal(got)
				}
				return
			}
		}
	})
	t.Run("slow command", func(t *testing.T) {
		c := r.dial(t, 0).hello()
		go drip(c, "N", 50*time.Millisecond, 40)
		c.want("421 4.4.2")
	})
	if n := len(r.box.messages()); n != 1 {
		t.Fatal(n, "messages")
	}
}

func TestG14NothingIsUnlimited(t *testing.T) {
	l := wire.NewEnv("x", wire.Limits{}, nil).Limits()
	for name, v := range map[string]int64{
		"Idle": int64(l.Idle), "Command": int64(l.Command), "Envelope": int64(l.Envelope), "DataIdle": int64(l.DataIdle), "DataMax": int64(l.DataMax),
		"MinRate": int64(l.MinRate), "Handshake": int64(l.Handshake), "Header": int64(l.Header), "Write": int64(l.Write),
		"Recipients": int64(l.Recipients), "Junk": int64(l.Junk), "Idles": int64(l.Idles), "Commands": int64(l.Commands),
		"Discard": l.Discard, "HeaderBytes": int64(l.HeaderBytes), "HeaderFields": int64(l.HeaderFields), "Memory": l.Memory,
	} {
		if v <= 0 {
			t.Errorf("%s is not limited", name)
		}
	}
	r := mustStart(t, Config{}, nil) // a composition without a size still has one
	c := r.dial(t, 0).hello()
	c.ask("MAIL FROM:<a@shop.test> SIZE=10485761", "552 5.3.4")
	c.ask("MAIL FROM:<a@shop.test> SIZE=99999999999999999999", "552 5.3.4")
	c.ask("MAIL FROM:<a@shop.test> SIZE=10485760", "250")
}
