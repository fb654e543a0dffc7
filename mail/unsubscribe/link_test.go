package unsubscribe

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
)

func keyOf(secret string) Key {
	return func(purpose string, data []byte) [16]byte {
		m := hmac.New(sha256.New, []byte(secret))
		m.Write([]byte(purpose + "\x00"))
		m.Write(data)
		return [16]byte(m.Sum(nil))
	}
}

func TestToken(t *testing.T) {
	key := keyOf("ours")
	l := Link{Tenant: "shop", List: "お知らせ", To: "Taro@Docomo.ne.jp"}
	token := l.Token(key)
	got, ok := Open(key, token)
	if !ok || string(got.To) != l.To.Fold() || got.Tenant != l.Tenant || got.List != l.List {
		t.Fatalf("read %+v, %t", got, ok)
	}
	if again := l.Token(keyOf("ours")); again != token {
		t.Error("another member makes another link")
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"shop", "taro", "docomo"} {
		if bytes.Contains(bytes.ToLower(raw), []byte(secret)) || strings.Contains(strings.ToLower(token), secret) {
			t.Errorf("the token shows %q", secret)
		}
	}
	for i := range raw { // each octet counts
		forged := bytes.Clone(raw)
		forged[i] ^= 1
		if _, ok := Open(key, base64.RawURLEncoding.EncodeToString(forged)); ok {
			t.Errorf("octet %d may be anything", i)
		}
	}
	for _, row := range []struct{ name, token string }{
		{"another cluster's", l.Token(keyOf("theirs"))}, {"empty", ""}, {"cut", token[:len(token)-4]}, {"padded", token + "=="},
		{"long", strings.Repeat("A", 1<<20)}, {"no base64", "%%%"}, {"with a line end", token + "\n"},
	} {
		if _, ok := Open(key, row.token); ok {
			t.Errorf("%s: taken", row.name)
		}
	}
}

func TestFields(t *testing.T) {
	key := keyOf("ours")
	l := Link{Tenant: "shop", List: "news", To: "a@b.example"}
	token := l.Token(key)
	long := Link{Tenant: strings.Repeat("t", 100), List: strings.Repeat("リ", 50), To: "a@b.example"}
	for _, row := range []struct {
		name, base string
		link       Link
		oneClick   bool
		want       string
	}{
		{"one click", "https://relay.example", l, true,
			"List-Unsubscribe: <https://relay.example/unsubscribe/" + token + ">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"},
		{"a page only", "https://relay.example/m/", l, false, "List-Unsubscribe: <https://relay.example/m/unsubscribe/" + token + ">\r\n"},
		{"the longest names", "https://relay.example", long, false,
			"List-Unsubscribe: <https://relay.example/unsubscribe/" + long.Token(key) + ">\r\n"},
		{"too long for a line", "https://" + strings.Repeat("h", 960), l, true, ""},
		{"too long a name", "https://relay.example", Link{Tenant: strings.Repeat("t", 256), To: "a@b.example"}, true, ""},
	} {
		got := string(row.link.AppendFields(nil, key, row.base, row.oneClick))
		if got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
		for line := range strings.SplitSeq(got, "\r\n") {
			if len(line) > 998 {
				t.Errorf("%s: a line of %d octets", row.name, len(line))
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	key := keyOf("ours")
	f.Add(Link{Tenant: "shop", List: "news", To: "a@b.example"}.Token(key))
	f.Add("")
	f.Add(strings.Repeat("A", 100))
	f.Fuzz(func(t *testing.T, token string) {
		l, ok := Open(key, token)
		if !ok {
			return
		}
		if again := l.Token(key); again != token {
			t.Errorf("%q opens as %+v, which has the token %q", token, l, again)
		}
	})
}

// FuzzToken: whatever a link says is read back, and the text behind a seal cannot break the reader.
func FuzzToken(f *testing.F) {
	f.Add("shop", "news", "a@b.example")
	f.Add("", "", "x")
	f.Fuzz(func(t *testing.T, tenant, list, to string) {
		key := keyOf("ours")
		l := Link{Tenant: tenant, List: list, To: "u@" + "b.example"}
		if token := l.Token(key); token != "" {
			if got, ok := Open(key, token); !ok || got != l {
				t.Errorf("%+v is read as %+v, %t", l, got, ok)
			}
		}
		plain := []byte(to) // sealed by us in a form that Token never writes
		raw := make([]byte, tagSize+len(plain))
		tag := tagOf(key, plain)
		copy(raw, tag[:])
		copy(raw[tagSize:], plain)
		crypt(key, tag, raw[tagSize:])
		Open(key, base64.RawURLEncoding.EncodeToString(raw))
	})
}
