package smtpc

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

var update = flag.Bool("update", false, "rewrite the results in testdata")

// TestDialogues plays testdata/*.txt: a receiver's side of a session, and what must become of the jobs.
//
//	groups off | linger 1ms | limit 2 | tls required | durable later|never|fail | unclear 2 | unready 2 | timeout 50ms
//	job TO [8bit] [utf8] [from=A] [size=N] [body="Go string"]
//	S: line         sent with CRLF; S lines in a row share a segment
//	S raw "text"    sent as it is, in a segment of its own
//	C: line         must come next
//	C data N        job N's body must come next, dot-stuffed, with its dot; the bytes pass an oracle of their own
//	C chunk N       job N's body must come next as it is
//	quiet           nothing may come for 30 ms
//	settle          what was settled so far becomes durable (with "durable later")
//	close | reset   of the receiver's end
//	end             the client must close now
//	---             followed by the results, as "go test -update" writes them
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			script, want, _ := strings.Cut(string(text), "---\n")
			got := play(t, script)
			if *update {
				if err := os.WriteFile(name, []byte(script+"---\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// scene is a dialogue being played.
type scene struct {
	t    *testing.T
	jobs []*mail.Job
	work *fakeWork
	lim  Limits
	peer Peer
	cfg  Config
	conn *net.TCPConn
	in   *bufio.Reader
}

func play(t *testing.T, script string) string {
	sc := &scene{t: t, work: newFakeWork(), lim: Limits{Groups: true}}
	sc.cfg = Config{Helo: "client.test", Timeouts: Timeouts{Quit: 200 * time.Millisecond}}
	lines := strings.Split(script, "\n")
	for len(lines) > 0 && sc.option(lines[0]) {
		lines = lines[1:]
	}
	sc.work.jobs = append(sc.work.jobs, sc.jobs...)
	sc.cfg = sc.cfg.Complete()

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ended := make(chan string, 1)
	go func() { ended <- sc.client(ln.Addr().String()) }()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sc.conn = conn.(*net.TCPConn)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	sc.in = bufio.NewReaderSize(conn, 1<<20)
	for i := 0; i < len(lines); i++ {
		var segment []byte
		for ; i < len(lines) && strings.HasPrefix(lines[i], "S: "); i++ {
			segment = append(append(segment, lines[i][3:]...), "\r\n"...)
		}
		sc.send(segment)
		if i < len(lines) {
			sc.line(lines[i])
		}
	}
	select {
	case end := <-ended:
		return sc.work.log() + end
	case <-time.After(10 * time.Second):
		t.Fatal("the session did not end")
	}
	return ""
}

func (sc *scene) client(addr string) string {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	sc.peer.Remote = netip.MustParseAddrPort(addr)
	sc.peer.Host = "mx.test"
	s, o := Open(context.Background(), conn, sc.peer, &sc.cfg)
	if s == nil {
		return "not open: " + words(o) + "\n"
	}
	r := s.Carry(context.Background(), sc.work, sc.lim)
	out := fmt.Sprintf("end: %d messages", r.Messages)
	if r.Torn {
		out += ", torn"
	}
	if r.Outcome.Result != 0 {
		out += ": " + words(r.Outcome)
	}
	return out + "\n"
}

func words(o mail.Outcome) string {
	s := fmt.Sprintf("%v at %v, status %d, %v", o.Result, o.Stage, o.Status, o.Scope)
	if o.InDoubt {
		s += ", in doubt"
	}
	if o.TLS {
		s += ", tls"
	}
	if !o.Reply.IsZero() {
		s += fmt.Sprintf(", %q", o.Reply.String())
	}
	if o.Detail != "" {
		s += ", " + o.Detail
	}
	return s
}

// option takes a line in front of the dialogue.
func (sc *scene) option(line string) bool {
	word, arg, _ := strings.Cut(line, " ")
	switch word {
	case "#", "":
	case "groups":
		sc.lim.Groups = arg != "off"
	case "linger":
		sc.lim.Linger = sc.duration(arg)
	case "limit":
		sc.lim.Messages = sc.number(arg)
	case "interval":
		sc.lim.Interval = sc.duration(arg)
	case "tls":
		sc.peer.TLS = arg
	case "timeout":
		d := sc.duration(arg)
		sc.cfg.Timeouts = Timeouts{Greeting: d, Command: d, Data: d, Block: d, Dot: d, TLS: d, Quit: d}
	case "durable":
		sc.work.durable = arg
	case "unclear":
		sc.work.unclear = sc.number(arg)
	case "unready":
		sc.work.unready = sc.number(arg)
	case "job":
		sc.jobs = append(sc.jobs, sc.job(arg))
	default:
		return false
	}
	return true
}

func (sc *scene) job(arg string) *mail.Job {
	n := len(sc.jobs) + 1
	arg, quoted, hasBody := strings.Cut(arg, " body=")
	fields := strings.Fields(arg)
	j := &mail.Job{}
	j.Delivery.Seq = mail.Seq(n)
	j.Delivery.From = "from@client.test"
	j.Delivery.To = mail.Address(fields[0])
	j.Body = fmt.Appendf(nil, "Subject: %d\r\n\r\n.body %d\r\n", n, n)
	if hasBody {
		body, err := strconv.Unquote(quoted)
		if err != nil {
			sc.t.Fatalf("body of job %d: %v", n, err)
		}
		j.Body = []byte(body)
	}
	for _, f := range fields[1:] {
		name, value, _ := strings.Cut(f, "=")
		switch name {
		case "8bit":
			j.Delivery.EightBit = true
		case "utf8":
			j.Delivery.UTF8 = true
		case "from":
			j.Delivery.From = mail.Address(value)
		case "size":
			j.Body = bytes.Repeat([]byte(".seventy octets of text that begin with a dot and fill a line of mail\r\n"), sc.number(value)/72)
		default:
			sc.t.Fatalf("job option %q", f)
		}
	}
	return j
}

// line plays one line of the dialogue that is not a plain reply.
func (sc *scene) line(line string) {
	sc.t.Helper()
	word, arg, _ := strings.Cut(line, " ")
	switch {
	case line == "" || word == "#":
	case strings.HasPrefix(line, "S raw "):
		text, err := strconv.Unquote(line[len("S raw "):])
		if err != nil {
			sc.t.Fatal(line, err)
		}
		sc.send([]byte(text))
	case word == "C:":
		got, err := sc.in.ReadString('\n')
		if got != arg+"\r\n" {
			sc.t.Fatalf("client said %q, %v; want %q", got, err, arg)
		}
	case strings.HasPrefix(line, "C data "):
		sc.data(sc.jobs[sc.number(line[len("C data "):])-1].Body)
	case strings.HasPrefix(line, "C chunk "):
		want := sc.jobs[sc.number(line[len("C chunk "):])-1].Body
		got := make([]byte, len(want))
		if _, err := io.ReadFull(sc.in, got); err != nil || !bytes.Equal(got, want) {
			sc.t.Fatalf("chunk %q, %v", got, err)
		}
	case word == "quiet":
		_ = sc.conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
		if b, err := sc.in.Peek(1); err == nil {
			rest, _ := sc.in.Peek(sc.in.Buffered())
			sc.t.Fatalf("client said %q %q, should be quiet", b, rest)
		}
		_ = sc.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	case word == "settle":
		sc.work.fire(sc.number(arg), nil)
	case word == "close":
		_ = sc.conn.Close()
	case word == "reset":
		_ = sc.conn.SetLinger(0)
		_ = sc.conn.Close()
	case word == "end":
		if rest, err := io.ReadAll(sc.in); len(rest) > 0 {
			sc.t.Fatalf("client said %q, %v; want the end", rest, err)
		}
	default:
		sc.t.Fatalf("no such line: %q", line)
	}
}

// data is the independent outbound oracle (threats section 2): it reads octet by octet, by RFC 5321 §2.3.8 and §4.5.2
// alone, and lets nothing pass that a receiver could misread.
func (sc *scene) data(want []byte) {
	sc.t.Helper()
	var got, line []byte
	for {
		c, err := sc.in.ReadByte()
		if err != nil {
			sc.t.Fatalf("after %q%q: %v", got, line, err)
		}
		line = append(line, c)
		if c == 0 || c == '\n' && (len(line) < 2 || line[len(line)-2] != '\r') ||
			len(line) > 1 && line[len(line)-2] == '\r' && c != '\n' || len(line) > 1001 {
			sc.t.Fatalf("line %q must not be sent", line)
		}
		if c != '\n' {
			continue
		}
		if string(line) == ".\r\n" {
			break
		}
		if line[0] == '.' {
			if line = line[1:]; line[0] != '.' {
				sc.t.Fatalf("dot not doubled in front of %q", line)
			}
		}
		if len(line) > 1000 {
			sc.t.Fatalf("line of %d octets", len(line))
		}
		got = append(got, line...)
		line = line[:0]
	}
	if !bytes.Equal(got, want) {
		sc.t.Fatalf("data %q, want %q", got, want)
	}
}

func (sc *scene) send(b []byte) {
	if len(b) == 0 {
		return
	}
	if _, err := sc.conn.Write(b); err != nil {
		sc.t.Logf("sending %q: %v", b, err)
	}
}

func (sc *scene) number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		sc.t.Fatal(err)
	}
	return n
}

func (sc *scene) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		sc.t.Fatal(err)
	}
	return d
}
