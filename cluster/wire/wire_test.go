package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/cluster/wire/wiretest"
)

// echo answers with the peer's name and protocol, then with what it reads.
func echo(proto string) func(wire.Peer, net.Conn) {
	return func(p wire.Peer, c net.Conn) {
		defer c.Close()
		_, _ = io.WriteString(c, p.Name+" "+proto+"\n")
		_, _ = io.Copy(c, c)
	}
}

func mustDial(t *testing.T, from, to *wire.Wire, protos ...string) (net.Conn, string, wire.Peer) {
	t.Helper()
	c, proto, peer, err := from.Dial(t.Context(), to.Addr().String(), protos...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, proto, peer
}

func mustRead(t *testing.T, c net.Conn, n int) string {
	t.Helper()
	buf := make([]byte, n)
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(buf)
}

// mustEnd waits until a connection is closed by the other side.
func mustEnd(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("still open after 20 s, %d octets read", n)
	}
}

// Members of different releases agree on the newest version that both speak, or are told apart with a reason.
func TestVersions(t *testing.T) {
	rows := []struct {
		name          string
		served, offer []string
		want          string // protocol agreed on
		err           error
		text          string // in the error
	}{
		{"same", []string{"ship/1"}, []string{"ship/1"}, "ship/1", nil, ""},
		{"newer dials older, offers both", []string{"ship/1"}, []string{"ship/2", "ship/1"}, "ship/1", nil, ""},
		{"older dials newer that serves both", []string{"ship/1", "ship/2"}, []string{"ship/1"}, "ship/1", nil, ""},
		{"both know both: the newest", []string{"ship/1", "ship/2"}, []string{"ship/2", "ship/1"}, "ship/2", nil, ""},
		{"the dialler's order counts", []string{"ship/2", "ship/1"}, []string{"ship/1", "ship/2"}, "ship/1", nil, ""},
		{"newer without the old one dials older", []string{"raft/1", "ship/1"}, []string{"ship/2"}, "", wire.ErrVersion,
			"no common version: we offer ship/2; n2 serves ship/1"},
		{"older dials newer without the old one", []string{"ship/2", "ship/3"}, []string{"ship/1"}, "", wire.ErrVersion,
			"we offer ship/1; n2 serves ship/2, ship/3"},
		{"another protocol only", []string{"unseal/1"}, []string{"ship/1"}, "", wire.ErrUnserved,
			"not served: we offer ship/1; n2 serves unseal/1"},
		{"nothing served", nil, []string{"ship/1"}, "", wire.ErrUnserved, "n2 serves nothing"},
		{"a name that begins alike", []string{"shipping/1"}, []string{"ship/1"}, "", wire.ErrUnserved, "shipping/1"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := wiretest.Members(t, "n1", "n2")
			for _, proto := range row.served {
				m[1].Handle(proto, echo(proto))
			}
			c, proto, peer, err := m[0].Dial(t.Context(), m[1].Addr().String(), row.offer...)
			if !errors.Is(err, row.err) {
				t.Fatalf("error %v, want %v", err, row.err)
			}
			if err != nil {
				if c != nil || !strings.Contains(err.Error(), row.text) {
					t.Fatalf("error %q does not say %q", err, row.text)
				}
				return
			}
			defer c.Close()
			if proto != row.want || peer.Name != "n2" || peer.Addr != m[1].Addr() {
				t.Fatalf("agreed on %s with %v, want %s with n2 at %v", proto, peer, row.want, m[1].Addr())
			}
			if got, want := mustRead(t, c, len("n1 ship/1\n")), "n1 "+row.want+"\n"; got != want {
				t.Fatalf("the listener says %q, want %q", got, want)
			}
		})
	}
}

