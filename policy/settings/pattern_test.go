package settings

import (
	"strings"
	"testing"
)

func TestCompilePattern(t *testing.T) {
	tests := []struct {
		name, pattern string
		yes, no       []string
	}{
		{"whole value", "example", []string{"example"}, []string{"a@example.com", "examples"}},
		{"domain", `.+@example\.com`, []string{"a@example.com"}, []string{"@example.com", "a@exampleXcom", "a@example.com.jp"}},
		{"alternatives stay inside", "a|b", []string{"a", "b"}, []string{"ax", "xb"}},
		{"classes and counts", `[a-c]{2,3}[^x]`, []string{"abz", "abcz"}, []string{"az", "abx"}},
		{"dot takes line ends", "a.b", []string{"a\nb"}, nil},
		{"Japanese", "重要.*", []string{"重要なお知らせ"}, []string{"お知らせ"}},
		{"lazy quantifiers", "a+?b*?c??", []string{"aabc"}, []string{"c"}},
		{"escaped specials", `\(\?=\)\+\+`, []string{"(?=)++"}, nil},
		{"bracket first in a class", `[]+]x`, []string{"]x", "+x"}, []string{"x"}},
		{"plus after a class", `[a+]+`, []string{"a+a"}, []string{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			re, err := CompilePattern(tt.pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range tt.yes {
				if !re.MatchString(s) {
					t.Errorf("%q does not match", s)
				}
			}
			for _, s := range tt.no {
				if re.MatchString(s) {
					t.Errorf("%q matches", s)
				}
			}
		})
	}
}

func TestUnsupportedPatterns(t *testing.T) {
	tests := []struct{ name, pattern, says string }{
		{"empty", "", "empty"},
		{"long", strings.Repeat("a", MaxPattern+1), "longer than"},
		{"unbalanced", "(a", "cannot be read"},
		{"closes our group", "a)|(?:b", "cannot be read"},
		{"look-ahead", "a(?=b)", "look-ahead"},
		{"negative look-ahead", "(?!b)a", "negative look-ahead"},
		{"look-behind", "(?<=b)a", "look-behind"},
		{"negative look-behind", "(?<!b)a", "negative look-behind"},
		{"atomic group", "(?>a+)b", "atomic group"},
		{"back-reference", `(a)\1`, `back-reference \1`},
		{"named back-reference", `(?<x>a)\k<x>`, "back-reference"},
		{"possessive star", "a*+", "possessive quantifier (*+)"},
		{"possessive plus", "a++b", "possessive quantifier (++)"},
		{"possessive count", "a{2}+", "possessive quantifier (}+)"},
		{"class intersection", "[a-z&&[^b]]", "class intersection"},
		{"class in a class", "[a[b]]", "class inside a class"},
		{"any line break", `a\R`, `\R`},
		{"bomb", "((a{1,1000}){1,1000})", "cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := CompilePattern(tt.pattern); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want …%s…", err, tt.says)
			}
		})
	}
}

func FuzzCompilePattern(f *testing.F) {
	f.Add(`.+@docomo\.ne\.jp`, "a@docomo.ne.jp")
	f.Add("[]&&[", "")
	f.Add(`\`, "")
	f.Fuzz(func(t *testing.T, pattern, value string) {
		re, err := CompilePattern(pattern)
		if err != nil || len(value) > 1000 {
			return
		}
		if loc := re.FindStringIndex(value); loc != nil && (loc[0] != 0 || loc[1] != len(value)) {
			t.Fatalf("%q matches a part of %q", pattern, value)
		}
	})
}
