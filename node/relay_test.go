package node_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestSteeringHeaders: what a message asks for itself is read, and leaves no octet behind; all else arrives as it
// was sent (contract 5, I5, R22, R24-R28, R30-R33).
func TestSteeringHeaders(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), ", received: keep")
	tests := []struct {
		name, header, left string
		group, data        string
		cleaning           bool
	}{
		{name: "none"},
		{name: "cleaning", header: "X-KAEDE-Cleaning: true\n", cleaning: true},
		{name: "cleaning in another case", header: "X-Kaede-Cleaning: true\n", left: "X-Kaede-Cleaning: true\n"},
		{name: "reservation in the past", header: "X-KAEDE-Appoint: 1\n"},
		{name: "reservation malformed", header: "X-KAEDE-Appoint: abc\n"},
		{name: "reservation in lower case", header: "x-kaede-appoint: 9999999999\n", left: "x-kaede-appoint: 9999999999\n"},
		{name: "group in any case", header: "x-RELAY-group: news\n", group: "news"},
		{name: "folded", header: "A: 1\nX-Relay-Group:\n\tnews\n \t\nB: 2\n", left: "A: 1\nB: 2\n", group: "news"},
		{name: "every other one", header: "X-Relay-Start-Time: 1\nX-Relay-Lifetime: 3600\nX-Relay-Retry-Interval: 60\nX-Relay-Quiet-Hours: 0300-0301\nX-Relay-Idempotency-Key: k1\n"},
		{name: "lifetime out of range", header: "X-Relay-Lifetime: 5\n"},
		{name: "reference data stays", header: "X-Api-Data: CMC00123\n", left: "X-Api-Data: CMC00123\n", data: "CMC00123"},
		{name: "alike names stay", header: "X-Relay-Groups: a\nX-Relay-Grou: b\n", left: "X-Relay-Groups: a\nX-Relay-Grou: b\n"},
	}
	c := r.session()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			odd := "Odd:no blank\r\nEmpty:\r\nFolded: a\r\n\tb\r\n"
			body := "\r\nX-Relay-Group: of the body\r\n.\r\n..dots\r\n \t\r\n\r\nend\r\n"
			rcpt := fmt.Sprintf("u%d@x.test", i)
			c.mustSend(strings.ReplaceAll(tt.header, "\n", "\r\n")+odd+body, rcpt)
			if got, want := sink.mustGet(t, i+1), strings.ReplaceAll(tt.left, "\n", "\r\n")+odd+body; got.data != want {
				t.Errorf("arrived %q\nwant    %q", got.data, want)
			}
			e := r.events("status=queued&to=" + rcpt)
			if len(e) != 1 || e[0].Group != tt.group || e[0].Cleaning != tt.cleaning || e[0].APIData != tt.data {
				t.Errorf("logged %+v", e)
			}
		})
	}
	r.atRest()
}

// TestReceivedModes: the four of R58, to the octet but for the date.
func TestReceivedModes(t *testing.T) {
	const old = "Received: from a by b; then\r\n\tfolded\r\nSubject: s\r\nRECEIVED: from c\r\n"
	tests := []struct{ mode, want string }{
		{"short", `^Received: from client\.test by relay\.test; DATE\r\nReceived: from a`},
		{"normal", `^Received: from client\.test \(client\.test \[127\.0\.0\.1\]\) by relay\.test \(relay\.test \[127\.0\.0\.1\]\); DATE\r\nReceived: from a`},
		{"keep", `^Received: from a by b; then\r\n\tfolded\r\nSubject: s\r\nRECEIVED: from c\r\n\r\nbody\r\n$`},
		{"strip", `^Subject: s\r\n\r\nbody\r\n$`},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			sink := startReceiver(t, "127.0.0.1:0", nil)
			r := newRig(t, to(sink), ", received: "+tt.mode)
			r.session().mustSend(old+"\r\nbody\r\n", "u@x.test")
			want := strings.ReplaceAll(tt.want, "DATE", `\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}`)
			if got := sink.mustGet(t, 1).data; !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("got %q\nwant %s", got, want)
			}
		})
	}
}

