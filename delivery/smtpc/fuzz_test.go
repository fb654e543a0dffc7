package smtpc

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// FuzzSession plays a receiver that says whatever it likes, whatever it is told, and hangs up. Every job still has
// one end, and nothing counts as delivered that got no 2xx behind a 354.
func FuzzSession(f *testing.F) {
	hello := "220 x\r\n250-x\r\n250 PIPELINING\r\n"
	f.Add([]byte(hello+"250 ok\r\n250 ok\r\n354 go\r\n"), []byte("250 done\r\n250 ok\r\n550 no\r\n554 no\r\n"))
	f.Add([]byte(hello+"250 ok\r\n550 ok\r\n354 go\r\n"), []byte("250 done\r\n421 bye\r\n"))
	f.Add([]byte("220 x\r\n502 x\r\n250 x\r\n250 ok\r\n"), []byte("250 ok\r\n354 go\r\n250 ok\r\n"))
	f.Add([]byte("220-x\r\n220 x\r\n250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n"), []byte("250 ok\r\n250 ok\r\n250 done\r\n"))
	f.Add([]byte("220 x\r\n250 STARTTLS\r\n"), []byte("220 go\r\n"))
	f.Fuzz(func(t *testing.T, first, then []byte) {
		server, client := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, server) }()
		go func() {
			// A reply a write, so that the greeting is not taken for out of turn.
			for _, part := range [][]byte{first, then} {
				for _, line := range strings.SplitAfter(string(part), "\n") {
					_, _ = io.WriteString(server, line)
				}
			}
			_ = server.Close()
		}()
		w := newFakeWork()
		for n := range 3 {
			j := &mail.Job{Body: []byte("x\r\n")}
			j.Delivery.Seq, j.Delivery.From, j.Delivery.To = mail.Seq(n+1), "f@x.test", "t@x.test"
			w.jobs = append(w.jobs, j)
		}
		d := time.Second
		cfg := Config{Timeouts: Timeouts{Greeting: d, Command: d, Data: d, Block: d, Dot: d, TLS: d, Quit: d}}.Complete()
		s, o := Open(context.Background(), client, Peer{}, &cfg)
		if s == nil {
			if o.Result != mail.Deferred || o.Stage == mail.StageNone {
				t.Fatal(words(o))
			}
			return
		}
		s.Carry(context.Background(), w, Limits{Groups: len(first)%2 == 0})
		ends := len(w.jobs)
		seen := map[string]bool{}
		for _, l := range w.lines {
			var n int
			if _, err := fmt.Sscanf(l, "%d:", &n); err != nil || seen[fmt.Sprint(n)] {
				t.Fatalf("%s", w.log())
			}
			seen[fmt.Sprint(n)] = true
			ends++
			all := string(first) + string(then)
			if strings.Contains(l, ": delivered") && !strings.Contains(all, "354") && !strings.Contains(strings.ToUpper(all), "CHUNKING") {
				t.Fatalf("delivered without a 354: %s", l)
			}
		}
		if ends != 3 {
			t.Fatalf("%d ends of 3 jobs: %s", ends, w.log())
		}
	})
}
