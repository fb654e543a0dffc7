package house

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// checkName refuses package names that name no noun.
func (t *tree) checkName(p *pkg) {
	for _, name := range []string{p.name, path.Base(p.dir)} {
		if slices.Contains(bannedNames(), name) {
			t.reportPath(p.dir, "package name %q (a room is named after what it keeps)", name)
			return
		}
	}
}

// checkFiles looks at the size of files and at where generated ones stand.
func (t *tree) checkFiles(p *pkg) {
	pb := strings.HasSuffix(p.dir, "pb")
	for _, s := range p.files {
		switch {
		case s.generated && !pb:
			t.reportPath(s.path, "generated code outside a *pb package (what people read, people wrote)")
		case !s.generated && pb && path.Base(s.path) != "doc.go":
			t.reportPath(s.path, "written code in a *pb package (it holds generated code and doc.go)")
		case !s.generated && s.lines > maxLines && !strings.Contains("\n"+s.text, "\n"+longFile):
			t.reportPath(s.path, "%d lines without a line %q (above %d a file needs a word of justification)",
				s.lines, longFile+"reason", maxLines)
		}
	}
}

// checkComments demands of every package a comment of two sentences that says what it must never do. It goes by
// directory: the comment may stand in any file that is not a test.
func (t *tree) checkComments() {
	for _, p := range t.pkgs {
		var comment strings.Builder
		code := false
		for _, s := range p.files {
			if s.test {
				continue
			}
			code = true
			if s.ast.Doc != nil && !s.generated {
				comment.WriteString(s.ast.Doc.Text() + "\n")
			}
		}
		text := comment.String()
		switch {
		case !code:
		case strings.TrimSpace(text) == "":
			t.reportPath(p.dir, "package %s has no package comment", p.name)
		case len(sentenceEnd().FindAllString(text, -1)) < 2:
			t.reportPath(p.dir, "the comment of package %s has fewer than two sentences", p.name)
		case !neverWord().MatchString(text):
			t.reportPath(p.dir, "the comment of package %s does not say what it must never do", p.name)
		}
	}
}

func sentenceEnd() *regexp.Regexp { return regexp.MustCompile(`[.!?][)"”]?(\s|$)`) }
func neverWord() *regexp.Regexp   { return regexp.MustCompile(`(?i)\bnever\b`) }

// checkWords looks for words that must not stand in the tree.
func (t *tree) checkWords() {
	for name, text := range t.texts {
		for i, line := range strings.Split(text, "\n") {
			for _, word := range bannedWords() {
				if containsWord(line, word) {
					t.found = append(t.found, Violation{name, i + 1, "the word " + word + " (finish it, or make it an issue)"})
				}
			}
		}
	}
}

// containsWord tells whether word stands in line, not as a part of a longer one.
func containsWord(line, word string) bool {
	for at := 0; ; {
		i := strings.Index(line[at:], word)
		if i < 0 {
			return false
		}
		start, end := at+i, at+i+len(word)
		letterBefore := start > 0 && isLetter(line[start-1])
		letterAfter := end < len(line) && isLetter(line[end]) && isLetter(word[len(word)-1])
		if !letterBefore && !letterAfter {
			return true
		}
		at = end
	}
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}
