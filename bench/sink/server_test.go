package sink

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// peer is a client that says what a test tells it to.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func mustStart(t *testing.T, cfg Config, model string) *Server {
	t.Helper()
	if model != "" {
		var err error
		if cfg.Model, err = Parse([]byte(model)); err != nil {
			t.Fatal(err)
		}
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{"127.0.0.1:0"}
	}
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

func dial(t *testing.T, s *Server) *peer {
	t.Helper()
	c, err := net.Dial("tcp", s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(clock.Wall().Add(20 * time.Second))
	return &peer{t, c, bufio.NewReader(c)}
}

// hear reads one reply, all its lines joined.
func (p *peer) hear() (string, error) {
	var all string
	for {
		line, err := p.r.ReadString('\n')
		all += line
		if err != nil || len(line) > 3 && line[3] == ' ' {
			return strings.TrimRight(all, "\r\n"), err
		}
	}
}

// say sends text as it is and checks the begin of each of the replies to it.
func (p *peer) say(text string, want ...string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, text); err != nil {
		p.t.Fatal(err)
	}
	for _, w := range want {
		got, err := p.hear()
		if err != nil || !strings.HasPrefix(got, w) {
			p.t.Fatalf("to %.60q: got %q (%v), want %q", text, got, err, w)
		}
	}
}

func (p *peer) hello() *peer {
	p.t.Helper()
	p.say("", "220")
	p.say("EHLO test\r\n", "250-")
	return p
}

func (p *peer) ended() error {
	_, err := p.hear()
	return err
}

const text = "Subject: x\r\n\r\nhi\r\n.\r\n"

func TestTakesAndRecords(t *testing.T) {
	record := filepath.Join(t.TempDir(), "record")
	s := mustStart(t, Config{Record: record}, "")
	p := dial(t, s).hello()
	p.say("MAIL FROM:<a@x> SIZE=10\r\nRCPT TO:<\"b>c\"@y>\r\nRCPT TO:<d@y>\r\nDATA\r\n", "250", "250", "250", "354")
	p.say("X-Bench-Token: tok\r\n\r\nhi\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<e@y>\r\nDATA\r\n", "250", "250", "250", "354")
	p.say(text+"QUIT\r\n", "250", "221")
	raw, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Event, Token, From, SHA256, Source string
		Rcpt                               []string
		Size                               int
	}
	if err := json.Unmarshal([]byte(strings.SplitN(string(raw), "\n", 2)[0]), &got); err != nil {
		t.Fatal(err)
	}
	body := "X-Bench-Token: tok\r\n\r\nhi\r\n"
	if got.Event != "message" || got.Token != "tok" || got.From != "a@x" || got.SHA256 != sum(body) || got.Size != len(body) ||
		got.Source != "127.0.0.1" || fmt.Sprint(got.Rcpt) != `["b>c"@y d@y]` {
		t.Errorf("record %+v", got)
	}
	if c := s.Counters(); c.Messages != 2 || c.Violated() != 0 {
		t.Errorf("counters %+v", c)
	}
}

func TestOfferings(t *testing.T) {
	for _, tt := range []struct {
		name, model, want, not string
	}{
		{"everything accepted", "", "PIPELINING", "STARTTLS"},
		{"plain", "receivers: [{name: a, domains: ['*'], plain: true}]", "SIZE", "PIPELINING"},
		{"chunking and TLS", "receivers: [{name: a, domains: ['*'], chunking: true, starttls: offer}]", "CHUNKING", "AUTH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := dial(t, mustStart(t, Config{}, tt.model))
			p.say("", "220")
			p.say("EHLO test\r\n")
			got, err := p.hear()
			if err != nil || !strings.Contains(got, tt.want) || strings.Contains(got, tt.not) {
				t.Errorf("EHLO answered %q, %v", got, err)
			}
		})
	}
}

func TestChunksAndTLS(t *testing.T) {
	s := mustStart(t, Config{Chunking: true, StartTLS: true}, "")
	p := dial(t, s).hello()
	p.say("STARTTLS\r\n", "220")
	c := tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
	p.conn, p.r = c, bufio.NewReader(c)
	p.say("EHLO again\r\n", "250-")
	p.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nBDAT 6\r\nA: b\r\nBDAT 10 LAST\r\n\r\nhi\r\n.\r\n\n", "250", "250", "250", "250")
	p.say("BDAT 6 LAST\r\nRSET\r\nQUIT\r\n", "503", "221") // the refused chunk is swallowed, not executed
	if c := s.Counters(); c.Messages != 1 || c.Violations["bare_lf"] != 1 {
		t.Errorf("counters %+v", c)
	}
}

