package smtp

import (
	"errors"
	"strings"
	"testing"
)

func TestParseReply(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     Reply
		n        int
		err      error
	}{
		{name: "plain", in: "250 2.0.0 Ok: queued\r\n", n: 22, want: Reply{250, EnhancedCode{2, 0, 0}, "Ok: queued"}},
		{name: "code only", in: "354\r\nx", n: 5, want: Reply{Code: 354}},
		{name: "code and space", in: "220 \r\n", n: 6, want: Reply{Code: 220}},
		{name: "no enhanced", in: "550 User unknown\r\n", n: 18, want: Reply{Code: 550, Text: "User unknown"}},
		{name: "enhanced alone", in: "550 5.1.1\r\n", n: 11, want: Reply{Code: 550, Enhanced: EnhancedCode{5, 1, 1}}},
		{name: "class disagrees", in: "550 4.2.1 no\r\n", n: 14, want: Reply{Code: 550, Text: "4.2.1 no"}},
		{name: "not enhanced: address", in: "550 5.1.2.3 listed\r\n", n: 20, want: Reply{Code: 550, Text: "5.1.2.3 listed"}},
		{name: "not enhanced: leading zero", in: "450 4.07.1 x\r\n", n: 14, want: Reply{Code: 450, Text: "4.07.1 x"}},
		{name: "not enhanced: four digits", in: "450 4.1000.1 x\r\n", n: 16, want: Reply{Code: 450, Text: "4.1000.1 x"}},
		{name: "not enhanced: glued", in: "450 4.7.1x\r\n", n: 12, want: Reply{Code: 450, Text: "4.7.1x"}},
		{name: "multi-line", in: "421-4.7.0 a\r\n421-4.7.0 b\r\n421 4.7.1 c\r\n", n: 39,
			want: Reply{421, EnhancedCode{4, 7, 0}, "a\nb\n4.7.1 c"}},
		{name: "LF only", in: "250-a\n250 b\n", n: 12, want: Reply{Code: 250, Text: "a\nb"}},
		{name: "NUL and CR", in: "250 a\x00b\rc\r\n", n: 11, want: Reply{Code: 250, Text: "a?b?c"}},
		{name: "incomplete", in: "250-a\r\n250 b\r"},
		{name: "empty"},
		{name: "two digits", in: "25\r\n", err: ErrReplySyntax},
		{name: "class 1", in: "150 x\r\n", err: ErrReplySyntax},
		{name: "class 6", in: "600 x\r\n", err: ErrReplySyntax},
		{name: "no separator", in: "250ok\r\n", err: ErrReplySyntax},
		{name: "blank", in: "\r\n", err: ErrReplySyntax},
		{name: "code changes", in: "250-a\r\n550 b\r\n", err: ErrReplySyntax},
		{name: "long line is cut", in: "550 " + strings.Repeat("x", 3000) + "\r\n", n: 3006,
			want: Reply{Code: 550, Text: strings.Repeat("x", 506)}},
		{name: "endless line", in: "550 " + strings.Repeat("x", 5000), err: ErrReplyTooLong},
		{name: "too long a line", in: "550 " + strings.Repeat("x", 5000) + "\r\n", err: ErrReplyTooLong},
		{name: "100 lines", in: strings.Repeat("250-\r\n", 99) + "250 \r\n", n: 600,
			want: Reply{Code: 250, Text: strings.Repeat("\n", 99)}},
		{name: "101 lines", in: strings.Repeat("250-\r\n", 101), err: ErrReplyTooLong},
		{name: "too much in all", in: strings.Repeat("250-"+strings.Repeat("y", 3000)+"\r\n", 30), err: ErrReplyTooLong},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, n, err := ParseReply([]byte(tc.in))
			if r != tc.want || n != tc.n || !errors.Is(err, tc.err) {
				t.Errorf("got %+v, %d, %v; want %+v, %d, %v", r, n, err, tc.want, tc.n, tc.err)
			}
		})
	}
}

func FuzzParseReply(f *testing.F) {
	for _, s := range []string{"250 2.0.0 Ok\r\n", "250-a\r\n250 b\r\n", "25", "354\n", "421-4.7.0 x\r\n421 4.7.0 y\r\n", "550 5.1.1\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := ParseReply(b)
		code, m, scanErr := ScanReply(b)
		if n != m || code != r.Code || !errors.Is(err, scanErr) {
			t.Fatalf("ParseReply %d %d %v, ScanReply %d %d %v", r.Code, n, err, code, m, scanErr)
		}
		if n > len(b) || n > 0 && (r.Code < 200 || r.Code > 599 || b[n-1] != '\n') {
			t.Fatalf("%+v of %d octets", r, n)
		}
		if strings.ContainsAny(r.Text, "\x00\r") || len(r.Text) > n {
			t.Fatalf("text %q", r.Text)
		}
		if n == 0 {
			return
		}
		// What follows a reply may not change it, and what precedes its end is no reply.
		if again, k, _ := ParseReply(append(b[:n:n], "250 next\r\n"...)); again != r || k != n {
			t.Fatalf("%+v became %+v", r, again)
		}
		if _, k, err := ScanReply(b[:n-1]); k != 0 || err != nil {
			t.Fatalf("a reply without its end gave %d, %v", k, err)
		}
	})
}
