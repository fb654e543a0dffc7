package directive

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// crlf turns the line ends of a test's text into those of the wire.
func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

func TestSteering(t *testing.T) {
	timed := DefaultNames
	timed.SubjectTime = true
	custom := Names{Group: "Campaign", Cleaning: "X-Slow", Appoint: "X-KAEDE-Appoint"}
	tests := []struct {
		name     string
		header   string
		names    Names
		want     Directives
		left     string // of the header
		warnings int
	}{
		{"none", "Subject: a\n", DefaultNames, Directives{}, "Subject: a\n", 0},
		{"cleaning", "X-KAEDE-Cleaning: true\nSubject: a\n", DefaultNames, Directives{Cleaning: true}, "Subject: a\n", 0},
		{"cleaning, other case of the name", "X-Kaede-Cleaning: true\n", DefaultNames, Directives{}, "X-Kaede-Cleaning: true\n", 0},
		{"cleaning, other case of the value", "X-KAEDE-Cleaning: True\n", DefaultNames, Directives{}, "", 1},
		{"appoint", "X-KAEDE-Appoint: 1800000000\n", DefaultNames, Directives{Start: time.Unix(1800000000, 0)}, "", 0},
		{"appoint in the past", "X-KAEDE-Appoint: 1\n", DefaultNames, Directives{Start: time.Unix(1, 0)}, "", 0},
		{"appoint malformed", "X-KAEDE-Appoint: abc\n", DefaultNames, Directives{}, "", 1},
		{"appoint of eleven digits", "X-KAEDE-Appoint: 18000000000\n", DefaultNames, Directives{}, "", 1},
		{"appoint negative", "X-KAEDE-Appoint: -5\n", DefaultNames, Directives{}, "", 1},
		{"appoint, lower case", "x-kaede-appoint: 1800000000\n", DefaultNames, Directives{}, "x-kaede-appoint: 1800000000\n", 0},
		{"group in any case", "x-RELAY-group:  news 1 \n", DefaultNames, Directives{Group: "news 1"}, "", 0},
		{"group of 64", "X-Relay-Group: " + strings.Repeat("g", 64) + "\n", DefaultNames, Directives{Group: strings.Repeat("g", 64)}, "", 0},
		{"group of 65", "X-Relay-Group: " + strings.Repeat("g", 65) + "\n", DefaultNames, Directives{}, "", 1},
		{"group not ASCII", "X-Relay-Group: 夏\n", DefaultNames, Directives{}, "", 1},
		{"first group counts, both go", "X-Relay-Group: a\nTo: x\nX-Relay-Group: b\n", DefaultNames, Directives{Group: "a"}, "To: x\n", 0},
		{"start in Unix seconds", "X-Relay-Start-Time: 1800000000\n", DefaultNames, Directives{Start: time.Unix(1800000000, 0)}, "", 0},
		{"start in RFC 3339", "x-relay-start-time: 2027-01-15T17:00:00+09:00\n", DefaultNames, Directives{Start: time.Unix(1800000000, 0)}, "", 0},
		{"start in Japan", "X-Delivery-Time-Specified: 2027/01/15 17:00\n", DefaultNames, Directives{Start: time.Unix(1800000000, 0)}, "", 0},
		{"start in Japan malformed", "X-Delivery-Time-Specified: 2027-01-15\n", DefaultNames, Directives{}, "", 1},
		{"subject time", "A: 1\nSubject: [2027/01/15 17:00] the news\nB: 2\n", timed, Directives{Start: time.Unix(1800000000, 0)}, "A: 1\nSubject: the news\nB: 2\n", 0},
		{"subject time, off", "Subject: [2027/01/15 17:00] the news\n", DefaultNames, Directives{}, "Subject: [2027/01/15 17:00] the news\n", 0},
		{"subject time, nothing else", "subject:[2027/01/15 17:00] \n", timed, Directives{Start: time.Unix(1800000000, 0)}, "subject:\n", 0},
		{"subject time, encoded words behind", "Subject: [2027/01/15 17:00] =?UTF-8?B?5aSP?=\n =?UTF-8?B?5aSP?=\n", timed, Directives{Start: time.Unix(1800000000, 0)}, "Subject: =?UTF-8?B?5aSP?=\n =?UTF-8?B?5aSP?=\n", 0},
		{"subject time without a blank", "Subject: [2027/01/15 17:00]news\n", timed, Directives{}, "Subject: [2027/01/15 17:00]news\n", 0},
		{"subject time, no such day", "Subject: [2027/02/30 17:00] news\n", timed, Directives{}, "Subject: [2027/02/30 17:00] news\n", 0},
		{"subject time, not at the beginning", "Subject: Re: [2027/01/15 17:00] news\n", timed, Directives{}, "Subject: Re: [2027/01/15 17:00] news\n", 0},
		{"subject time, the first subject", "Subject: a\nSubject: [2027/01/15 17:00] news\n", timed, Directives{}, "Subject: a\nSubject: [2027/01/15 17:00] news\n", 0},
		{"subject time behind another", "X-KAEDE-Appoint: 1700000000\nSubject: [2027/01/15 17:00] news\n", timed, Directives{Start: time.Unix(1700000000, 0)}, "Subject: news\n", 0},
		{"start malformed", "X-Relay-Start-Time: tomorrow\n", DefaultNames, Directives{}, "", 1},
		{"lifetime and retry", "X-Relay-Lifetime: 60\nX-Relay-Retry-Interval: 10\n", DefaultNames, Directives{Lifetime: time.Minute, Retry: 10 * time.Second}, "", 0},
		{"lifetime too short", "X-Relay-Lifetime: 5\n", DefaultNames, Directives{}, "", 1},
		{"retry too long", "X-Relay-Retry-Interval: 86401\n", DefaultNames, Directives{}, "", 1},
		{"quiet hours", "X-Relay-Quiet-Hours: 2100-0800\n", DefaultNames, Directives{QuietHours: "2100-0800"}, "", 0},
		{"quiet hours empty", "X-Relay-Quiet-Hours: 2100-2100\n", DefaultNames, Directives{}, "", 1},
		{"quiet hours 2400", "X-Relay-Quiet-Hours: 2400-0100\n", DefaultNames, Directives{}, "", 1},
		{"key", "X-Relay-Idempotency-Key: order 17\n", DefaultNames, Directives{Key: "order 17"}, "", 0},
		{"key too long", "X-Relay-Idempotency-Key: " + strings.Repeat("k", 129) + "\n", DefaultNames, Directives{}, "", 1},
		{"folded", "A: 1\nX-Relay-Group:\n news\n \t\nB: 2\n", DefaultNames, Directives{Group: "news"}, "A: 1\nB: 2\n", 0},
		{"chosen names", "campaign: c1\nx-slow: true\nX-Relay-Group: g\n", custom, Directives{Group: "c1", Cleaning: true}, "X-Relay-Group: g\n", 0},
		{"unknown X-Relay stays", "X-Relay-Colour: red\n", DefaultNames, Directives{}, "X-Relay-Colour: red\n", 0},
		{"space before the colon", "X-Relay-Group : g\n", DefaultNames, Directives{Group: "g"}, "", 0},
		{"name as a prefix", "X-Relay-Groups: g\n", DefaultNames, Directives{}, "X-Relay-Groups: g\n", 0},
		{"X-Api-Data stays", "X-Api-Data: CMC00123\n", DefaultNames, Directives{}, "X-Api-Data: CMC00123\n", 0},
	}
	const body = "\nX-Relay-Group: of the body\n"
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			msg := crlf(tt.header + body)
			d, h := Scan(msg, &tt.names, false)
			if len(d.Warnings) != tt.warnings {
				t.Errorf("warnings %q", d.Warnings)
			}
			got := d
			got.Warnings, got.Start = nil, tt.want.Start
			if !d.Start.Equal(tt.want.Start) || !equal(got, tt.want) {
				t.Errorf("got %+v, want %+v", d, tt.want)
			}
			if left := Append(nil, msg, h.Cut); string(left) != string(crlf(tt.left+body)) {
				t.Errorf("left %q", left)
			}
			if h.End != len(crlf(tt.header)) {
				t.Errorf("header ends at %d of %d", h.End, len(crlf(tt.header)))
			}
		})
	}
}