// A protocol comes and goes while the port is open, as a listener and as a function; its open connections stay.
func TestListener(t *testing.T) {
	m := wiretest.Members(t, "n1", "n2")
	l := m[1].Listener(wire.Raft)
	accepted := make(chan net.Conn, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("accept: %v", err)
				}
				return
			}
			accepted <- c
		}
	})
	c, _, _ := mustDial(t, m[0], m[1], wire.Raft)
	in := <-accepted
	if p, ok := wire.PeerOf(in); !ok || p.Name != "n1" {
		t.Fatalf("peer %v %v, want n1", p, ok)
	}
	if got := m[1].Served(); !slices.Equal(got, []string{wire.Raft}) {
		t.Fatalf("serves %v", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if _, _, _, err := m[0].Dial(t.Context(), m[1].Addr().String(), wire.Raft); !errors.Is(err, wire.ErrUnserved) {
		t.Fatalf("after the listener's end: %v, want ErrUnserved", err)
	}
	go func() { _, _ = io.WriteString(in, "still here") }()
	mustRead(t, c, len("still here"))
	m[1].Listener(wire.Raft) // the name is free again
}

// Blocks of many records arrive whole, from two writers at once too, and Close does not wait for a peer that takes nothing.
func TestLargeBlocks(t *testing.T) {
	m := wiretest.Members(t, "n1", "n2")
	release := make(chan struct{})
	m[1].Handle("echo/1", echo("echo/1"))
	m[1].Handle("deaf/1", func(_ wire.Peer, c net.Conn) { <-release; c.Close() })
	defer close(release)
	c, _, _ := mustDial(t, m[0], m[1], "echo/1")
	mustRead(t, c, len("n1 echo/1\n"))
	const size, blocks = 300_000, 10
	var writing sync.WaitGroup
	for _, letter := range []byte("ab") {
		writing.Go(func() {
			for range blocks {
				if n, err := c.Write(bytes.Repeat([]byte{letter}, size)); n != size || err != nil {
					t.Errorf("wrote %d octets: %v", n, err)
				}
			}
		})
	}
	got := mustRead(t, c, 2*blocks*size)
	writing.Wait()
	if n := strings.Count(got, "a"); n != blocks*size || strings.Count(got, "b") != n {
		t.Errorf("%d octets of a", n)
	}
	var took [3]time.Duration // a machine with other work may be slow; what waits for TLS's 5 s always does
	for i := range took {
		c, _, _ := mustDial(t, m[0], m[1], "deaf/1")
		if took[i] = closeStuck(c); took[i] < 4*time.Second {
			return
		}
	}
	t.Errorf("closing took %s", took)
}

// closeStuck measures how long it takes to close a connection whose peer takes nothing any more.
func closeStuck(c net.Conn) time.Duration {
	wrote, enough, stuck := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stuck)
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				return
			}
			select {
			case wrote <- struct{}{}:
			case <-enough:
			}
		}
	}()
	for full := false; !full; { // until nothing is taken any more
		select {
		case <-wrote:
		case <-time.After(300 * time.Millisecond):
			full = true
		}
	}
	close(enough)
	begun := time.Now()
	_ = c.Close()
	<-stuck
	return time.Since(begun)
}

// A removed member is refused in both directions although its certificate is in order, and its open connections are cut.
func TestRefuseAndCut(t *testing.T) {
	m := wiretest.Members(t, "n1", "n2", "n3")
	for _, w := range m {
		w.Handle(wire.Ship, echo(wire.Ship))
	}
	old, _, _ := mustDial(t, m[2], m[0], wire.Ship)
	out, _, _ := mustDial(t, m[0], m[2], wire.Ship)
	other, _, _ := mustDial(t, m[1], m[0], wire.Ship)

	gone := errors.New("was removed")
	m[0].Refuse(func(p wire.Peer) error {
		if p.Name == "n3" {
			return gone
		}
		return nil
	})
	m[0].Cut("n3")
	mustEnd(t, old)
	if _, err := io.Copy(io.Discard, out); err == nil {
		t.Fatal("our own connection to the removed member is still good")
	}
	if _, _, _, err := m[2].Dial(t.Context(), m[0].Addr().String(), wire.Ship); !errors.Is(err, wire.ErrRefused) {
		t.Fatalf("removed member dials: %v, want ErrRefused", err)
	} else if strings.Contains(err.Error(), gone.Error()) {
		t.Fatalf("the peer learns why: %v", err)
	}
	if _, _, _, err := m[0].Dial(t.Context(), m[2].Addr().String(), wire.Ship); !errors.Is(err, wire.ErrPeer) || !errors.Is(err, gone) {
		t.Fatalf("removed member is dialled: %v, want ErrPeer", err)
	}
	mustRead(t, other, len("n2 "+wire.Ship+"\n"))
	_, _ = io.WriteString(other, "ping")
	mustRead(t, other, 4)
}

