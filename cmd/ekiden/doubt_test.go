package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// silent is a receiver that takes every message and never answers a final dot, until it is told to.
type silent struct {
	net.Listener

	mu     sync.Mutex
	answer bool
	dots   []string // recipients whose final dot came
}

func startSilent(t *testing.T) *silent {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &silent{Listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *silent) serve(c net.Conn) {
	defer c.Close()
	say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
	say("220 mx.test")
	in := bufio.NewScanner(c)
	for to := ""; in.Scan(); {
		switch line := in.Text(); {
		case strings.HasPrefix(line, "RCPT TO:<"):
			to = strings.TrimSuffix(line[len("RCPT TO:<"):], ">")
			say("250 ok")
		case line == "DATA":
			say("354 go")
			for in.Scan() && in.Text() != "." {
			}
			s.mu.Lock()
			s.dots = append(s.dots, to)
			answer := s.answer
			s.mu.Unlock()
			if answer {
				say("250 ok")
			}
		case line == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// seen counts final dots of a recipient.
func (s *silent) seen(to string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.dots {
		if d == to {
			n++
		}
	}
	return n
}

// mustSubmit hands a message over in clear text.
func mustSubmit(t *testing.T, address, to, text string) {
	t.Helper()
	c, err := smtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := errors.Join(c.Mail("a@shop.test"), c.Rcpt(to)); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDoubtOutlivesAKill: what was killed between a final dot and its answer is held, given up or sent again as its group
// says, and the log tells which (capability N3).
func TestDoubtOutlivesAKill(t *testing.T) {
	far := startSilent(t)
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "node.yaml")
	key := filepath.Join(dir, "key")
	for path, text := range map[string]string{
		file: "node: {name: n1, data: data}\nsmtp: {listeners: [{address: '127.0.0.1:0'}]}\nhttp: {address: '127.0.0.1:0'}\n" +
			"keys: {unseal: [{file: " + key + "}]}\nsettings: settings.yaml\n" +
			"delivery: {allow_private: true, routes: [{domain: '*', to: '" + far.Addr().String() + "'}]}\n",
		filepath.Join(dir, "settings.yaml"): "tenants: [{name: shop, in_doubt: {groups: [{name: careful, policy: hold}, {name: bulk, policy: give_up}]}, " +
			"compositions: [{name: main, networks: [127.0.0.1], retry: {interval: 1s}}]}]\n",
		key: strings.Repeat("k", 32),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first := mustServe(t, "-c", file)
	want := map[string]string{"careful": "deferred", "bulk": "failed", "other": "succeeded"}
	for group := range want {
		text := fmt.Sprintf("X-Relay-Group: %s\r\nSubject: x\r\n\r\nx\r\n", group)
		mustSubmit(t, first.smtp, group+"@x.test", text)
	}
	mustSee := func(what string, f func() bool) {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for late := time.After(30 * time.Second); !f(); {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("never: %s", what)
			}
		}
	}
	mustSee("all dots are out", func() bool { return far.seen("careful@x.test")+far.seen("bulk@x.test")+far.seen("other@x.test") == 3 })
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait() // killed, as it says
	far.mu.Lock()
	far.answer = true
	far.mu.Unlock()

	second := mustServe(t, "-c", file)
	for group, status := range want {
		mustSee(group+" "+status, func() bool {
			_, out := second.command(t, "", "log", "--data", data, "--to", group+"@x.test", "--status", status, "--format", "tsv")
			switch group {
			case "careful":
				return strings.Contains(out, "the node ended after the final dot: hold")
			case "bulk":
				return strings.Contains(out, "the node ended after the final dot: give_up")
			}
			return strings.Contains(out, "250 ok")
		})
	}
	if far.seen("careful@x.test") != 1 || far.seen("bulk@x.test") != 1 || far.seen("other@x.test") != 2 {
		t.Errorf("final dots: %q", far.dots)
	}
	if exit, out := second.command(t, "", "trace", "careful@x.test", "--data", data); exit != 0 || !strings.Contains(out, "in_doubt") {
		t.Errorf("trace: %d\n%s", exit, out)
	}
	second.mustEnd(t)
}
