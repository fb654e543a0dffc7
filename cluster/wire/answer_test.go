package wire

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestAnswer(t *testing.T) {
	long := strings.Repeat("ekiden-ship/1\n", 1000)
	rows := []struct {
		name string
		in   answer
		want []string
	}{
		{"welcome", answer{verdict: welcome}, nil},
		{"refused", answer{verdict: refused}, nil},
		{"nothing served", answer{verdict: unserved}, nil},
		{"two", answer{unserved, []string{Raft, Ship}}, []string{Raft, Ship}},
		{"names to write on a terminal", answer{unserved, []string{"a\x1b[31m", "b", "é"}}, []string{"b"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var buf bytes.Buffer
			if err := writeAnswer(&buf, row.in); err != nil {
				t.Fatal(err)
			}
			buf.WriteString("rest")
			got, err := readAnswer(&buf)
			if err != nil || got.verdict != row.in.verdict || !slices.Equal(got.served, row.want) || buf.String() != "rest" {
				t.Fatalf("read %v, %v; rest %q", got, err, buf.String())
			}
		})
	}
	var buf bytes.Buffer
	if err := writeAnswer(&buf, answer{unserved, strings.Split(long, "\n")}); err != nil || buf.Len() != 3+maxServed {
		t.Fatalf("a long list takes %d octets, %v", buf.Len(), err)
	}
}

// FuzzAnswer reads what a peer of any release, or an impostor, may say: no panic, no more memory than the bound, nothing
// read behind the answer, and only plain names.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0, 'x'})
	f.Add([]byte{1})
	f.Add([]byte("\x02\x00\x03a/1rest"))
	f.Add([]byte("\x02\xff\xffa"))
	f.Add([]byte{3})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		a, err := readAnswer(r)
		if err != nil {
			return
		}
		read := len(in) - r.Len()
		if read > 3+maxServed || a.verdict != unserved && read != 1 {
			t.Fatalf("read %d octets of %q", read, in)
		}
		for _, proto := range a.served {
			if !plain(proto) {
				t.Fatalf("name %q", proto)
			}
		}
		var again bytes.Buffer
		if err := writeAnswer(&again, a); err != nil {
			t.Fatal(err)
		}
		b, err := readAnswer(io.MultiReader(&again))
		if err != nil || b.verdict != a.verdict || !slices.Equal(a.served, b.served) {
			t.Fatalf("%v became %v, %v", a, b, err)
		}
	})
}
