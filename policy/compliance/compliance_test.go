package compliance

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
	"time"
)

const fine = "From: a@shop.example\r\nMessage-ID: <1@shop.example>\r\n"

func TestCheck(t *testing.T) {
	const oneClick = "List-Unsubscribe: <https://shop.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
	signed := func(h string) string {
		return "DKIM-Signature: v=1; a=rsa-sha256;\r\n h=" + h + ";\r\n d=shop.example; b=abc\r\n"
	}
	tests := []struct {
		name, header, body string
		want               []string // rules
		text               string   // in the first finding
	}{
		{"fine", fine, "hello\r\n", nil, ""},
		{"no Message-ID", "From: a@shop.example\r\n", "", []string{MessageID}, "no Message-ID"},
		{"an empty Message-ID", "From: a@shop.example\r\nMessage-ID: \r\n", "", []string{MessageID}, "no Message-ID"},
		{"two Message-IDs", fine + "message-id: <2@shop.example>\r\n", "", []string{MessageID}, "2 times"},
		{"no From", "Message-ID: <1@shop.example>\r\n", "", []string{From}, "0 times"},
		{"two From", fine + "FROM: b@shop.example\r\n", "", []string{From}, "2 times"},
		{"a line of 998", fine, strings.Repeat("x", 998) + "\r\n", nil, ""},
		{"a line of 999", fine, "short\r\n" + strings.Repeat("x", 999) + "\r\n", []string{LineLength}, "line 5 has 999 octets"},
		{"a last line without end", fine, strings.Repeat("x", 1000), []string{LineLength}, "line 4 has 1000 octets"},
		{"a long header line", fine + "X-A: " + strings.Repeat("x", 1000) + "\r\n", "", []string{LineLength}, "line 3 has 1005 octets"},
		{"12 KB of header", fine + strings.Repeat("X-A: "+strings.Repeat("x", 505)+"\r\n", 24-1) + "X-B: " + strings.Repeat("x", 12288-len(fine)-23*512-7) + "\r\n", strings.Repeat("body\r\n", 9999), nil, ""},
		{"more header", fine + strings.Repeat("X-A: "+strings.Repeat("x", 505)+"\r\n", 24), "", []string{HeaderSize}, "the header section has"},
		{"one-click without signature", fine + oneClick, "", []string{OneClick}, "sign List-Unsubscribe"},
		{"one-click signed", signed("From:List-Unsubscribe :\r\n list-unsubscribe-post") + fine + oneClick, "", nil, ""},
		{"one-click half signed", signed("From:List-Unsubscribe") + fine + oneClick, "", []string{OneClick}, ""},
		{"two signatures, one of which covers", signed("From") + signed("List-Unsubscribe:List-Unsubscribe-Post") + fine + oneClick, "", nil, ""},
		{"unsubscription without one-click", fine + "List-Unsubscribe: <mailto:u@shop.example>\r\n", "", nil, ""},
		{"everything", "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", strings.Repeat("y", 2000), []string{LineLength, MessageID, From, OneClick}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := Check([]byte(tt.header + "\r\n" + tt.body))
			var got []string
			for _, f := range found {
				got = append(got, f.Rule)
				if f.Code.Class != 5 || f.Text == "" {
					t.Errorf("%+v", f)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Fatalf("found %v, want %v", found, tt.want)
			}
			if tt.text != "" && !strings.Contains(found[0].Text, tt.text) {
				t.Errorf("text %q", found[0].Text)
			}
		})
	}
}

// A Message-ID may come with some copies; a burst of it is found, of the same tenant only, and forgotten after a minute.
func TestRepeats(t *testing.T) {
	r := NewRepeats(maphash.MakeSeed())
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for i := range repeatMost {
		if f, found := r.Count(now, "shop", []byte(" <1@a>")); found {
			t.Fatalf("copy %d: %+v", i, f)
		}
	}
	if _, found := r.Count(now, "bank", []byte("<1@a>")); found {
		t.Error("found at another tenant")
	}
	if f, found := r.Count(now, "shop", []byte("<1@a>")); !found || f.Rule != Repeated {
		t.Error("a burst is not found")
	}
	if _, found := r.Count(now, "shop", nil); found {
		t.Error("no Message-ID is no repetition")
	}
	if _, found := r.Count(now.Add(repeatSpan), "shop", []byte("<1@a>")); found {
		t.Error("not forgotten")
	}
	for i := range 2 * repeatKept {
		r.Count(now.Add(repeatSpan), "shop", fmt.Append(nil, i))
	}
	if len(r.count) > repeatKept {
		t.Errorf("%d kept", len(r.count))
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(fine + "\r\nhello"))
	f.Add([]byte("DKIM-Signature: h=:;h=list-unsubscribe\n\n"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		kept := bytes.Clone(msg)
		for _, one := range Check(msg) {
			if one.Text == "" || one.Rule == "" {
				t.Fatalf("%+v", one)
			}
		}
		if !bytes.Equal(kept, msg) {
			t.Fatal("the message was changed")
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	msg := []byte(fine + "Subject: news\r\nTo: b@c.example\r\n\r\n" + strings.Repeat("some words that fill a line of mail as they do\r\n", 20))
	b.ReportAllocs()
	for b.Loop() {
		if Check(msg) != nil {
			b.Fatal("found something")
		}
	}
}
