package smtpc

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// TestOpenerWrites proves that the goroutine that reports an outcome durable makes the next write itself: when it
// comes back from doing so, the state of the gate says so, and the session's goroutine has not left its read.
func TestOpenerWrites(t *testing.T) {
	server, client := tcpPair(t)
	w := newFakeWork()
	w.durable = "later"
	for n := range 2 {
		j := &mail.Job{Body: fmt.Appendf(nil, "body %d\r\n", n)}
		j.Delivery.Seq, j.Delivery.From, j.Delivery.To = mail.Seq(n+1), "f@x.test", "t@x.test"
		w.jobs = append(w.jobs, j)
	}
	cfg := Config{}.Complete()
	in := bufio.NewReader(server)
	_, _ = io.WriteString(server, "220 x\r\n")
	go func() {
		_, _ = in.ReadString('\n')
		_, _ = io.WriteString(server, "250-x\r\n250 PIPELINING\r\n")
	}()
	s, o := Open(context.Background(), client, Peer{}, &cfg)
	if s == nil {
		t.Fatal(words(o))
	}
	if s.c.raw == nil {
		t.Skip("this system has no writes that never wait")
	}
	done := make(chan Result)
	go func() { done <- s.Carry(context.Background(), w, Limits{Groups: true}) }()
	mustRead(t, in, "DATA\r\n")
	_, _ = io.WriteString(server, "250 ok\r\n250 ok\r\n354 go\r\n")
	mustRead(t, in, "DATA\r\n")
	_, _ = io.WriteString(server, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
	for armed := false; !armed; { // until the session waits in its read
		s.gate.mu.Lock()
		armed = s.gate.state == gateArmed
		s.gate.mu.Unlock()
	}
	w.fire(1, nil)
	s.gate.mu.Lock()
	state := s.gate.state
	s.gate.mu.Unlock()
	if state != gateWritten {
		t.Errorf("the opener left the gate in state %d", state)
	}
	mustRead(t, in, "body 1\r\n.\r\n")
	_, _ = io.WriteString(server, "250 ok\r\n")
	mustRead(t, in, "QUIT\r\n")
	_ = server.Close()
	w.fire(1, nil)
	if r := <-done; r.Messages != 2 || r.Outcome.Result != 0 {
		t.Errorf("%+v", r)
	}
}

func mustRead(t *testing.T, in *bufio.Reader, until string) {
	t.Helper()
	var got strings.Builder
	for !strings.HasSuffix(got.String(), until) {
		c, err := in.ReadByte()
		if err != nil {
			t.Fatalf("%q, %v; want %q", got.String(), err, until)
		}
		got.WriteByte(c)
	}
}

func tcpPair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	_ = server.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { _ = server.Close(); _ = client.Close() })
	return server, client
}

// TestStorm sends through a receiver that refuses, hangs up and answers at random, while outcomes become durable at
// random, in clear and under TLS, with and without groups and chunks. Whatever happens: a job has one end, no dot
// overtakes an outcome (fakeWork.Clear says so), what was delivered reached the receiver once, and nothing else did.
func TestStorm(t *testing.T) {
	tlsConfig := mustCertificate(t)
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			storm := &storm{rnd: rnd, got: map[string]int{}, tls: tlsConfig, secure: seed%3 == 0, chunking: seed%4 == 1, hangUp: seed%2 == 0}
			server, client := tcpPair(t)
			w := newFakeWork()
			w.durable = "later"
			const jobs = 60
			for n := range jobs {
				j := &mail.Job{Body: fmt.Appendf(nil, ".job %d\r\n%s", n+1, strings.Repeat("..text\r\n", rnd.IntN(200)))}
				j.Delivery.Seq, j.Delivery.From = mail.Seq(n+1), "f@x.test"
				j.Delivery.To = mail.Address(fmt.Sprintf("u%d@x.test", n+1))
				w.jobs = append(w.jobs, j)
			}
			over := make(chan struct{})
			go storm.serve(server, over)
			stop := make(chan struct{})
			var committer sync.WaitGroup
			committer.Go(func() { w.commitAtRandom(rand.New(rand.NewPCG(seed, 2)), stop) })
			cfg := Config{Timeouts: Timeouts{Quit: 100 * time.Millisecond}}.Complete()
			s, o := Open(context.Background(), client, Peer{}, &cfg)
			if s == nil {
				t.Fatal(words(o))
			}
			r := s.Carry(context.Background(), w, Limits{Groups: seed%5 != 0})
			<-over
			close(stop)
			committer.Wait()
			storm.check(t, w, r, jobs)
		})
	}
}

// storm is the receiver of TestStorm.
type storm struct {
	rnd      *rand.Rand
	tls      *tls.Config
	secure   bool
	chunking bool
	hangUp   bool
	got      map[string]int // messages acknowledged or not, by their first line
}