func TestStages(t *testing.T) {
	const open = "MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\n"
	for _, tt := range []struct {
		stage string
		talk  func(p *peer)
	}{
		{"connect", func(p *peer) { p.say("", "451 no") }},
		{"greeting", func(p *peer) { p.say("", "451 no") }},
		{"ehlo", func(p *peer) { p.say("", "220"); p.say("EHLO x\r\n", "451 no") }},
		{"mail", func(p *peer) { p.hello().say("MAIL FROM:<a@x>\r\n", "451 no") }},
		{"rcpt", func(p *peer) { p.hello().say(open, "250", "451 no") }},
		{"data", func(p *peer) { p.hello().say(open+"DATA\r\n", "250", "250", "451 no") }},
		{"dot", func(p *peer) { p.hello().say(open+"DATA\r\n", "250", "250", "354"); p.say(text, "451 no") }},
	} {
		t.Run(tt.stage, func(t *testing.T) {
			s := mustStart(t, Config{}, "receivers: [{name: a, domains: ['*'], rules: [{stage: "+tt.stage+", reply: '451 no {ip}'}]}]")
			tt.talk(dial(t, s))
			if c := s.Counters(); c.Messages != 0 || c.Refused != 1 {
				t.Errorf("counters %+v", c)
			}
		})
	}
}

// TestRuleOfASource: a rule may concern one client, or a network, and leaves the others alone.
func TestRuleOfASource(t *testing.T) {
	for source, want := range map[string]string{"127.0.0.1": "451", "127.0.0.0/8": "451", "127.0.0.2": "220", "192.0.2.0/24": "220"} {
		t.Run(source, func(t *testing.T) {
			s := mustStart(t, Config{}, "receivers: [{name: a, domains: ['*'], rules: [{stage: greeting, source: "+source+", reply: '451 no {ip}'}]}]")
			dial(t, s).say("", want)
		})
	}
}

func TestWordlessEnds(t *testing.T) {
	for do, want := range map[string]error{"reset": syscall.ECONNRESET, "close": io.EOF, "hang": os.ErrDeadlineExceeded} {
		t.Run(do, func(t *testing.T) {
			record := filepath.Join(t.TempDir(), "record")
			s := mustStart(t, Config{Record: record}, "receivers: [{name: a, domains: ['*'], rules: [{stage: dot, local: bad, do: "+do+"}]}]")
			p := dial(t, s).hello()
			p.say("MAIL FROM:<a@x>\r\nRCPT TO:<bad1@y>\r\nDATA\r\n", "250", "250", "354")
			p.say(text)
			if do == "hang" {
				_ = p.conn.SetDeadline(clock.Wall().Add(200 * time.Millisecond))
			}
			if err := p.ended(); !errors.Is(err, want) {
				t.Errorf("ended with %v, want %v", err, want)
			}
			_ = p.conn.Close()
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if raw, _ := os.ReadFile(record); !strings.Contains(string(raw), `"event":"unanswered"`) {
				t.Errorf("record %q does not tell the message that got no answer", raw)
			}
		})
	}
}

func TestRecipientsEveryReceiverUnderstands(t *testing.T) {
	m, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	s := mustStart(t, Config{Model: m}, "")
	p := dial(t, s).hello()
	p.say("MAIL FROM:<a@x>\r\n", "250")
	p.say("RCPT TO:<unknown-1@docomo.ne.jp>\r\n", "550 Unknown user unknown-1@docomo.ne.jp")
	p.say("RCPT TO:<unknown-1@ezweb.ne.jp>\r\n", "550 <unknown-1@ezweb.ne.jp>: User unknown")
	p.say("RCPT TO:<unknown-1@softbank.ne.jp>\r\n", "550 Invalid recipient: <unknown-1@softbank.ne.jp>")
	p.say("RCPT TO:<full-1@docomo.ne.jp>\r\n", "552 Too much mail data")
	for range 3 {
		p.say("RCPT TO:<defer3-1@gmail.com>\r\n", "451 4.3.0")
	}
	p.say("RCPT TO:<defer3-1@gmail.com>\r\nRSET\r\n", "250", "250")
	p.say("MAIL FROM:<a@x>\r\nRCPT TO:<filtered-1@ezweb.ne.jp>\r\nDATA\r\n", "250", "250", "354")
	p.say(text, "550 : User unknown")
	p.say("MAIL FROM:<a@x>\r\nRCPT TO:<filtered-1@softbank.ne.jp>\r\nDATA\r\n", "250", "250", "354")
	p.say(text, "250") // the user's refusal is invisible there
}

