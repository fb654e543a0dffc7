package bounce

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
)

// Every reply that receivers are known to give means what its label says: status, scope, what to do, and whether the
// address may suffer for it.
func TestLabelledReplies(t *testing.T) {
	r := mustRules(t)
	f, err := os.Open("testdata/replies.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		w := strings.SplitN(in.Text(), " ", 8)
		if len(w) < 8 {
			continue
		}
		if strings.HasPrefix(w[0], "#") {
			continue
		}
		t.Run(w[0]+"/"+w[7], func(t *testing.T) {
			st, ok := stage(w[1])
			if !ok {
				t.Fatal("no such stage")
			}
			o := outcome(t, st, "")
			if silence, ok := strings.CutPrefix(w[7], "~"); ok {
				o.Detail = silence
			} else {
				o = outcome(t, st, w[7])
			}
			got := r.Classify(w[0], o, addressIn(w[7]))
			if got.Advice == nil {
				t.Fatalf("line %d: no rule knows it", n)
			}
			if one := label(got); one != strings.Join(w[2:7], " ") {
				t.Errorf("line %d: %s by %s", n, one, got.Advice.Rule)
			}
		})
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
}

// addressIn is the recipient of a labelled reply: the one it names, or one it does not.
func addressIn(reply string) mail.Address {
	for _, w := range strings.FieldsFunc(reply, func(r rune) bool { return strings.ContainsRune("<> :", r) }) {
		if strings.Contains(w, "@") {
			return mail.Address(w)
		}
	}
	return "somebody@else.example"
}

func label(o mail.Outcome) string {
	suffers := "-" // it concerns somebody else
	if o.Scope == mail.ScopeRecipient {
		suffers = map[bool]string{false: "yes", true: "no"}[o.Advice.NoSuppress]
	}
	return strings.Join([]string{statusNumber(o.Status), o.Scope.String(), o.Advice.Action.String(), suffers, o.Result.String()}, " ")
}

func statusNumber(s mail.Status) string {
	if s == mail.StatusOther {
		return "99"
	}
	return string(rune('0' + s))
}
