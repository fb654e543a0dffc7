package secret

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
)

// cheap is a hash at the smallest cost argon2id has.
func cheap(s string) string {
	salt := []byte("saltsalt")
	enc := base64.RawStdEncoding.EncodeToString
	return "argon2id:$argon2id$v=19$m=64,t=1,p=1$" + enc(salt) + "$" + enc(argon2.IDKey([]byte(s), salt, 1, 64, 1, 32))
}

func TestParse(t *testing.T) {
	good := cheap("pw")
	h, err := Parse(good)
	if err != nil || !h.Matches("pw") || h.Matches("pW") {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", good[len("argon2id:"):], strings.Replace(good, "argon2id$", "argon2i$", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=64", "m=99999999", 1), strings.Replace(good, "t=1", "t=0", 1), strings.Replace(good, "p=1", "p=0", 1),
		good + "!", good + "$x",
	} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestMake(t *testing.T) {
	one, other := Make("abc12345"), Make("abc12345")
	if one == other {
		t.Error("no salt")
	}
	h, err := Parse(one)
	if err != nil || !h.Matches("abc12345") || h.Matches("abc12346") {
		t.Fatal(one, err)
	}
}

func TestCheckKey(t *testing.T) {
	for _, row := range []struct {
		key string
		ok  bool
	}{
		{"abcdefg1", true}, {"1234567a", true}, {"A!b@3#def", true}, {strings.Repeat("a1", 64), true},
		{"abcdef1", false}, {"abcdefgh", false}, {"12345678", false}, {"abc 1234", false}, {"abcdéf12", false},
		{strings.Repeat("a1", 65), false}, {"", false}, {"abcdef1\n", false},
	} {
		if err := CheckKey(row.key); (err == nil) != row.ok {
			t.Errorf("%q: %v", row.key, err)
		}
	}
}

// TestChecker: guesses are bounded by origin and by name, a right one is remembered, and a changed hash forgets it.
func TestChecker(t *testing.T) {
	c := NewChecker(Limits{Burst: 3, Every: time.Minute, Concurrent: 1})
	hash := cheap("right")
	lookup := func(name string) (string, bool) { return hash, name == "ann" }
	now := time.Unix(1e9, 0)
	check := func(from, user, guess string) Verdict { return c.Check(now, from, user, guess, lookup) }
	for i, row := range []struct {
		from, user, guess string
		want              Verdict
	}{
		{"a", "ann", "right", Good},
		{"a", "ann", "wrong", Bad},
		{"a", "bob", "right", Bad},
		{"a", "", "right", Bad},
		{"a", "ann", "wrong", Busy}, // the origin has had its three
		{"a", "ann", "right", Good}, // remembered: a guesser locks nobody out
		{"b", "ann", "wrong", Bad},
		{"b", "ann", "wrong", Busy}, // and so has the name
		{"b", "cyd", "wrong", Bad},
	} {
		if got := check(row.from, row.user, row.guess); got != row.want {
			t.Errorf("%d: %s %s %s: %v, want %v", i, row.from, row.user, row.guess, got, row.want)
		}
	}
	hash = cheap("other")
	now = now.Add(10 * time.Minute)
	if got := check("a", "ann", "right"); got != Bad {
		t.Errorf("an old key: %v", got)
	}
	if got := check("a", "ann", "other"); got != Good {
		t.Errorf("the new key: %v", got)
	}
}