// Close ends everything that reads, writes, accepts or dials.
func TestClose(t *testing.T) {
	m := wiretest.Members(t, "n1", "n2")
	m[1].Handle(wire.Ship, echo(wire.Ship))
	l := m[1].Listener(wire.Raft)
	c, _, _ := mustDial(t, m[0], m[1], wire.Ship)
	accepts := make(chan error, 1)
	go func() { _, err := l.Accept(); accepts <- err }()

	if err := m[1].Close(); err != nil {
		t.Fatal(err)
	}
	mustEnd(t, c)
	if err := <-accepts; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("accept: %v", err)
	}
	if _, _, _, err := m[1].Dial(t.Context(), m[0].Addr().String(), wire.Ship); !errors.Is(err, wire.ErrClosed) {
		t.Fatalf("dial: %v", err)
	}
	if err := m[1].Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
}

// A peer that accepts and says nothing costs the handshake's time-out, or the caller's, and no more.
func TestDialGivesUp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	dir := wiretest.Dir(t, "n1")
	for name, limit := range map[string]struct{ own, ctx time.Duration }{
		"own time-out": {50 * time.Millisecond, time.Minute},
		"caller's":     {time.Minute, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := wiretest.Config(dir, "n1")
			cfg.HandshakeTimeout = limit.own
			w := wiretest.Listen(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), limit.ctx)
			defer cancel()
			begun := time.Now()
			if _, _, _, err := w.Dial(ctx, silent.Addr().String(), wire.Ship); err == nil || time.Since(begun) > 20*time.Second {
				t.Fatalf("after %v: %v", time.Since(begun), err)
			}
		})
	}
}

// New files are taken at Reload; wrong ones leave the former in force.
func TestReload(t *testing.T) {
	dir := wiretest.Dir(t, "n1", "n2")
	a, b := wiretest.Listen(t, wiretest.Config(dir, "n1")), wiretest.Listen(t, wiretest.Config(dir, "n2"))
	b.Handle(wire.Ship, echo(wire.Ship))
	b.Start()
	until := a.Expires()

	// n1 gets a new pair from the same authority.
	mustRename(t, filepath.Join(dir, "n1.crt"), filepath.Join(dir, "old.crt"))
	mustRename(t, filepath.Join(dir, "n1.key"), filepath.Join(dir, "old.key"))
	if err := a.Reload(); err == nil {
		t.Fatal("reloaded files that are not there")
	}
	mustDial(t, a, b, wire.Ship)
	if err := wire.Init(dir, []string{"n1"}); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if a.Expires().Before(until) {
		t.Fatalf("expires %v, before the old one at %v", a.Expires(), until)
	}
	mustDial(t, a, b, wire.Ship)

	// Then somebody puts another cluster's files there.
	other := wiretest.Dir(t, "n1")
	for _, name := range []string{wire.CAFile, "n1.crt", "n1.key"} {
		mustRename(t, filepath.Join(other, name), filepath.Join(dir, name))
	}
	if err := a.Reload(); !errors.Is(err, wire.ErrOtherCluster) {
		t.Fatalf("reload of another cluster's files: %v", err)
	}
	mustDial(t, a, b, wire.Ship)
}

// What strangers do is logged, but they cannot fill the disk with it.
func TestLogIsThin(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	cfg := wiretest.Config(wiretest.Dir(t, "n1"), "n1")
	cfg.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
	w := wiretest.Listen(t, cfg)
	w.Start()
	for range 50 {
		c, err := net.Dial("tcp", w.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
		mustEnd(t, c)
		_ = c.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "\n"); n == 0 || n > 20 {
		t.Fatalf("%d lines for 50 strangers:\n%s", n, log.String())
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
