package report

import "testing"

// TestReplyWithoutItsCodesTwice: a reply has its code and its enhanced code beside its text, not in it.
func TestReplyWithoutItsCodesTwice(t *testing.T) {
	for words, want := range map[string]string{
		"550 5.1.1 no such user": "550 5.1.1 no such user",
		"550-5.1.1 no such user": "550 5.1.1 no such user",
		"5.1.1 no such user":     "550 5.1.1 no such user",
		"no such user (#5.1.1)":  "550 5.1.1 no such user (#5.1.1)",
		"552 552 mailbox full":   "552 mailbox full",
		"550":                    "550",
		"451 451 4.3.0 x":        "451 4.3.0 x",
		"451 4.3.0 451 4.3.0 x":  "451 4.3.0 x",
		"":                       "",
	} {
		if got := replyIn(words).String(); got != want {
			t.Errorf("%q: got %q, want %q", words, got, want)
		}
	}
}
