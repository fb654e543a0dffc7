package smtp

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseMail(t *testing.T) {
	for _, row := range []struct {
		line string
		want MailArgs
		err  error
	}{
		{"MAIL FROM:<>", MailArgs{}, nil},
		{"mail from: <a@b>", MailArgs{Path: []byte("a@b")}, nil},
		{"MAIL FROM:<a@b> size=7 body=8bitmime", MailArgs{Path: []byte("a@b"), Size: 7, EightBit: true}, nil},
		{"MAIL FROM:<a@b>  SMTPUTF8  BODY=7BIT", MailArgs{Path: []byte("a@b"), UTF8: true}, nil},
		{`MAIL FROM:<"a> SIZE=1 "@b>`, MailArgs{Path: []byte(`"a> SIZE=1 "@b`)}, nil},
		{`MAIL FROM:<"a\"> "@b> SIZE=2`, MailArgs{Path: []byte(`"a\"> "@b`), Size: 2}, nil},
		{"MAIL FROM:<a@b> AUTH=<>", MailArgs{Path: []byte("a@b")}, nil},
		{"MAIL FROM:<a@b> AUTH=x+2By@z", MailArgs{Path: []byte("a@b")}, nil},
		{"MAIL FROM:<a@b> AUTH=x", MailArgs{}, ErrParameter},
		{"MAIL FROM:<a@b> RET=FULL", MailArgs{}, ErrUnsupported},
		{"MAIL FROM:<a@b> ENVID=x+2B", MailArgs{}, ErrUnsupported},
		{"MAIL FROM:<a@b> ENVID=x+2b", MailArgs{}, ErrParameter},
		{"MAIL FROM:<a@b> X-FOO=1", MailArgs{}, ErrUnsupported},
		{"MAIL FROM:<a@b> X-FOO=1 SIZE=x", MailArgs{}, ErrParameter},
		{"MAIL FROM:a@b", MailArgs{}, ErrSyntax},
		{"MAIL FROM:<a@b", MailArgs{}, ErrSyntax},
		{"MAIL FROM:<a@b>SIZE=1", MailArgs{}, ErrSyntax},
		{`MAIL FROM:<"a@b> SIZE=1>`, MailArgs{}, ErrSyntax},
		{"MAIL TO:<a@b>", MailArgs{}, ErrSyntax},
		{"MAIL", MailArgs{}, ErrSyntax},
		{"MAIL FROM:<\x01@b>", MailArgs{}, ErrControl},
		{"MAIL FROM:<\xc3\xa9@b>", MailArgs{}, ErrNeedsUTF8},
		{"MAIL FROM:<\xc3@b> SMTPUTF8", MailArgs{}, ErrUTF8},
		{"MAIL FROM:<\xc3\xa9@b> SMTPUTF8", MailArgs{Path: []byte("\xc3\xa9@b"), UTF8: true}, nil},
	} {
		got, err := ParseMail([]byte(row.line))
		if err != row.err {
			t.Errorf("%q: error %v, want %v", row.line, err, row.err)
			continue
		}
		if err == nil && (string(got.Path) != string(row.want.Path) || got.Size != row.want.Size ||
			got.EightBit != row.want.EightBit || got.UTF8 != row.want.UTF8) {
			t.Errorf("%q: %+v", row.line, got)
		}
	}
}

func TestParseRcpt(t *testing.T) {
	for _, row := range []struct {
		line, path string
		err        error
	}{
		{"RCPT TO:<a@b>", "a@b", nil},
		{"RCPT TO:<a..b@docomo.ne.jp>", "a..b@docomo.ne.jp", nil},
		{"RCPT TO:<a b@c>", "a b@c", nil},
		{`RCPT TO:<"a@b>`, `"a@b`, nil}, // no address, and judged as such later (E-41)
		{`RCPT TO:<"a@b> NOTIFY=NEVER>`, "", ErrSyntax},
		{"RCPT TO:<postmaster>", "", ErrNoAt},
		{"RCPT TO:<>", "", ErrNoAt},
		{"RCPT TO:<a@b> NOTIFY=SUCCESS,DELAY", "", ErrUnsupported},
		{"RCPT TO:<a@b> NOTIFY=SUCCESS,SUCCESS", "", ErrParameter},
		{"RCPT TO:<a@b> ORCPT=rfc822;x@y", "", ErrUnsupported},
		{"RCPT TO:<a@b> ORCPT=rfc822;x+0Ay", "", ErrParameter},
		{"RCPT TO:<a>b@c>", "", ErrSyntax},
	} {
		got, err := ParseRcpt([]byte(row.line), false)
		if err != row.err || err == nil && string(got.Path) != row.path {
			t.Errorf("%q: %q %v, want %q %v", row.line, got.Path, err, row.path, row.err)
		}
	}
}

func TestParseChunk(t *testing.T) {
	for arg, want := range map[string]struct {
		size            int64
		last, sized, ok bool
	}{
		"0": {0, false, true, true}, "12": {12, false, true, true}, "12 LAST": {12, true, true, true}, "12 last": {12, true, true, true},
		"30 FIRST": {30, false, true, false}, "30 LAST x": {30, false, true, false}, "30 ": {30, false, true, false},
		"": {}, "-1": {}, "+1": {}, "0x5": {}, "4294967296": {}, "18446744073709551617": {}, "LAST": {},
	} {
		size, last, sized, ok := ParseChunk([]byte(arg))
		if size != want.size || last != want.last || sized != want.sized || ok != want.ok {
			t.Errorf("%q: %d %v %v %v", arg, size, last, sized, ok)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{
		"MAIL FROM:<a@b> SIZE=1 AUTH=x+2By@z", `RCPT TO:<"v@evil.test> NOTIFY=NEVER "@ok.test>`, "RCPT TO:<@a,@b:c@d> ORCPT=rfc822;a+20b",
		"MAIL FROM:<\xe3\x81\x82@x> SMTPUTF8", "BDAT 12 LAST",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		check := func(path []byte, utf8OK bool) {
			if !bytes.Contains(line, append(append([]byte{'<'}, path...), '>')) {
				t.Fatalf("%q gave %q, which it does not hold", line, path)
			}
			for _, c := range path {
				if c < 0x20 || c == 0x7f || c >= 0x80 && !utf8OK {
					t.Fatalf("%q gave %q", line, path)
				}
			}
			if !utf8.Valid(path) {
				t.Fatalf("%q is not UTF-8", path)
			}
			if !strings.HasPrefix(string(path), `"`) && bytes.IndexByte(path, '>') >= 0 {
				t.Fatalf("%q holds a bracket outside quotes", path)
			}
		}
		if m, err := ParseMail(line); err == nil {
			check(m.Path, m.UTF8)
			if m.Size < 0 {
				t.Fatal(m.Size)
			}
		}
		for _, u := range []bool{false, true} {
			if r, err := ParseRcpt(line, u); err == nil {
				check(r.Path, u)
			}
		}
		if size, _, sized, ok := ParseChunk(line); ok && !sized || size < 0 || size > 1<<32-1 {
			t.Fatal(size, sized, ok)
		}
		if text, ok := DecodeXtext(line); ok {
			for _, c := range text {
				if c < 0x20 || c > 0x7e {
					t.Fatalf("%q decodes to %q", line, text)
				}
			}
		}
	})
}