func equal(a, b Directives) bool {
	return a.Cleaning == b.Cleaning && a.Group == b.Group && a.Lifetime == b.Lifetime && a.Retry == b.Retry &&
		a.QuietHours == b.QuietHours && a.Key == b.Key
}

func TestHeaderFacts(t *testing.T) {
	msg := crlf(`Received: from a by b; now
received: from c
 by d; then
From: "Shop, the" <Info@Shop.example>
Subject: first
Subject: second
Message-Id: <1@shop.example>
X-API-data: CMC00123
Date: Wed, 01 Jul 2026 12:00:00 +0900

Subject: body
`)
	_, h := Scan(msg, defaultNames(), false)
	if h.Received != 2 || !h.HasDate || h.EightBit || h.Cut != nil {
		t.Errorf("header %+v", h)
	}
	for _, f := range []struct{ name, got, want string }{
		{"From", string(Mailbox(h.From)), "Info@Shop.example"},
		{"Subject", Text(h.Subject), "first"},
		{"Message-ID", Text(h.MessageID), "<1@shop.example>"},
		{"X-Api-Data", Text(h.APIData), "CMC00123"},
		{"Find", Text(Find(msg[:h.End], "message-ID")), "<1@shop.example>"},
		{"Find nothing", Text(Find(msg[:h.End], "Sender")), ""},
	} {
		if f.got != f.want {
			t.Errorf("%s: %q, want %q", f.name, f.got, f.want)
		}
	}
	_, h = Scan(msg, defaultNames(), true)
	if left := Append(nil, msg, h.Cut); !bytes.HasPrefix(left, []byte("From: ")) || len(left) != len(msg)-Len(h.Cut) {
		t.Errorf("Received stripped: %q", left)
	}
}

