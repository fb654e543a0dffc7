package smtpd

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

// A conversation means the same wherever it is cut into pieces.
func TestPieces(t *testing.T) {
	const script = "MAIL FROM:<a@shop.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\nSubject: 1\r\n\r\n..one\r\n.\r\n" +
		"noop\r\nMAIL FROM:<>\r\nRCPT TO:<c@mx.test>\r\nRSET\r\nVRFY x\r\n" +
		"mail from:<a@shop.test>\r\nrcpt to:<d@mx.test>\r\ndata\r\ntwo\r\n.\r\nQUIT\r\n"
	const replies = "250 2.1.0|250 2.1.5|354 |250 2.0.0|250 2.0.0|250 2.1.0|250 2.1.5|250 2.0.0|252 2.5.0|250 2.1.0|250 2.1.5|354 |250 2.0.0|221 2.0.0|closed"
	r := mustStart(t, Config{}, nil)
	play := func(t *testing.T, pieces ...string) {
		t.Helper()
		before := len(r.box.messages())
		c := r.dial(t, 0).hello()
		defer c.Close()
		for _, p := range pieces {
			c.raw(p)
		}
		for _, want := range strings.Split(replies, "|") {
			c.want(want)
		}
		m := r.box.messages()[before:]
		if len(m) != 2 || string(m[0].Data) != "Subject: 1\r\n\r\n.one\r\n" || string(m[1].Data) != "two\r\n" || m[0].To[0] != "b@mx.test" || m[1].To[0] != "d@mx.test" {
			t.Fatalf("%d messages: %v", len(m), m)
		}
	}
	play(t, script)
	for i := 1; i < len(script); i++ {
		play(t, script[:i], script[i:])
	}
	play(t, strings.Split(script, "")...)
}

// What a client sends behind a message is read once the message has its answer, and answered in order.
func TestPipelinedBehindAMessage(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	r.box.hold, r.box.came = make(chan struct{}), make(chan struct{}, 2)
	c, other := r.dial(t, 0).hello().open(), r.dial(t, 0).hello()
	c.ask("DATA", "354")
	c.raw("one\r\n.\r\nNOOP\r\nMAIL FROM:<a@shop.test>\r\n")
	<-r.box.came
	c.raw("RCPT TO:<c@mx.test>\r\nDATA\r\ntwo\r\n.\r\n")
	other.ask("NOOP", "250") // nobody else waits with it
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if p, err := c.r.Peek(1); err == nil {
		t.Fatalf("an answer before the message is kept: %q", p)
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	close(r.box.hold)
	for _, want := range []string{"250 2.0.0 OK id=000000070000000000000001", "250 2.0.0", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0 OK id=000000070000000000000002"} {
		c.want(want)
	}
}

// A client that is gone, or whose connection is closed, while the store has its message leaves nothing behind.
func TestGoneBeforeTheAnswer(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*rig, *talker)
	}{
		{"client closes", func(_ *rig, c *talker) { _ = c.Close() }},
		{"server cuts its connections", func(r *rig, _ *talker) { r.peers.each(func(w *wire.Conn) { w.Cut("421 4.3.2 bye\r\n") }) }},
		{"server closes its connections", func(r *rig, _ *talker) { r.peers.each((*wire.Conn).Kill) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mustStart(t, Config{}, nil)
			r.box.hold, r.box.came = make(chan struct{}), make(chan struct{}, 1)
			c := r.dial(t, 0).hello().open()
			c.ask("DATA", "354")
			c.raw("one\r\n.\r\n")
			<-r.box.came
			tt.end(r, c)
			close(r.box.hold)
			eventually(t, "the session ends", func() bool { return r.Stats().Open.Load() == 0 })
			if m := r.box.messages(); len(m) != 1 {
				t.Fatalf("%d messages", len(m))
			}
		})
	}
}

// A client that does not read its replies keeps nobody waiting, and gets all of them in the end.
func TestUnreadReplies(t *testing.T) {
	const most = 16 << 20 // octets of commands: more than sockets hold replies to
	r := mustStart(t, Config{Limits: wire.Limits{Idles: most, Commands: most}}, nil)
	c, other := r.dial(t, 0).hello(), r.dial(t, 0).hello()
	reply := other.ask("NOOP", "250 ") + "\r\n"
	flood := bytes.Repeat([]byte("NOOP\r\n"), 1<<10)
	sent := 0
	for {
		if err := c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Write(flood[sent%6 : len(flood)-6+sent%6])
		if sent += n; err != nil { // the server has stopped reading: it waits to write
			break
		}
		if sent > most {
			t.Fatal("the server never waits for its client")
		}
	}
	other.open()
	if got := other.send("x\r\n"); !strings.HasPrefix(got, "250 2.0.0") {
		t.Fatal(got)
	}
	want := int64(sent / 6 * len(reply))
	if got, err := io.Copy(io.Discard, io.LimitReader(c.r, want)); err != nil || got != want {
		t.Fatalf("%d octets of replies, %v; want %d", got, err, want)
	}
}

