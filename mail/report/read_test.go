package report

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
)

type sample struct{ name, kind, want, text string }

func mustCorpus(t testing.TB) (out []sample) {
	t.Helper()
	raw, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(strings.TrimPrefix("\n"+string(raw), "\n==== "), "\n==== ") {
		head, text, _ := strings.Cut(part, "\n")
		words := strings.Split(head, "|")
		if len(words) != 3 {
			t.Fatalf("head %q", head)
		}
		out = append(out, sample{strings.TrimSpace(words[0]), strings.TrimSpace(words[1]), strings.TrimSpace(words[2]),
			strings.ReplaceAll(text, "\n", "\r\n") + "\r\n"})
	}
	return out
}

// Each family of reports is read as its label says.
func TestCorpus(t *testing.T) {
	for _, s := range mustCorpus(t) {
		t.Run(s.name, func(t *testing.T) {
			r := Read([]byte(s.text))
			var got []string
			for _, f := range r.Failed {
				one := fmt.Sprintf("%s %d", f.To, f.Reply.Code)
				if !f.Reply.Enhanced.IsZero() {
					one += " " + f.Reply.Enhanced.String()
				}
				if strings.HasPrefix(f.Reply.Text, "X-SPASIGN: NG") {
					one += " spam"
				}
				got = append(got, one)
			}
			for _, to := range r.To {
				got = append(got, string(to)+" "+r.Feedback)
			}
			if r.Kind.String() != s.kind || strings.Join(got, ", ") != s.want {
				t.Errorf("%s: %q, want %s: %q; %+v", r.Kind, got, s.kind, s.want, r.Failed)
			}
			if i := strings.Index(s.text, "Message-ID: <m"); i > 0 && r.ID != s.text[i+12:i+strings.Index(s.text[i:], "\r\n")] {
				t.Errorf("about %q", r.ID)
			}
		})
	}
}

// What is made to exhaust a reader does not (threat T9).
func TestBombs(t *testing.T) {
	nested := strings.Builder{}
	for i := range 10_000 {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	many := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 100_000)
	params := strings.Builder{}
	params.WriteString("Content-Type: multipart/report")
	for i := range 100_000 {
		params.WriteString(";\r\n boundary*" + strconv.Itoa(i) + "=b")
	}
	recipients := "Content-Type: message/delivery-status\r\n\r\n" + strings.Repeat("Final-Recipient: rfc822; a@b.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n", 10_000)
	for name, text := range map[string]string{"nested": nested.String(), "many parts": many, "long parameter": params.String(),
		"recipients": recipients, "base64 line": "Content-Type: message/delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("QUJD", 4<<20),
		"unterminated": "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b", "addresses": "From: mailer-daemon@x.example\r\n\r\n" + strings.Repeat("<a@b.example>: no\r\n<c@d.example>: no\r\n", 20_000)} {
		t.Run(name, func(t *testing.T) {
			if r := Read([]byte(text)); len(r.Failed) > maxFailed {
				t.Errorf("%d recipients", len(r.Failed))
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range mustCorpus(f) {
		f.Add([]byte(s.text))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		r := Read(msg)
		if len(r.Failed) > maxFailed || r.Kind == Bounce && len(r.Failed) == 0 {
			t.Errorf("%s of %d", r.Kind, len(r.Failed))
		}
		for _, one := range r.Failed {
			if one.To != "" && one.To.Check() != nil || one.Reply.Code < 400 || one.Reply.Code > 599 || len(one.Reply.Text) > maxReply+20 || strings.ContainsAny(one.Reply.Text, "\r\n") {
				t.Errorf("%+v", one)
			}
		}
	})
}

func testKey(purpose string, data []byte) (out [16]byte) {
	h := uint64(14695981039346656037)
	for _, b := range append([]byte(purpose), data...) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	copy(out[:], fmt.Sprintf("%016x", h))
	return out
}

func TestReturnAddress(t *testing.T) {
	m := mail.MessageID{Lineage: 7, Seq: 1_800_000_000_000_000}
	a := ReturnAddress(testKey, m, "x@docomo.ne.jp", "return.shop.example")
	if local, _ := a.Split(); len(local) > 64 || a.Check() != nil {
		t.Fatalf("%q: %v", a, a.Check())
	}
	for _, form := range []mail.Address{a, mail.Address(strings.ToUpper(string(a)))} {
		r, ok := ParseReturn(testKey, form)
		if !ok || r.Message != m || !r.Names(testKey, "X@docomo.ne.jp") || r.Names(testKey, "y@docomo.ne.jp") {
			t.Errorf("%q: %+v %v", form, r, ok)
		}
	}
	for i := len(returnPrefix); i < len(returnPrefix)+40; i++ { // nobody makes one up
		forged := []byte(a)
		if forged[i]++; bytes.Equal(forged, []byte(a)) {
			continue
		}
		if r, ok := ParseReturn(testKey, mail.Address(forged)); ok {
			t.Errorf("%q is taken for %+v", forged, r)
		}
	}
	for _, other := range []mail.Address{"", "bounce-@x.example", "someone@x.example", mail.Address(strings.Repeat("a", 47) + "@x.example")} {
		if _, ok := ParseReturn(testKey, other); ok || IsReturn(other) {
			t.Errorf("%q is a return address", other)
		}
	}
}
