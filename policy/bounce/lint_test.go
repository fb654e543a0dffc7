package bounce

import "testing"

// The built-in rules have no dead row, and each kind of dead row that is planted is found (requirement N14).
func TestLintFindsDeadRows(t *testing.T) {
	for _, f := range mustRules(t).Lint() {
		t.Errorf("built in: %s %s: %s", f.Receiver, f.Rule, f.Text)
	}
	r, err := Parse([]byte(`
- name: p
  receivers: [docomo]
  source: test
  date: "2026-11-26"
  rules:
    - {name: wide, codes: [5], text: [unknown], status: user, scope: recipient, example: "550 unknown"}
    - {name: behind, codes: [550], text: [user unknown], status: refused, scope: recipient, example: "550 user unknown"}
    - {name: against, codes: [5], text: [unknown], status: refused, scope: recipient, example: "550 unknown"}
    - {name: elsewhere, codes: [552], text: [full], status: capacity, scope: recipient, example: "450 full"}
    - {name: taken, text: [too busy], status: timeout, scope: source, example: "550 unknown: too busy"}
    - {name: bare, codes: [551], text: [moved], status: user, scope: recipient}
    - {name: fine, codes: [553], text: [no], status: format, scope: recipient, example: "553 no"}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"p/behind": "is unreachable behind p/wide", "p/against": "contradicts p/wide", "p/elsewhere": "never matches: its own example does not",
		"p/taken": "never decides its own example: p/wide does", "p/bare": "has no example that is a reply",
	}
	got := r.Lint()
	for _, f := range got {
		if len(f.Text) < len(want[f.Rule]) || f.Text[:len(want[f.Rule])] != want[f.Rule] || want[f.Rule] == "" {
			t.Errorf("%s: %s, want %q", f.Rule, f.Text, want[f.Rule])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d findings, want %d", len(got), len(want))
	}
}
