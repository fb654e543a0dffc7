package report

import (
	"bufio"
	"bytes"
	"net/mail"
	"strings"
	"testing"
	"time"

	words "github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

func failure() *Failure {
	return &Failure{To: "x@docomo.ne.jp", Domain: "docomo.ne.jp", Notify: "app@shop.example", Host: "relay.example", ID: "00112233",
		Reason: "unknown user", At: time.Unix(1800000000, 0).UTC(), Accepted: time.Unix(1799999990, 0).UTC(),
		Status: smtp.EnhancedCode{Class: 5, Subject: 1, Detail: 1}, MX: "mx.example",
		Reply:  smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{Class: 5, Subject: 1, Detail: 1}, Text: "no such user"},
		Header: []byte("From: app@shop.example\r\nSubject: caf\xc3\xa9\r\n")}
}

// The classic form, to the octet (R85, R86).
func TestClassic(t *testing.T) {
	const want = "From: postmaster@docomo.ne.jp\r\nTo: app@shop.example\r\nSubject: Mail System Error Bounce Mail\r\n" +
		"Date: Fri, 15 Jan 2027 08:00:00 +0000\r\nMessage-ID: <00112233@relay.example>\r\nAuto-Submitted: auto-replied\r\n\r\n" +
		"x@docomo.ne.jp\r\nunknown user\r\n"
	if got := string(failure().Classic()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	own := failure()
	own.From = "bounce.shop.example"
	if got := string(own.Classic()); !strings.HasPrefix(got, "From: postmaster@bounce.shop.example\r\n") {
		t.Errorf("own domain: %q", got)
	}
}

func TestNotification(t *testing.T) {
	got := string(failure().Notification())
	for _, part := range []string{
		"Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"=_00112233\"\r\n",
		"\r\n--=_00112233\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n" +
			"Arrival-Date: Fri, 15 Jan 2027 07:59:50 +0000\r\n\r\nFinal-Recipient: rfc822; x@docomo.ne.jp\r\nAction: failed\r\n" +
			"Status: 5.1.1\r\nRemote-MTA: dns; mx.example\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
		"Content-Type: text/rfc822-headers; charset=us-ascii\r\n\r\nFrom: app@shop.example\r\nSubject: caf??\r\n",
		"\r\n--=_00112233--\r\n",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not in\n%s", part, got)
		}
	}
}

// TestLongAddress: a list may hold what is no address; what tells of it must still be mail.
func TestLongAddress(t *testing.T) {
	f := failure()
	f.To = words.Address(strings.Repeat("あ", 600) + "@a.test")
	for what, text := range map[string][]byte{"classic": f.Classic(), "notification": f.Notification()} {
		for _, line := range strings.Split(string(text), "\r\n") {
			if len(line) > 998 {
				t.Errorf("%s: a line of %d octets", what, len(line))
			}
		}
	}
}

// Whatever a receiver says stays a text inside a field, and no line is too long (threat T13).
func TestForeignText(t *testing.T) {
	for _, text := range []string{"x\r\n\r\n<script>", "a\nBcc: victim@else.example", "\x1b[31m", "\u202egnirts", "日本", strings.Repeat("y", 10<<10),
		strings.Repeat("\xff", 5000), "tab\there", ""} {
		f := failure()
		f.Reply.Text, f.Detail, f.MX = text, text, strings.TrimSpace(text)
		f.To = words.Address(strings.ReplaceAll(text, "\n", "")) + "@x.example"
		for _, m := range [][]byte{f.Classic(), f.Notification()} {
			parsed, err := mail.ReadMessage(bufio.NewReader(bytes.NewReader(m)))
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if len(parsed.Header) > 8 || parsed.Header.Get("Bcc") != "" {
				t.Errorf("%q became a field: %v", text, parsed.Header)
			}
			for line := range bytes.Lines(m) {
				if !bytes.HasSuffix(line, []byte("\r\n")) || bytes.Contains(line[:len(line)-2], []byte("\r")) || len(line) > 1000 && len(text) < 1000 {
					t.Errorf("%.20q made the line %.80q", text, line)
				}
				if bytes.HasPrefix(line, []byte("Bcc")) || bytes.ContainsFunc(line, func(r rune) bool { return r >= 0x7f }) {
					t.Errorf("%.20q made the line %.80q", text, line)
				}
			}
		}
	}
}