func (s *storm) serve(c net.Conn, over chan struct{}) {
	defer close(over)
	defer func() { _ = c.Close() }()
	in, out := bufio.NewReader(c), bufio.NewWriter(c)
	say := func(line string) {
		_, _ = out.WriteString(line + "\r\n")
		if in.Buffered() == 0 || s.rnd.IntN(4) == 0 {
			_ = out.Flush()
		}
	}
	say("220 storm")
	rcpt := false
	for {
		line, err := in.ReadString('\n')
		if err != nil || s.hangUp && s.rnd.IntN(150) == 0 {
			return
		}
		refuse := s.rnd.IntN(12) == 0
		switch verb, _, _ := strings.Cut(strings.TrimSpace(line), " "); verb {
		case "EHLO":
			say("250-storm\r\n250-PIPELINING")
			if s.secure {
				say("250-STARTTLS")
			}
			if s.chunking {
				say("250-CHUNKING")
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go")
			_ = out.Flush()
			s.secure = false
			c = tls.Server(c, s.tls)
			in, out = bufio.NewReader(c), bufio.NewWriter(c)
		case "RCPT":
			if rcpt = !refuse; rcpt {
				say("250 ok")
			} else {
				say("550 5.1.1 no")
			}
		case "DATA":
			if !rcpt && s.rnd.IntN(2) == 0 {
				say("554 5.5.1 no recipients")
				continue
			}
			say("354 go")
			_ = out.Flush()
			first := ""
			for {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				if first == "" {
					first = strings.TrimPrefix(strings.TrimSpace(line), ".")
				}
			}
			s.end(first, rcpt, refuse, say)
			rcpt = false
		case "BDAT":
			var n int
			_, _ = fmt.Sscanf(line, "BDAT %d LAST", &n)
			chunk := make([]byte, n)
			if _, err := io.ReadFull(in, chunk); err != nil {
				return
			}
			first, _, _ := strings.Cut(string(chunk), "\r\n")
			s.end(first, rcpt, refuse || !rcpt, say)
			rcpt = false
		case "QUIT":
			say("221 bye")
			_ = out.Flush()
			return
		default:
			say("250 ok")
		}
	}
}

func (s *storm) end(first string, rcpt, refuse bool, say func(string)) {
	if refuse {
		say("451 4.3.0 later")
		return
	}
	if rcpt {
		s.got[first]++
	}
	say("250 2.0.0 " + first)
}

func (s *storm) check(t *testing.T, w *fakeWork, r Result, jobs int) {
	t.Helper()
	ends := map[int]int{}
	outcomes := 0
	for _, l := range w.lines {
		var n int
		if _, err := fmt.Sscanf(l, "%d:", &n); err != nil {
			t.Error(l)
			continue
		}
		ends[n]++
		name := fmt.Sprintf(".job %d", n)
		switch {
		case strings.Contains(l, ": delivered"):
			if s.got[name] != 1 || !strings.Contains(l, name) {
				t.Errorf("%s; the receiver has it %d times", l, s.got[name])
			}
		case !strings.Contains(l, "in doubt") && s.got[name] != 0:
			t.Errorf("%s; but the receiver took it", l)
		}
		if !strings.Contains(l, "returned") {
			outcomes++
		}
	}
	for _, j := range w.jobs {
		ends[int(j.Delivery.Seq)]++
	}
	for n := 1; n <= jobs; n++ {
		if ends[n] != 1 {
			t.Errorf("job %d has %d ends", n, ends[n])
		}
	}
	if r.Messages != outcomes || !s.hangUp && len(w.jobs) > 0 {
		t.Errorf("%+v, %d outcomes, %d jobs left", r, outcomes, len(w.jobs))
	}
}

// commitAtRandom makes outcomes durable as a store under load does: a few at a time, sooner or later.
func (w *fakeWork) commitAtRandom(rnd *rand.Rand, stop chan struct{}) {
	for {
		w.mu.Lock()
		n := len(w.waiting)
		w.mu.Unlock()
		if n > 0 {
			w.fire(1+rnd.IntN(n), nil)
			continue
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rnd.IntN(300)) * time.Microsecond):
		}
	}
}

func mustCertificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(crand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func FuzzParseCaps(f *testing.F) {
	f.Add("mx\nPIPELINING\nSIZE 1000\nLIMITS MAILMAX=5 RCPTMAX=1")
	f.Add("mx\nsize 99999999999999999999\nsize=5\n\nLIMITS MAILMAX=-1")
	f.Fuzz(func(t *testing.T, text string) {
		if c := ParseCaps(text); c.Size < 0 || c.MailMax < 0 || c.Size > 0 && !c.HasSize {
			t.Fatalf("%+v", c)
		}
		first, _, _ := strings.Cut(text, "\n")
		if c := ParseCaps(first); c != (Caps{}) {
			t.Fatalf("the greeting line gave %+v", c)
		}
	})
}
