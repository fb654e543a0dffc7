package mail

import (
	"errors"
	"strings"
	"testing"
)

func TestAddressWire(t *testing.T) {
	tests := []struct {
		name, in, want string
		err            error
	}{
		{"plain", "a.b+c@example.com", "a.b+c@example.com", nil},
		{"all the plain symbols of R107", "!#$%&'*+-/=?^_{|}~`@example.com", "!#$%&'*+-/=?^_{|}~`@example.com", nil},
		{"domain case is kept", "Who@Example.COM", "Who@Example.COM", nil},
		{"doubled dot is quoted (R108)", "irregular..pattern@example.com", `"irregular..pattern"@example.com`, nil},
		{"backslash and parentheses are quoted", `hello\(^^)@example.com`, `"hello\\(^^)"@example.com`, nil},
		{"leading dots (D4)", "..abc@docomo.ne.jp", `"..abc"@docomo.ne.jp`, nil},
		{"trailing dot (D4)", "abc.@ezweb.ne.jp", `"abc."@ezweb.ne.jp`, nil},
		{"leading hyphen is an atom (D4)", "-abc@ezweb.ne.jp", "-abc@ezweb.ne.jp", nil},
		{"quoted string stays quoted (G6)", `"v@evil.test> NOTIFY=NEVER "@ok.test`, `"v@evil.test> NOTIFY=NEVER "@ok.test`, nil},
		{"at sign in an unquoted local part is quoted", "a@b@us.test", `"a@b"@us.test`, nil},
		{"underscore inside a label", "a@my_host.example.com", "a@my_host.example.com", nil},
		{"U-label becomes A-label", "a@例え.jp", "a@xn--r8jz45g.jp", nil},
		{"label starting with underscore (E-7)", "a@_dmarc.example.com", "", ErrDomainName},
		{"label starting with hyphen", "a@-x.com", "", ErrDomainName},
		{"doubled dot in the domain", "a@x..com", "", ErrDomainName},
		{"leading dot in the domain", "a@.x.com", "", ErrDomainName},
		{"trailing dot in the domain", "a@x.com.", "", ErrDomainName},
		{"address literal", "a@[127.0.0.1]", "", ErrDomainName},
		{"percent NUL", "a@b\x00us", "", ErrDomainName},
		{"no domain", "postmaster", "", ErrNoDomain},
		{"empty local part", "@x.com", "", ErrLocalPart},
		{"control character", "a\x1bb@x.com", "", ErrLocalPart},
		{"300 octets are fine (R110)", strings.Repeat("a", 288) + "@example.com", strings.Repeat("a", 288) + "@example.com", nil},
		{"too long for the line (R110)", strings.Repeat("a", 990) + "@example.com", "", ErrTooLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Address(tt.in).Wire()
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Wire(%q) = %q, %v; want %q, %v", tt.in, got, err, tt.want, tt.err)
			}
			if check := Address(tt.in).Check(); !errors.Is(check, tt.err) {
				t.Errorf("Check(%q) = %v, want %v", tt.in, check, tt.err)
			}
		})
	}
}

func TestAddressDomain(t *testing.T) {
	tests := []struct {
		in   Address
		want Domain
	}{
		{"a@DOCOMO.ne.jp", "docomo.ne.jp"},
		{`"a@b"@example.com`, "example.com"},
		{`"a@b`, ""},
		{"a", ""},
		{"", ""},
	}
	for _, tt := range tests {
		if got := tt.in.Domain(); got != tt.want {
			t.Errorf("Address(%q).Domain() = %q, want %q", tt.in, got, tt.want)
		}
	}
	if a, b := Address("Who@Example.com"), Address("who@example.COM"); a.Fold() != b.Fold() {
		t.Errorf("%q and %q do not compare equal (R111)", a, b)
	}
}

// FuzzAddressWire proves that what we write between angle brackets can never end the path or the line (T4, G6).
func FuzzAddressWire(f *testing.F) {
	for _, s := range []string{"a@b.c", `"a\"b"@c.d`, "a..b@c.d", `"x> NOTIFY=NEVER "@c.d`, "a\r\nb@c.d", `"\`, `a"b@c.d`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := Address(s).Wire()
		if err != nil || s == "" {
			return
		}
		quoted, escaped := false, false
		for i := 0; i < len(w); i++ {
			c := w[i]
			if c < 0x20 || c == 0x7f {
				t.Fatalf("Wire(%q) = %q holds a control character", s, w)
			}
			switch {
			case escaped:
				escaped = false
			case quoted && c == '\\':
				escaped = true
			case c == '"':
				quoted = !quoted
			case !quoted && (c == '>' || c == '<' || c == ' '):
				t.Fatalf("Wire(%q) = %q breaks out of the path", s, w)
			}
		}
		if quoted {
			t.Fatalf("Wire(%q) = %q leaves a quote open", s, w)
		}
		if again, err := Address(w).Wire(); err != nil || again != w {
			t.Fatalf("Wire is not stable: %q -> %q -> %q, %v", s, w, again, err)
		}
	})
}

func TestMessageID(t *testing.T) {
	id := MessageID{Lineage: 0xdeadbeef, Seq: 1_790_000_000_000_000}
	got, err := ParseMessageID(id.String())
	if err != nil || got != id {
		t.Errorf("ParseMessageID(%q) = %v, %v", id, got, err)
	}
	for _, bad := range []string{"", "x", strings.Repeat("g", 24), strings.Repeat("0", 23)} {
		if _, err := ParseMessageID(bad); !errors.Is(err, ErrMessageID) {
			t.Errorf("ParseMessageID(%q) = %v, want ErrMessageID", bad, err)
		}
	}
}
