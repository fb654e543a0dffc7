package wire

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

// reference is DATA read octet by octet, straight from the rules: the end is CRLF "." CRLF, a leading dot goes, and
// in strict mode a bare CR, bare LF or NUL spoils the message. ok is false where it is spoiled.
func reference(p []byte, normalize bool, maxLine, limit int) (body []byte, used int, ok, done bool) {
	ok = true
	var line []byte
	first := true // the line before ended with CRLF
	for i, c := range p {
		if c != '\n' {
			line = append(line, c)
			continue
		}
		crlf := len(line) > 0 && line[len(line)-1] == '\r'
		if crlf {
			line = line[:len(line)-1]
		}
		if string(line) == "." && crlf && first {
			return body, i + 1, ok, true
		}
		first = crlf
		if !crlf && !normalize {
			ok = false
		}
		if len(line) > 1 && line[0] == '.' {
			line = line[1:]
		}
		for j, b := range line {
			if b == '\r' || b == 0 {
				if !normalize {
					ok = false
				}
				line[j] = ' '
			}
		}
		if len(line) > maxLine {
			ok = false
		}
		body = append(append(body, line...), "\r\n"...)
		if len(body) > limit {
			ok = false
		}
		line = line[:0]
	}
	return body, len(p), ok, false
}

func FuzzData(f *testing.F) {
	for _, s := range []string{
		"a\r\n..b\r\n.\r\nQUIT\r\n", ".\r\n", "\n.\n", "x\n.\r\ny\r\n.\r\n", "\r\n\x00.\r\n.\r\n", "\r\n.\rX\r\n.\r\n", "\r\r\n.\r\r\n.\r\n",
		"a\r", strings.Repeat("x", 30) + "\r\n.\r\n", "\r\n.\r\n", ".\n.\r\n", "..\n.\r\n", "a\n.\nb\r\n.\r\n", ".a\r\n.\r",
	} {
		f.Add([]byte(s), uint8(3), true)
		f.Add([]byte(s), uint8(1), false)
	}
	env := NewEnv("x", Limits{}, nil)
	f.Fuzz(func(t *testing.T, p []byte, step uint8, normalize bool) {
		const maxLine, limit = 20, 200
		want, wantUsed, wantOK, wantDone := reference(bytes.Clone(p), normalize, maxLine, limit)
		var r bodyReader
		r.reset(env, &Options{Normalize: normalize, MaxLine: maxLine}, limit, true)
		used, done := 0, false
		for rest := bytes.Clone(p); len(rest) > 0 && !done; {
			n := min(len(rest), int(step)+1)
			var u int
			u, done = r.feed(rest[:n])
			if !done && u != n {
				t.Fatalf("took %d of %d octets", u, n)
			}
			used += u
			rest = rest[u:]
		}
		if done != wantDone || used != wantUsed {
			t.Fatalf("%q: used %d done %v, want %d %v", p, used, done, wantUsed, wantDone)
		}
		if done && (r.fault == FaultNone) != wantOK {
			t.Fatalf("%q: fault %d, want ok %v", p, r.fault, wantOK)
		}
		if done && wantOK && !bytes.Equal(r.buf, want) {
			t.Fatalf("%q: %q, want %q", p, r.buf, want)
		}
		env.release(r.buf)
	})
}

func FuzzProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nEHLO x\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte("PROXY TCP6 ::1 ::2 65535 0\r\n"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x19rest"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := parseProxy(b)
		if err == nil {
			if n <= 0 || n > len(b) || n > maxProxy {
				t.Fatalf("%q: %d octets", b, n)
			}
			if h.addr.IsValid() && h.addr.Addr().Is4In6() {
				t.Fatal("not unmapped")
			}
		}
		for i := range len(b) { // less never says more: a prefix asks for more, or fails as the whole does
			_, m, err2 := parseProxy(b[:i])
			if err2 == nil && (err != nil || m != n) {
				t.Fatalf("%q: prefix of %d is a header of %d, the whole %d %v", b, i, m, n, err)
			}
		}
	})
}

func TestParseProxy(t *testing.T) {
	h, n, err := parseProxy([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 10 25\r\nx"))
	if err != nil || n != 38 || h.addr != netip.MustParseAddrPort("192.0.2.1:10") {
		t.Fatal(h, n, err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	env := NewEnv("x", Limits{Memory: 1 << 20}, nil)
	take := func() *bodyReader {
		r := &bodyReader{}
		r.reset(env, &Options{MaxLine: 998}, 1<<30, true)
		line := []byte(strings.Repeat("x", 900) + "\r\n")
		r.feed([]byte("\r\n"))
		for len(r.buf) < 300<<10 && r.fault == FaultNone {
			r.feed(line)
		}
		return r
	}
	var held []*bodyReader
	for range 5 {
		held = append(held, take())
	}
	if last := held[len(held)-1]; last.fault != FaultMemory {
		t.Fatalf("five bodies of 300 KiB fit into 1 MiB: %d", last.fault)
	}
	for _, r := range held {
		env.release(r.buf)
	}
	if n := env.memory.Load(); n != 0 {
		t.Fatalf("%d octets were never given back", n)
	}
	if r := take(); r.fault != FaultNone {
		t.Fatal(r.fault)
	}
}