// What a session keeps for later is its own, wherever it was served before: nobody else's octets get into it.
func TestNobodyElsesOctets(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	others := make([]*talker, 4) // at each reactor one
	for i := range others {
		others[i] = r.dial(t, 0).hello()
	}
	r.box.hold, r.box.came = make(chan struct{}), make(chan struct{}, 1)
	c := r.dial(t, 0).hello().open()
	c.ask("DATA", "354")
	c.raw("\r\n" + strings.Repeat("large\r\n", 30000) + ".\r\n")
	<-r.box.came
	c.raw("MAIL FROM:<a@shop.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\ntwo\r\n.\r\nRSET\r\nVRFY x\r\nNOOP\r\n")
	r.box.hold <- struct{}{}
	<-r.box.came
	for _, o := range others {
		o.ask("NOOP "+strings.Repeat("x", 300), "250")
	}
	r.box.hold <- struct{}{}
	for _, want := range []string{"250 2.0.0 OK id=", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0 OK id=", "250 2.0.0 Reset", "252 2.5.0", "250 2.0.0"} {
		c.want(want)
	}
}

// A client that says no more gets all answers, then the end.
func TestHalfClosed(t *testing.T) {
	large := "\r\n" + strings.Repeat("large\r\n", 30000) + ".\r\n"
	for _, tt := range []struct {
		name string
		said string // behind EHLO
		held string // while the store has the message
		want string
	}{
		{"behind EHLO", "EHLO again\r\n", "", "250-|closed"},
		{"behind a command", "NOOP\r\n", "", "250 2.0.0|closed"},
		{"behind what is not ordinary", "VRFY x\r\nNOOP\r\n", "", "252|250 2.0.0|closed"},
		{"behind a message", "MAIL FROM:<a@shop.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\nx\r\n.\r\n", "", "250|250|354|250 2.0.0 OK|closed"},
		{"behind a large one", "MAIL FROM:<a@shop.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n" + large, "", "250|250|354|250 2.0.0 OK|closed"},
		{"while the store has it", "MAIL FROM:<a@shop.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\nx\r\n.\r\n", "NOOP\r\n", "250|250|354|250 2.0.0 OK|250 2.0.0|closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mustStart(t, Config{}, nil)
			if tt.held != "" {
				r.box.hold, r.box.came = make(chan struct{}), make(chan struct{}, 1)
			}
			c := r.dial(t, 0).hello()
			c.raw(tt.said)
			if tt.held != "" {
				<-r.box.came
				c.raw(tt.held)
			}
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if tt.held != "" {
				close(r.box.hold)
			}
			for _, want := range strings.Split(tt.want, "|") {
				c.want(want)
			}
		})
	}
}

// A client that is gone inside a body is counted, whoever was reading it.
func TestGoneInsideABody(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello().open()
	c.ask("DATA", "354")
	c.raw("half a line")
	_ = c.Close()
	eventually(t, "it is gone", func() bool { return r.Stats().Open.Load() == 0 })
	if n := r.Stats().Deferred.Load(); n != 1 || len(r.box.messages()) != 0 {
		t.Fatalf("%d deferred, %d messages", n, len(r.box.messages()))
	}
}

// What would keep others waiting is handed over by the session itself: many recipients, a store that is crowded.
func TestWhoWouldWait(t *testing.T) {
	for _, tt := range []struct {
		name string
		more int // recipients
		full bool
	}{{"one recipient", 0, false}, {"many recipients", 40, false}, {"a crowded store", 0, true}} {
		t.Run(tt.name, func(t *testing.T) {
			r := mustStart(t, Config{}, nil)
			r.box.full = tt.full
			c := r.dial(t, 0).hello()
			for range 2 {
				c.open()
				for i := range tt.more {
					c.ask(fmt.Sprintf("RCPT TO:<b%d@mx.test>", i), "250 2.1.5")
				}
				if got := c.send("x\r\n"); !strings.HasPrefix(got, "250 2.0.0") {
					t.Fatal(got)
				}
			}
			m := r.box.messages()
			if len(m) != 2 || len(m[1].To) != 1+tt.more || r.box.waited != map[bool]int{true: 2}[tt.full || tt.more > 0] {
				t.Fatalf("%d messages to %d, %d by Submit", len(m), len(m[1].To), r.box.waited)
			}
		})
	}
}

// Messages of all sizes take turns on one connection.
func TestSizesInTurn(t *testing.T) {
	r := mustStart(t, Config{}, nil)
	c := r.dial(t, 0).hello()
	for i, size := range []int{10, 70 << 10, 20, 300 << 10, 128 << 10, 30, 2 << 20, 40} {
		body := "\r\n" + strings.Repeat(fmt.Sprintf("line of %6d..\r\n", size), size/16+1)
		if got := c.open().send(body); !strings.HasPrefix(got, "250 2.0.0") {
			t.Fatal(size, got)
		}
		if m := r.box.messages(); len(m) != i+1 || string(m[i].Data) != body {
			t.Fatalf("%d octets: %d messages, the last one of %d", size, len(m), len(m[len(m)-1].Data))
		}
	}
}
