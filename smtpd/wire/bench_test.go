package wire

import (
	"strings"
	"testing"
)

func BenchmarkBody16K(b *testing.B) {
	env := NewEnv("x", Limits{}, nil)
	p := []byte("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 210) + ".\r\n")
	var r bodyReader
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		r.reset(env, &Options{MaxLine: 998}, 1<<30, true)
		if _, done := r.feed(p); !done {
			b.Fatal("no end")
		}
		env.release(r.buf)
	}
}
