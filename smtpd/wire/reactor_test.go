package wire

import (
	"crypto/tls"
	"net"
	"runtime"
	"testing"
)

// A connection that goes on above TLS leaves its place at the reactor, as one does that ends.
func TestPlacesAreGivenUp(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reactors are for Linux")
	}
	env := NewEnv("mx.test", Limits{}, func(*Conn) {})
	if err := env.Start(); err != nil {
		t.Fatal(err)
	}
	defer env.Stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for name, end := range map[string]func(*Conn){
		"STARTTLS": func(c *Conn) { c.startTLS(false) },
		"close":    func(c *Conn) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			theirs, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = theirs.Close() }()
			ours, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ours.Close() }()
			c := New(env, ours, &Options{TLS: TLSOptional, Config: &tls.Config{}}, openPolicy{}, false)
			r := c.join()
			if r == nil || r.conns[c.seat.token] != c {
				t.Fatal("it has no place")
			}
			end(c)
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.conns[c.seat.token] != nil || len(r.free) == 0 {
				t.Fatalf("places %v, free %v", r.conns, r.free)
			}
		})
	}
}
