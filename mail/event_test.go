package mail

import (
	"testing"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// What is said to somebody else does not count against the address, whether a rule knew it or not (requirement N5).
func TestJudge(t *testing.T) {
	no := smtp.Reply{Code: 550, Text: "no"}
	for _, tt := range []struct {
		name string
		o    Outcome
		want bool
	}{
		{"the sender is refused, no rule", Outcome{Stage: StageMail, Scope: ScopeTenant, Reply: no}, true},
		{"the message is refused, no rule", Outcome{Stage: StageDot, Scope: ScopeMessage, Reply: no}, true},
		{"the recipient is refused, no rule", Outcome{Stage: StageRcpt, Scope: ScopeRecipient, Reply: no}, false},
		{"a rule knows better", Outcome{Stage: StageRcpt, Scope: ScopeRecipient, Reply: no, Advice: &Advice{NoSuppress: true}}, true},
		{"no such host", Outcome{Stage: StageDNS, Scope: ScopeReceiver}, false},
		{"nobody there", Outcome{Stage: StageConnect, Scope: ScopeConnection}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var e Event
			if e.Judge(&tt.o); e.NoSuppress != tt.want {
				t.Errorf("no suppress: %v", e.NoSuppress)
			}
		})
	}
}
