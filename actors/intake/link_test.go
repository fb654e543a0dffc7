package intake

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/unsubscribe"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

func testKey(purpose string, data []byte) [16]byte {
	sum := sha256.Sum256(append([]byte(purpose+"\x00"), data...))
	return [16]byte(sum[:16])
}

func newListRig(t *testing.T, filters ...settings.Unsubscribe) *rig {
	t.Helper()
	r := newRig(t, func(c *settings.Composition) { c.Unsubscribe = filters })
	r.Key = testKey
	return r
}

func unsubscribes(name, header, pattern string) settings.Unsubscribe {
	return settings.Unsubscribe{Filter: settings.Filter{Name: name, Header: header, Pattern: pattern}, OneClick: true}
}

// linkOf reads whose link a body has; "" = it has none.
func linkOf(t *testing.T, body []byte) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(body), "List-Unsubscribe: <https://relay.example.jp/unsubscribe/")
	if !ok {
		return ""
	}
	token, rest, _ := strings.Cut(rest, ">\r\n")
	l, ok := unsubscribe.Open(testKey, token)
	if !ok || l.Tenant != "default" {
		t.Fatalf("token %q opens as %+v, %t", token, l, ok)
	}
	if !strings.HasPrefix(rest, "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n") {
		t.Errorf("behind the link stands %.80q", rest)
	}
	return l.List + " " + string(l.To)
}

// TestLinks: mail that a filter matches has the fields, other mail has not an octet more, and what the message says itself
// stays alone (R104, R105).
func TestLinks(t *testing.T) {
	filters := []settings.Unsubscribe{unsubscribes("news", "X-Campaign", "news.*"), unsubscribes("jp", "Subject", "セール.*"), unsubscribes("docomo", "To", ".+@docomo\\.ne\\.jp")}
	for _, row := range []struct {
		name, data string
		to         mail.Address
		want, list string
	}{
		{"matches", "X-Campaign: news 7\n" + plainMail, "a@x.example", "news a@x.example", "news"},
		{"the whole value", "X-Campaign: old news\n" + plainMail, "a@x.example", "", ""},
		{"an encoded header", "Subject: =?UTF-8?B?44K744O844Or5Lit?=\n\nx\n", "a@x.example", "jp a@x.example", "jp"},
		{"the envelope recipient", plainMail, "a@docomo.ne.jp", "docomo a@docomo.ne.jp", "docomo"},
		{"the first filter", "X-Campaign: news\n" + plainMail, "a@docomo.ne.jp", "news a@docomo.ne.jp", "news"},
		{"has a link", "X-Campaign: news\nlist-unsubscribe: <mailto:u@x.example>\n" + plainMail, "a@x.example", "", "news"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newListRig(t, filters...)
			a := r.mustSubmit(t, submission(row.data, row.to))
			if got := linkOf(t, a.Body); got != row.want {
				t.Errorf("link of %q, want %q", got, row.want)
			}
			d := &a.Deliveries[0]
			if d.List != row.list || d.Size != len(a.Body) || a.Events[0].Size != len(a.Body) || len(a.With) != 0 {
				t.Errorf("delivery of list %q, size %d of %d", d.List, d.Size, len(a.Body))
			}
			head, rest, _ := bytes.Cut(a.Body, []byte("\r\n"))
			if !bytes.HasPrefix(head, []byte("Received: ")) || !bytes.HasSuffix(rest, crlf(row.data)) {
				t.Errorf("body %q", a.Body)
			}
		})
	}
	r := newListRig(t, unsubscribes("news", "X-Campaign", ".+"))
	a := r.mustSubmit(t, submission("X-Campaign: n\nList-Unsubscribe-Post: mine\n"+plainMail))
	if n := bytes.Count(a.Body, []byte("List-Unsubscribe-Post:")); n != 1 || !bytes.Contains(a.Body, []byte("List-Unsubscribe: <")) {
		t.Errorf("%d fields of List-Unsubscribe-Post in %q", n, a.Body)
	}
}

