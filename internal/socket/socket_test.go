package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// pair returns the two ends of a connection on loopback, the first with its raw form.
func pair(t *testing.T) (syscall.RawConn, *net.TCPConn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	ours, theirs := a.(*net.TCPConn), b.(*net.TCPConn)
	raw, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return raw, ours, theirs
}

// now makes one call and does not wait, whatever it says.
func now(t *testing.T, do func(func(uintptr) bool) error, call func(uintptr, []byte) (int, error), p []byte) (n int, err error) {
	t.Helper()
	if e := do(func(fd uintptr) bool { n, err = call(fd, p); return true }); e != nil {
		t.Fatal(e)
	}
	return n, err
}

func TestReceive(t *testing.T) {
	raw, _, theirs := pair(t)
	p := make([]byte, 4)
	if n, err := now(t, raw.Read, Receive, p); n != 0 || err != syscall.EAGAIN {
		t.Fatalf("nothing waits: %d, %v; want 0, EAGAIN", n, err)
	}
	if _, err := theirs.Write([]byte("250 OK")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"250 ", "OK"} {
		var n int
		var err error
		if e := raw.Read(func(fd uintptr) bool { n, err = Receive(fd, p); return err != syscall.EAGAIN }); e != nil {
			t.Fatal(e)
		}
		if got := string(p[:n]); got != want || err != nil {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	if err := theirs.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	n, err := 1, error(nil)
	if e := raw.Read(func(fd uintptr) bool { n, err = Receive(fd, p); return err != syscall.EAGAIN }); e != nil {
		t.Fatal(e)
	}
	if n != 0 || err != nil {
		t.Fatalf("the end: %d, %v; want 0, nil", n, err)
	}
}

func TestSend(t *testing.T) {
	raw, ours, theirs := pair(t)
	p := make([]byte, 64<<10)
	sent := 0
	for {
		n, err := now(t, raw.Write, Send, p)
		if err == syscall.EAGAIN {
			break
		}
		if err != nil || n == 0 {
			t.Fatalf("%d, %v after %d octets", n, err, sent)
		}
		if sent += n; sent > 1<<30 {
			t.Fatal("a full socket takes octets without end")
		}
	}
	go func() { _ = ours.CloseWrite() }()
	if got, err := io.Copy(io.Discard, theirs); err != nil || got != int64(sent) {
		t.Fatalf("%d octets arrived, %v; want %d", got, err, sent)
	}
	if _, err := now(t, raw.Write, Send, p); !errors.Is(err, syscall.EPIPE) { // and no signal
		t.Fatalf("after the end: %v; want EPIPE", err)
	}
}

func TestReset(t *testing.T) {
	raw, _, theirs := pair(t)
	if err := theirs.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if e := raw.Read(func(fd uintptr) bool { _, err = Receive(fd, make([]byte, 4)); return err != syscall.EAGAIN }); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%v; want ECONNRESET", err)
	}
}

// A write that is more than the socket takes waits for the reader, until its deadline; what went out is told.
func TestWriter(t *testing.T) {
	raw, ours, theirs := pair(t)
	w := NewWriter(raw)
	p := make([]byte, 16<<20)
	if err := ours.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	first, err := w.Write(p)
	if !errors.Is(err, os.ErrDeadlineExceeded) || first == 0 || first == len(p) {
		t.Fatalf("nobody reads: %d octets, %v; want some, and a time-out", first, err)
	}
	if err := ours.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	arrived := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, theirs)
		arrived <- n
	}()
	second, err := w.Write(p)
	if second != len(p) || err != nil {
		t.Fatalf("%d octets, %v; want all", second, err)
	}
	if err := ours.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n := <-arrived; n != int64(first+second) {
		t.Errorf("%d octets arrived; want %d", n, first+second)
	}
	if _, err := w.Write(p); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("after the end: %v; want EPIPE", err)
	}
}
