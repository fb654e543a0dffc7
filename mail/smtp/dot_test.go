package smtp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestCheckData(t *testing.T) {
	long := strings.Repeat("a", maxDataLine)
	for _, tc := range []struct {
		name, in string
		dots     int
		err      error
	}{
		{name: "empty"},
		{name: "plain", in: "Subject: x\r\n\r\nbody\r\n"},
		{name: "no last line end", in: "a\r\nb"},
		{name: "dots", in: ".a\r\n.\r\n..\r\nx.\r\n.", dots: 4},
		{name: "998", in: long + "\r\n" + long},
		{name: "999", in: long + "a\r\n", err: ErrLongLine},
		{name: "999 at the end", in: "x\r\n" + long + "a", err: ErrLongLine},
		{name: "NUL", in: "a\x00\r\n", err: ErrNUL},
		{name: "CR at the end", in: "a\r", err: ErrBareCR},
		{name: "CR CR LF", in: "a\r\r\n", err: ErrBareCR},
		{name: "LF first", in: "\na\r\n", err: ErrBareLF},
		{name: "LF CR LF", in: "a\n\r\n", err: ErrBareLF},
		// What the published smuggling scanners send (threats section 2).
		{name: "smuggle 1", in: "a\n.\nb\r\n", err: ErrBareLF},
		{name: "smuggle 2", in: "a\n.\rb\r\n", err: ErrBareCR},
		{name: "smuggle 3", in: "a\r.\nb\r\n", err: ErrBareCR},
		{name: "smuggle 4", in: "a\r.\rb\r\n", err: ErrBareCR},
		{name: "smuggle 5", in: "a\n.\r\nb\r\n", err: ErrBareLF},
		{name: "smuggle 6", in: "a\r.\r\nb\r\n", err: ErrBareCR},
		{name: "smuggle 7", in: "a\r\n\x00.\r\nb\r\n", err: ErrNUL},
		{name: "smuggle 8", in: "a\r\n.\r\r\nb\r\n", err: ErrBareCR},
		{name: "smuggle 9", in: "a\r\r\n.\r\r\nb\r\n", err: ErrBareCR},
		{name: "smuggle 10", in: "a\r\n.\nb\r\n", err: ErrBareLF},
		{name: "smuggle 11", in: "a\r\n.\rb\r\n", err: ErrBareCR},
		{name: "smuggle 12", in: "a\r\n.\x00\r\nb\r\n", err: ErrNUL},
		{name: "end of data in the body", in: "a\r\n.\r\nMAIL FROM:<x>\r\n", dots: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dots, err := CheckData([]byte(tc.in))
			if dots != tc.dots || !errors.Is(err, tc.err) {
				t.Errorf("got %d, %v; want %d, %v", dots, err, tc.dots, tc.err)
			}
		})
	}
}

func TestAppendData(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "",
		"a\r\n":             "a\r\n",
		"a":                 "a\r\n",
		".":                 "..\r\n",
		"a\r\n.":            "a\r\n..\r\n",
		".\r\n..\r\nx.\r\n": "..\r\n...\r\nx.\r\n",
		"a\r\n.\r\nb\r\n":   "a\r\n..\r\nb\r\n",
	} {
		dots, err := CheckData([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(AppendData([]byte("x"), []byte(in), dots)); got != "x"+want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

// FuzzData compares the writer with a byte-at-a-time reading of RFC 5321 §4.5.2 and §2.3.8.
func FuzzData(f *testing.F) {
	for _, s := range []string{"", ".", "a\r\n.\r\nb", "a\n.\n", "\r\r\n", "..\r\n\r\n.x", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dots, err := CheckData(b)
		if fine := cleanByHand(b); fine != (err == nil) {
			t.Fatalf("CheckData %v, by hand %v", err, fine)
		}
		if err != nil {
			return
		}
		wire := append(AppendData(nil, b, dots), ".\r\n"...)
		back, rest, ok := receive(wire)
		if !ok || len(rest) > 0 {
			t.Fatalf("%q does not end where it should: %q", wire, rest)
		}
		if !bytes.Equal(back, b) && !bytes.Equal(back, append(b[:len(b):len(b)], "\r\n"...)) {
			t.Fatalf("%q arrived as %q", b, back)
		}
	})
}

func cleanByHand(b []byte) bool {
	line := 0
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == 0, b[i] == '\n':
			return false
		case b[i] == '\r':
			if i++; i == len(b) || b[i] != '\n' {
				return false
			}
			line = 0
			continue
		}
		if line++; line > 998 {
			return false
		}
	}
	return true
}

// receive is a strict receiver: it takes lines off wire until the lone dot.
func receive(wire []byte) (data, rest []byte, ok bool) {
	for {
		i := bytes.Index(wire, []byte("\r\n"))
		if i < 0 {
			return nil, nil, false
		}
		line := wire[:i+2]
		wire = wire[i+2:]
		if string(line) == ".\r\n" {
			return data, wire, true
		}
		if line[0] == '.' {
			line = line[1:]
		}
		data = append(data, line...)
	}
}

func BenchmarkData1K(b *testing.B) {
	body := []byte(strings.Repeat("The quick brown fox jumps over the lazy dog, twice.\r\n", 20))
	out := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		dots, err := CheckData(body)
		if err != nil {
			b.Fatal(err)
		}
		out = AppendData(out[:0], body, dots)
	}
}