// TestLinksOfMany: each recipient with a link has a message of its own, stored with the others or not at all.
func TestLinksOfMany(t *testing.T) {
	r := newListRig(t, unsubscribes("d", "To", ".+@docomo\\.ne\\.jp"))
	r.Suppressed = func(_, list string, to mail.Address) (mail.Suppression, bool) {
		return mail.Suppression{Status: mail.StatusUnsubscribed}, list == "d" && to == "gone@docomo.ne.jp"
	}
	check := func(name string, to []mail.Address, want string) {
		t.Helper()
		a := r.mustSubmit(t, submission(plainMail, to...))
		got := ""
		for _, m := range append([]*mail.Accepted{a}, a.With...) {
			for i := range m.Deliveries {
				d := &m.Deliveries[i]
				if d.Message != m.ID || d.Size != len(m.Body) || m.Tenant != "default" {
					t.Errorf("%s: delivery %+v in message %s", name, d, m.ID)
				}
				got += fmt.Sprintf("%d:%s(%s) ", m.ID.Seq-a.ID.Seq, d.To, linkOf(t, m.Body))
			}
			for i := range m.Events {
				if e := &m.Events[i]; e.Message != m.ID || e.Kind == mail.EventAccepted && e.To != "gone@docomo.ne.jp" && e.Size != len(m.Body) {
					t.Errorf("%s: event %+v in message %s", name, e, m.ID)
				}
				got += m.Events[i].Kind.String() + " "
			}
		}
		if got != want {
			t.Errorf("%s:\n%s, want\n%s", name, got, want)
		}
	}
	check("some", []mail.Address{"a@docomo.ne.jp", "b@x.example", "c@docomo.ne.jp", "e@x.example"},
		"0:b@x.example() 0:e@x.example() accepted accepted 0:a@docomo.ne.jp(d a@docomo.ne.jp) accepted 2:c@docomo.ne.jp(d c@docomo.ne.jp) accepted ")
	check("all", []mail.Address{"a@docomo.ne.jp", "c@docomo.ne.jp"},
		"0:a@docomo.ne.jp(d a@docomo.ne.jp) accepted 1:c@docomo.ne.jp(d c@docomo.ne.jp) accepted ")
	check("one left the list", []mail.Address{"gone@docomo.ne.jp", "c@docomo.ne.jp"},
		"0:c@docomo.ne.jp(d c@docomo.ne.jp) accepted suppressed accepted ")

	big := submission(plainMail+strings.Repeat("0123456789\n", 800_000), "a@docomo.ne.jp", "b@docomo.ne.jp")
	if _, err := r.Submit(context.Background(), big); err == nil || !strings.Contains(err.Error(), "550 5.5.3") {
		t.Errorf("two copies of 9 MB: %v", err)
	}
	big.To = big.To[:1]
	r.mustSubmit(t, big)
}

// TestSignersCoverLinks: who signs the message as it was stored covers both fields (RFC 8058 §4).
func TestSignersCoverLinks(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := newListRig(t, unsubscribes("news", "X-Campaign", ".+"))
	a := r.mustSubmit(t, submission("X-Campaign: n\n"+plainMail))
	var signed bytes.Buffer
	if err := dkim.Sign(&signed, bytes.NewReader(a.Body), &dkim.SignOptions{Domain: "shop.example", Selector: "s1", Signer: key, Hash: crypto.SHA256,
		HeaderKeys: []string{"From", "List-Unsubscribe", "List-Unsubscribe-Post"}}); err != nil {
		t.Fatal(err)
	}
	verify := func(msg []byte) error {
		v, err := dkim.VerifyWithOptions(bytes.NewReader(msg), &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) {
			return []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub)}, nil
		}})
		if err != nil || len(v) != 1 {
			t.Fatalf("%v, %v", v, err)
		}
		return v[0].Err
	}
	if err := verify(signed.Bytes()); err != nil {
		t.Error(err)
	}
	if err := verify(bytes.Replace(signed.Bytes(), []byte("=One-Click\r\n"), []byte("=Two-Click\r\n"), 1)); err == nil {
		t.Error("the fields are not covered")
	}
}
