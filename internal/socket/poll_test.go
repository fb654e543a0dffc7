//go:build linux

package socket

import (
	"syscall"
	"testing"
)

// watched returns a Poll that watches one end of a connection as 7, and both ends.
func watched(t *testing.T) (*Poll, func([]byte) (int, error), interface {
	Write([]byte) (int, error)
	CloseWrite() error
}) {
	t.Helper()
	p, err := NewPoll()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	raw, _, theirs := pair(t)
	if e := raw.Control(func(fd uintptr) { err = p.Add(fd, 7) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return p, func(b []byte) (int, error) { return now(t, raw.Read, Receive, b) }, theirs
}

func never() bool  { return false }
func always() bool { return true }

func TestPollNamesWhatArrives(t *testing.T) {
	p, read, theirs := watched(t)
	if r := p.Wait(always); len(r) != 0 {
		t.Fatalf("nothing has arrived: %v", r)
	}
	b := make([]byte, 16)
	for range 2 {
		if _, err := theirs.Write([]byte("NOOP\r\n")); err != nil {
			t.Fatal(err)
		}
		if r := p.Wait(never); len(r) != 1 || r[0] != (Ready{Token: 7}) {
			t.Fatalf("octets arrived: %v", r)
		}
		if r := p.Wait(always); len(r) != 0 {
			t.Fatalf("named again: %v", r)
		}
	}
	if n, err := read(b); n != 12 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := theirs.Write([]byte("QUIT\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := theirs.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for last := false; !last; { // both may come at once, or each by itself
		r := p.Wait(never)
		if len(r) != 1 || r[0].Token != 7 {
			t.Fatalf("the end arrived: %v", r)
		}
		last = r[0].Last
	}
	if n, err := read(b); n != 6 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := read(b); n != 0 || err != nil {
		t.Fatalf("%d, %v; want the end", n, err)
	}
}

func TestPollIsWoken(t *testing.T) {
	p, _, _ := watched(t)
	for range 3 {
		go p.Wake()
		if r := p.Wait(never); len(r) != 0 {
			t.Fatalf("woken by nobody's octets: %v", r)
		}
	}
}

func TestPollAfterClose(t *testing.T) {
	p, err := NewPoll()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	p.Wake() // nobody hears it
	raw, _, _ := pair(t)
	if e := raw.Control(func(fd uintptr) { err = p.Add(fd, 1) }); e != nil || err == nil || err == syscall.EBADF {
		t.Fatalf("%v, %v; want an error of our own", e, err)
	}
}