func TestHeaderEnds(t *testing.T) {
	tests := []struct {
		name, msg string
		end       int
	}{
		{"empty message", "", 0},
		{"no header", "\r\nX-Relay-Group: a\r\n", 0},
		{"body without an empty line", "A: b\r\nHello there\r\nX-Relay-Group: a\r\n", 6},
		{"starts with white space", " X-Relay-Group: a\r\n", 0},
		{"no line end", "X-Relay-Group: a", 16},
		{"colon first", ": a\r\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, h := Scan([]byte(tt.msg), defaultNames(), false); h.End != tt.end {
				t.Errorf("header ends at %d, want %d", h.End, tt.end)
			}
		})
	}
}

func TestText(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", " Hello\r\n", "Hello"},
		{"folded", " Hello\r\n  world\r\n", "Hello  world"},
		{"UTF-8", " =?UTF-8?B?44GT44KT44Gr44Gh44Gv?=\r\n", "こんにちは"},
		{"ISO-2022-JP", " =?ISO-2022-JP?B?GyRCJDMkcyRLJEEkTxsoQg==?=\r\n", "こんにちは"},
		{"ISO-2022-JP, two words", " =?iso-2022-jp?B?GyRCJDMkcxsoQg==?=\r\n =?iso-2022-jp?B?GyRCJEskQSRPGyhC?= x\r\n", "こんにちは x"},
		{"Shift_JIS quoted-printable", "=?Shift_JIS?Q?=82=B1?=", "こ"},
		{"unknown charset stays", "=?x-none?Q?a?=", "=?x-none?Q?a?="},
		{"raw 8-bit", "a\x82b", "a\uFFFDb"},
		{"control characters", "a\x1b[2Jb\x00", "a [2Jb "},
		{"too long", strings.Repeat("あ", 600), strings.Repeat("あ", MaxText)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Text([]byte(tt.in)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestMailbox(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"bare", " a@b.example \r\n", "a@b.example"},
		{"name", " Shop <a@b.example>\r\n", "a@b.example"},
		{"comma and bracket in quotes", ` "<x@y>, \"z" <a@b.example>`, "a@b.example"},
		{"comment", "(<x@y>, z) a@b.example", "a@b.example"},
		{"comment behind", "a@b.example (the (first) shop)", "a@b.example"},
		{"comment left open", "a@b.example (c@d.example", "a@b.example"},
		{"no comment", `"a(b"@c.example`, `"a(b"@c.example`},
		{"quoted in a comment", `(\) x) a@b.example`, "a@b.example"},
		{"two", "a@b.example, c@d.example", "a@b.example"},
		{"folded", " Shop\r\n <a@b.example>\r\n", "a@b.example"},
		{"irregular", "a..b@docomo.ne.jp", "a..b@docomo.ne.jp"},
		{"open bracket", "x <a@b.example", "x <a@b.example"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(Mailbox([]byte(tt.in))); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzScan: what is left is the message without the fields named, line by line, found by a slow reader of its own.
func FuzzScan(f *testing.F) {
	f.Add([]byte("A: b\r\nX-Relay-Group: g\r\n\tfold\r\nX-KAEDE-Cleaning: true\r\n\r\nX-Relay-Group: body\r\n"))
	f.Add([]byte("x-relay-lifetime : 1\nReceived: a\n b\nnot a field\nX-Relay-Lifetime: 2"))
	f.Add([]byte("Subject: =?ISO-2022-JP?B?GyRC?=\r\nFrom: \"a\\"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		orig := bytes.Clone(msg)
		d, h := Scan(msg, defaultNames(), true)
		if !bytes.Equal(orig, msg) {
			t.Fatal("the message was changed")
		}
		if len(d.Group) > MaxGroup || len(d.Key) > MaxKey || len(d.Warnings) > maxWarnings {
			t.Fatalf("out of bounds: %+v", d)
		}
		var want []byte
		inHeader, cutting, first := true, false, true
		for line := range bytes.SplitAfterSeq(msg, []byte("\n")) {
			if len(line) == 0 {
				continue
			}
			continued := line[0] == ' ' || line[0] == '\t'
			if inHeader && (first || !continued) {
				name, _, ok := bytes.Cut(line, []byte(":"))
				name = bytes.TrimRight(name, " \t")
				ok = ok && len(name) > 0 && !bytes.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f })
				inHeader = ok
				cutting = ok && steeringName(string(name))
			}
			first = false
			if !inHeader || !cutting {
				want = append(want, line...)
			}
		}
		if got := Append(nil, msg, h.Cut); !bytes.Equal(got, want) {
			t.Fatalf("left %q, want %q", got, want)
		}
		for _, s := range []string{Text(h.Subject), Text(h.From), string(Mailbox(h.From)), Text(h.APIData)} {
			if len(s) > 4*MaxText {
				t.Fatalf("%d octets", len(s))
			}
		}
	})
}

func steeringName(name string) bool {
	if name == "X-KAEDE-Cleaning" || name == "X-KAEDE-Appoint" {
		return true
	}
	return slices.Contains([]string{"x-relay-group", "x-relay-start-time", "x-relay-quiet-hours", "x-relay-lifetime",
		"x-relay-retry-interval", "x-relay-idempotency-key", "received"}, strings.ToLower(name))
}

func BenchmarkScan1K(b *testing.B) {
	msg := crlf(`From: Shop <info@shop.example>
To: someone@example.org
Subject: your order of today
Date: Wed, 01 Jul 2026 12:00:00 +0900
Message-ID: <20260701120000.17@shop.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8

` + strings.Repeat("line of text that is about sixty characters long, as usual\n", 16))
	b.ReportAllocs()
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		_, h := Scan(msg, defaultNames(), false)
		if h.Cut != nil || smtp.HasEightBit(msg[h.End:]) {
			b.Fatal("cut")
		}
	}
}

// defaultNames is a copy, so that no test can change the names of another.
func defaultNames() *Names {
	n := DefaultNames
	return &n
}