func TestQuotas(t *testing.T) {
	tests := []struct {
		name, quota string
		talk        func(t *testing.T, s *Server)
		blocks      int64
	}{
		{"connections", "{of: connections, limit: 1, then: reply, reply: '421 too many'}", func(t *testing.T, s *Server) {
			first := dial(t, s).hello()
			dial(t, s).say("", "421 too many")
			first.say("QUIT\r\n", "221")
		}, 0},
		{"messages per connection", "{of: per_connection, limit: 1, then: close}", func(t *testing.T, s *Server) {
			p := dial(t, s).hello()
			p.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n", "250", "250", "354")
			p.say(text, "250")
			p.say("MAIL FROM:<a@x>\r\n")
			if err := p.ended(); !errors.Is(err, io.EOF) {
				t.Errorf("ended with %v", err)
			}
		}, 0},
		{"messages per minute, then blocked", "{of: per_minute, limit: 2, then: reply, reply: '421 slow down', for: 1h}", func(t *testing.T, s *Server) {
			p := dial(t, s).hello()
			for range 2 {
				p.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n", "250", "250", "354")
				p.say(text, "250")
			}
			p.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\n", "250", "421 slow down")
			dial(t, s).say("", "421 slow down")
		}, 1},
		{"unknown users, then blocked", "{of: unknown_ratio, limit: 0.5, after: 4, then: reset, for: 1h}", func(t *testing.T, s *Server) {
			p := dial(t, s).hello()
			p.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\n", "250", "250")
			p.say("RCPT TO:<unknown-1@y>\r\nRCPT TO:<unknown-2@y>\r\n", "550", "550")
			p.say("RCPT TO:<unknown-3@y>\r\n")
			if err := p.ended(); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("ended with %v", err)
			}
			if c, err := net.Dial("tcp", s.Addrs()[0]); err == nil { // the reset may come before the dial is done
				if n, err := c.Read(make([]byte, 1)); err == nil {
					t.Errorf("a blocked source read %d octets", n)
				}
				_ = c.Close()
			}
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0") // a port for a receiver bound to its listener
			if err != nil {
				t.Fatal(err)
			}
			addr := l.Addr().String()
			_ = l.Close()
			s := mustStart(t, Config{Listen: []string{addr}}, "receivers: [{name: a, listen: ['"+addr+"'], quotas: ["+tt.quota+"]}]")
			tt.talk(t, s)
			c := s.Counters().Receivers["a"]
			if c.Blocks != tt.blocks || c.Sources["127.0.0.1"].Connections != c.Connections || c.Connections == 0 {
				t.Errorf("counters %+v, want %d blocks", c, tt.blocks)
			}
		})
	}
}

func TestDelays(t *testing.T) {
	s := mustStart(t, Config{}, "receivers: [{name: a, domains: ['*'], latency: 60ms}]")
	began := clock.Wall()
	p := dial(t, s).hello()
	p.say("NOOP\r\nNOOP\r\nNOOP\r\n", "250", "250", "250")
	if d := clock.Since(began); d < 180*time.Millisecond || d > 5*time.Second {
		t.Errorf("three bursts of replies at 60 ms each took %s", d)
	}
}

func TestCommandOracle(t *testing.T) {
	for kind, talk := range map[string]string{
		"command_bare_lf": "NOOP\n",
		"early_data":      "MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nhi\r\n.\r\n",
		"early_command":   "EHLO x\r\nNOOP\r\n",
	} {
		t.Run(kind, func(t *testing.T) {
			s := mustStart(t, Config{}, "")
			p := dial(t, s).hello()
			p.say(talk, "250")
			if _, err := p.conn.Write([]byte("QUIT\r\n")); err != nil {
				t.Fatal(err)
			}
			for p.ended() == nil {
			}
			if c := s.Counters(); c.Violations[kind] == 0 {
				t.Errorf("%s not seen: %v", kind, c.Violations)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	s := mustStart(t, Config{}, "")
	addr, err := s.Metrics(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := dial(t, s).hello()
	p.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n", "250", "250", "354")
	p.say(text, "250")
	if c := mustCounters(t, addr); c.Messages != 1 || c.Receivers["any"].Sources["127.0.0.1"].Accepted != 1 || c.Open != 1 {
		t.Errorf("counters %+v", c)
	}
	resp, err := http.Post("http://"+addr+"/reset", "", nil)
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("reset: %v %v", resp, err)
	}
	_ = resp.Body.Close()
	if c := mustCounters(t, addr); c.Messages != 0 || c.Receivers["any"].Accepted != 0 || c.Receivers["any"].Open != 1 {
		t.Errorf("counters after reset %+v", c)
	}
}

func mustCounters(t *testing.T, addr string) Counters {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/counters")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var c Counters
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}
