package sink

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

// feed runs a DATA phase through the oracle in pieces of n octets, as reads would bring them.
func feed(t *testing.T, wire string, n, full int) *content {
	t.Helper()
	c := newContent()
	c.reset()
	var pending []byte
	for len(wire) > 0 {
		k := min(n, len(wire))
		pending, wire = append(pending, wire[:k]...), wire[k:]
		used, done := c.dotted(pending, full)
		pending = pending[used:]
		if done {
			if len(pending)+len(wire) > 0 {
				t.Fatalf("ended %d octets early", len(pending)+len(wire))
			}
			return c
		}
	}
	t.Fatal("the end was not seen")
	return nil
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

func TestContentOracle(t *testing.T) {
	long := strings.Repeat("x", 998)
	tests := []struct {
		name, wire string
		kind       int // -1: clean
	}{
		{"clean", "A: b\r\n\r\ntext\r\n.\r\n", -1},
		{"longest line", "\r\n" + long + "\r\n.\r\n", -1},
		{"stuffed dots", "\r\n..\r\n..x\r\n.\r\n", -1},
		{"bare LF", "\r\na\nb\r\n.\r\n", bareLF},
		{"bare LF dot LF", "\r\na\n.\nb\r\n.\r\n", bareLF},
		{"bare CR", "\r\na\rb\r\n.\r\n", bareCR},
		{"CR CR LF", "\r\na\r\r\n.\r\n", bareCR},
		{"NUL", "\r\na\x00b\r\n.\r\n", nul},
		{"long line", "\r\n" + long + "y\r\n.\r\n", longLine},
		{"much too long line", "\r\n" + strings.Repeat(long, 9) + "\r\n.\r\n", longLine},
		{"dot not stuffed", "\r\n.x\r\n.\r\n", unstuffed},
		{"smuggling end", "\r\na\r\n.\n\r\nMAIL FROM:<x@y>\r\n.\r\n", bareLF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, n := range []int{1, 7, 1 << 16} {
				c := feed(t, tt.wire, n, 4096)
				if tt.kind < 0 && c.violated() != 0 {
					t.Errorf("pieces of %d: violations %v in clean text", n, c.violations)
				}
				if tt.kind >= 0 && c.violations[tt.kind] == 0 {
					t.Errorf("pieces of %d: %s not seen: %v", n, violationNames[tt.kind], c.violations)
				}
			}
		})
	}
}

func TestContentSums(t *testing.T) {
	const own = "Received: from a by b;\r\n\tSun, 22 Nov 2026 10:00:00 +0000\r\nDKIM-Signature: v=1;\r\n b=xx\r\n"
	const text = "Received: from c by d; x\r\nX-Bench-Token: t-1\r\nMessage-ID: <m@x>\r\n\r\nhello\r\n.dot\r\n"
	stuffed := strings.ReplaceAll(text, "\r\n.", "\r\n..")
	for _, n := range []int{1, 5, 1 << 16} {
		c := feed(t, own+stuffed+".\r\n", n, 4096)
		if got := hex.EncodeToString(c.whole.Sum(nil)); got != sum(own+text) {
			t.Errorf("pieces of %d: sum of everything is wrong", n)
		}
		if got := hex.EncodeToString(c.inner.Sum(nil)); got != sum(text) {
			t.Errorf("pieces of %d: sum without trace fields is wrong", n)
		}
		if c.trace != int64(len(own)) || c.size != int64(len(own+text)) {
			t.Errorf("pieces of %d: trace %d size %d, want %d and %d", n, c.trace, c.size, len(own), len(own+text))
		}
		if string(c.key()) != "t-1" || string(c.messageID) != "m@x" {
			t.Errorf("pieces of %d: token %q message id %q", n, c.key(), c.messageID)
		}
	}
}

func TestContentChunksAreTheSame(t *testing.T) {
	const text = "Received: a\r\nA: b\r\n\r\n.dot\r\nline\r\n"
	for _, n := range []int{1, 3, 100} {
		c := newContent()
		c.reset()
		for rest := text; rest != ""; {
			k := min(n, len(rest))
			c.raw([]byte(rest[:k]))
			rest = rest[k:]
		}
		if got := hex.EncodeToString(c.whole.Sum(nil)); got != sum(text) || c.violated() != 0 {
			t.Errorf("chunks of %d: sum wrong or violations %v", n, c.violations)
		}
	}
}

func FuzzContent(f *testing.F) {
	for _, seed := range []string{"a\r\n.\r\n", ".\r\n", "..\r\n.\r\n", "\n.\n", "\r\n\x00.\r\n", "Received: x\r\n y\r\n\r\n.\r\n"} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, wire []byte, n int) {
		n = max(1, min(n, 64))
		whole, pieces := newContent(), newContent()
		whole.reset()
		pieces.reset()
		used, done := whole.dotted(wire, 1<<20)
		if used > len(wire) {
			t.Fatalf("used %d of %d", used, len(wire))
		}
		var pending []byte
		ended := false
		for rest := wire; len(rest) > 0 && !ended; {
			k := min(n, len(rest))
			pending, rest = append(pending, rest[:k]...), rest[k:]
			u, d := pieces.dotted(pending, 1<<20)
			pending, ended = pending[u:], d
		}
		if ended != done || pieces.size != whole.size || pieces.violations != whole.violations {
			t.Fatalf("by pieces of %d: end %v size %d %v, at once: %v %d %v", n, ended, pieces.size, pieces.violations,
				done, whole.size, whole.violations)
		}
	})
}