// TestSignedMailStillVerifies: a signature of the customer's, in the canonicalisation that bears no change at all
// (RFC 6376 §3.4.1, §3.4.3), holds behind the relay although steering headers were taken out above and among the
// fields it covers.
func TestSignedMailStillVerifies(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const steering = "X-Relay-Group: news\r\nX-KAEDE-Cleaning: true\r\nX-Relay-Lifetime:\r\n 600\r\n"
	signed := "From: sender@shop.test\r\nSubject: your  order \r\n"
	body := "hello  \r\n.dot\r\n\r\n \t\r\nend\r\n\r\n\r\n"
	canonical := strings.TrimRight(body, "\r\n") + "\r\n"
	sum := sha256.Sum256([]byte(canonical))
	field := "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=shop.test; s=s1;\r\n\th=From:Subject; bh=" +
		base64.StdEncoding.EncodeToString(sum[:]) + "; b="
	hash := sha256.Sum256([]byte(signed + field))
	b, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := field + base64.StdEncoding.EncodeToString(b) + "\r\n"

	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	r.session().mustSend(steering+signature+"From: sender@shop.test\r\n"+steering+"Subject: your  order \r\n\r\n"+body, "u@x.test")

	_, rest, ok := strings.Cut(sink.mustGet(t, 1).data, "\r\nDKIM-Signature: ")
	header, got, _ := strings.Cut(rest, "\r\n\r\n")
	if !ok {
		t.Fatalf("no signature in %q", sink.mustGet(t, 1).data)
	}
	i := strings.LastIndex(header, "; b=") + len("; b=")
	value, fields, _ := strings.Cut(header[i:], "\r\n")
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	hash = sha256.Sum256([]byte(fields + "\r\nDKIM-Signature: " + header[:i]))
	if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, hash[:], raw); err != nil {
		t.Errorf("the header no longer verifies: %v\n%q", err, header)
	}
	if sha256.Sum256([]byte(strings.TrimRight(got, "\r\n")+"\r\n")) != sum {
		t.Errorf("the body no longer verifies: %q", got)
	}
}

// TestAddressesOnTheWire: every form of R107-R110, D4 and G6, as the receiver sees it; what cannot be mailed has failed
// with status 9, and the transaction goes on (E-41).
func TestAddressesOnTheWire(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	tests := []struct{ name, to, want string }{
		{"plain symbols", "!#$%&'*+-/=?^_{|}~`@x.test", "!#$%&'*+-/=?^_{|}~`@x.test"},
		{"doubled dot", "irregular..pattern@x.test", `"irregular..pattern"@x.test`},
		{"backslash", `hello\(^^)@x.test`, `"hello\\(^^)"@x.test`},
		{"leading dots", "..abc@docomo.ne.jp", `"..abc"@docomo.ne.jp`},
		{"dot before the at sign", "abc.@ezweb.ne.jp", `"abc."@ezweb.ne.jp`},
		{"leading hyphen", "-abc@ezweb.ne.jp", "-abc@ezweb.ne.jp"},
		{"quoted", `"a \"b"@x.test`, `"a \"b"@x.test`},
		{"parameters inside quotes", `"v@evil.test> NOTIFY=NEVER "@x.test`, `"v@evil.test> NOTIFY=NEVER "@x.test`},
		{"underscore in a label", "a@my_host.x.test", "a@my_host.x.test"},
		{"300 octets", strings.Repeat("l", 293) + "@x.test", strings.Repeat("l", 293) + "@x.test"},
		{"hyphen first in the domain", "a@-x.com", ""},
		{"trailing dot in the domain", "a@x.com.", ""},
		{"doubled dot in the domain", "a@x..com", ""},
		{"address literal", "a@[127.0.0.1]", ""},
		{"longer than a line", strings.Repeat("l", 990) + "@x.test", ""},
	}
	c := r.session()
	n := 0
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c.mustSend(text(""), tt.to)
			if tt.want != "" {
				n++
				if got := sink.mustGet(t, n).to; got != tt.want {
					t.Errorf("RCPT TO:<%s>, want <%s>", got, tt.want)
				}
				return
			}
			failed := func() (f []event) {
				for _, e := range r.events("status=failed&limit=100") {
					if e.To == tt.to {
						f = append(f, e)
					}
				}
				return f
			}
			mustBecome(t, "failed", func() bool { return len(failed()) > 0 })
			if f := failed(); f[0].Class != 9 {
				t.Errorf("status %d, want 9", f[0].Class)
			}
		})
	}
	if a := c.cmd("MAIL FROM:<>"); a[:3] != "250" {
		t.Errorf("null sender: %s", a)
	}
	if a := c.cmd("RCPT TO:<nobody>"); a[:3] != "501" {
		t.Errorf("no domain: %s", a)
	}
	r.atRest()
}

// TestOneDeliveryPerRecipient: whoever stands in one transaction is delivered, and judged, alone (E-38).
func TestOneDeliveryPerRecipient(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "rcpt" && strings.HasPrefix(arg, "gone") {
			return "550 5.1.1 user unknown"
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	var rcpts []string
	for i := range 998 { // with the two below, as many as one transaction may name
		rcpts = append(rcpts, fmt.Sprintf("u%d@x%d.test", i, i%3))
	}
	r.session().mustSend(text(""), append(rcpts, "gone@x0.test", "u0@x0.test")...)
	mustBecome(t, "all arrived", func() bool { return sink.count()-sink.bounces() == len(rcpts) })
	sink.bounceOf(t, "gone@x0.test")
	seen := map[string]bool{}
	for _, m := range sink.messages {
		if m.from != "" {
			seen[m.to] = true
		}
	}
	if len(seen) != len(rcpts) {
		t.Errorf("%d recipients, want %d", len(seen), len(rcpts))
	}
	mustBecome(t, "one failed", func() bool { return r.counters("unit=total")[0]["failed"] == 1 })
	if e := r.events("status=failed"); len(e) != 1 || e[0].Class != 2 || e[0].To != "gone@x0.test" {
		t.Errorf("got %+v", e)
	}
	r.atRest()
}
