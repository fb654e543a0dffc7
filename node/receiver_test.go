package node_test

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// receiver is a mail server as others run them: plain RFC 5321 on a real socket, that keeps what it got to the octet.
// It answers each stage as told; the greeting by the address of the client.
type receiver struct {
	net.Listener
	answer func(stage string, arg string) string // stage: greet mail rcpt dot; "" = accept, reset = a TCP reset

	mu       sync.Mutex
	messages []received
	sessions []*session
	attempts map[string]int // RCPT commands by path
	loose    []string       // octets that no strict sender writes
	held     map[net.Conn]bool
	most     int // connections at once, since the beginning
}

// session is what one connection was used for.
type session struct {
	client string
	began  []time.Time // each MAIL
	rcpts  int         // RCPTs
	ended  bool
}

// reset is the answer that breaks the connection off with a TCP reset.
const reset = "reset"

// received is one message as it came: the paths as written, the content without dots.
type received struct{ from, to, data string }

func startReceiver(t *testing.T, addr string, answer func(stage, arg string) string) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if answer == nil {
		answer = func(string, string) string { return "" }
	}
	r := &receiver{Listener: l, answer: answer, attempts: map[string]int{}, held: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.held[c] = true
			r.most = max(r.most, len(r.held))
			r.mu.Unlock()
			wg.Go(func() {
				r.serve(c)
				c.Close()
				r.note(func() { delete(r.held, c) })
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for c := range r.held {
			c.Close()
		}
		r.mu.Unlock()
		wg.Wait()
		if len(r.loose) > 0 {
			t.Errorf("not strict on the wire: %q", r.loose)
		}
	})
	return r
}

func (r *receiver) serve(c net.Conn) {
	in := bufio.NewReader(c)
	client, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	now := &session{client: client}
	r.note(func() { r.sessions = append(r.sessions, now) })
	defer r.note(func() { now.ended = true })
	gone, polite := false, false
	defer func() {
		if !polite {
			r.answer("cut", "")
		}
	}()
	say := func(stage, arg, ok string) bool {
		a := r.answer(stage, arg)
		if a == reset {
			_ = c.(*net.TCPConn).SetLinger(0)
			gone = true
			return false
		}
		if a == "" {
			a = ok
		}
		_, err := c.Write([]byte(a + "\r\n"))
		return err == nil && a[0] < '4'
	}
	if !say("greet", client, "220 receiver.test ESMTP") {
		return
	}
	var m received
	for {
		line, ok := r.line(in)
		if !ok {
			return
		}
		verb, arg, _ := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(line, "EHLO"):
			say("ehlo", "", "250-receiver.test\r\n250-PIPELINING\r\n250 8BITMIME")
		case verb == "MAIL FROM":
			m.to, m.from = "", path(arg)
			r.note(func() { now.began = append(now.began, time.Now()) })
			say("mail", m.from, "250 ok")
		case verb == "RCPT TO":
			r.note(func() { r.attempts[path(arg)]++; now.rcpts++ })
			if say("rcpt", path(arg), "250 ok") {
				m.to = path(arg)
			}
		case line == "DATA" && m.to == "":
			say("data", "", "503 no recipient")
		case line == "DATA":
			say("data", "", "354 go")
			if m.data, ok = r.content(in); !ok {
				return
			}
			if a := r.answer("dot", m.to); a == "" || a[0] == '2' {
				r.mu.Lock()
				r.messages = append(r.messages, m)
				r.mu.Unlock()
			}
			if say("dot", m.to, "250 taken"); gone {
				return
			}
		case line == "QUIT":
			polite = true
			say("quit", "", "221 bye")
			return
		default:
			say("other", "", "250 ok")
		}
	}
}

// note writes something down.
func (r *receiver) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// line reads one command; only CRLF ends it.
func (r *receiver) line(in *bufio.Reader) (string, bool) {
	s, err := in.ReadString('\n')
	if err != nil {
		return "", false
	}
	text, crlf := strings.CutSuffix(s, "\r\n")
	if !crlf || strings.ContainsAny(text, "\r\x00") {
		r.mu.Lock()
		r.loose = append(r.loose, s)
		r.mu.Unlock()
	}
	return text, true
}

// content reads up to the final dot and takes the doubled ones off.
func (r *receiver) content(in *bufio.Reader) (string, bool) {
	var b bytes.Buffer
	for {
		l, ok := r.line(in)
		if !ok {
			return "", false
		}
		if l == "." {
			return b.String(), true
		}
		b.WriteString(strings.TrimPrefix(l, ".") + "\r\n")
	}
}

// path is what stands between the outermost brackets.
func path(arg string) string {
	return arg[strings.IndexByte(arg, '<')+1 : strings.LastIndexByte(arg, '>')]
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.messages)
}

func (r *receiver) tried(to string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts[to]
}

// mustGet waits for the n-th message, counted from 1.
func (r *receiver) mustGet(t *testing.T, n int) received {
	t.Helper()
	mustBecome(t, "message received", func() bool { return r.count() >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages[n-1]
}

// mustBecome waits until ok holds.
func mustBecome(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !becomes(10*time.Second, ok) {
		t.Fatalf("never: %s", what)
	}
}

func becomes(within time.Duration, ok func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(within)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			return ok()
		}
	}
	return true
}

// nobodyUnknown are the answers of a receiver that knows everybody but those whose address begins with "nobody".
func nobodyUnknown(stage, arg string) string {
	if stage == "rcpt" && strings.HasPrefix(arg, "nobody") {
		return "550 5.1.1 User unknown"
	}
	return ""
}
