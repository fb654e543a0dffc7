package settings

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// MaxPattern is the longest pattern of a filter in octets.
const MaxPattern = 1000

// CompilePattern turns the pattern of a filter into a matcher of whole values (requirement R114). It runs in linear
// time whatever the value; what the original engine offers beyond that (E-8: look-around, back-references, possessive
// quantifiers, atomic groups, class intersection) is refused with an error that names the construct.
func CompilePattern(pattern string) (*regexp.Regexp, error) {
	if pattern == "" {
		return nil, errors.New("pattern is empty")
	}
	if len(pattern) > MaxPattern {
		return nil, fmt.Errorf("pattern is longer than %d octets", MaxPattern)
	}
	if what := unsupported(pattern); what != "" {
		return nil, fmt.Errorf("pattern uses %s, which is not supported: a match must take linear time", what)
	}
	if _, err := syntax.Parse(pattern, syntax.Perl); err != nil { // alone, so that it cannot close our group
		return nil, fmt.Errorf("pattern cannot be read: %w", err)
	}
	re, err := regexp.Compile(`(?s)\A(?:` + pattern + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("pattern cannot be read: %w", err)
	}
	return re, nil
}

var unsupportedGroups = [...]struct{ start, name string }{
	{"(?=", "look-ahead (?=…)"},
	{"(?!", "negative look-ahead (?!…)"},
	{"(?<=", "look-behind (?<=…)"},
	{"(?<!", "negative look-behind (?<!…)"},
	{"(?>", "an atomic group (?>…)"},
}

// unsupported names the first construct of the Java dialect that the linear engine does not have, or "".
func unsupported(p string) string {
	class := 0          // depth of [ ]
	quantifier := false // the last token was a quantifier
	for i := 0; i < len(p); i++ {
		c := p[i]
		was := quantifier
		quantifier = false
		switch {
		case c == '\\' && i+1 < len(p):
			i++
			if name := unsupportedEscape(p[i], class > 0); name != "" {
				return name
			}
		case class > 0:
			switch {
			case c == '[' && i+1 < len(p) && p[i+1] != ':':
				return "a class inside a class […[…]]"
			case c == '&' && strings.HasPrefix(p[i:], "&&"):
				return "a class intersection […&&…]"
			case c == ']':
				class--
			}
		case c == '[':
			class++
			if strings.HasPrefix(p[i+1:], "^") {
				i++
			}
			if strings.HasPrefix(p[i+1:], "]") { // a leading "]" is a literal
				i++
			}
		case c == '(':
			for _, g := range unsupportedGroups {
				if strings.HasPrefix(p[i:], g.start) {
					return g.name
				}
			}
		case c == '*' || c == '?' || c == '}' || c == '+':
			if c == '+' && was {
				return "a possessive quantifier (" + p[i-1:i+1] + ")"
			}
			quantifier = !was || c == '}'
		}
	}
	return ""
}

func unsupportedEscape(c byte, inClass bool) string {
	switch {
	case c >= '1' && c <= '9':
		return `a back-reference \` + string(c)
	case c == 'k':
		return `a back-reference \k`
	case strings.IndexByte("GZRXhHVe", c) >= 0:
		return `\` + string(c)
	case inClass && c == 'b':
		return `\b in a class`
	}
	return ""
}
