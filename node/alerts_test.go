package node

import (
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// TestAlerts: an answer whose rule wants somebody to look raises an alarm, as soon as the rule acts on it.
func TestAlerts(t *testing.T) {
	reply := smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 7, Detail: 28}, Text: "secret@shop.test"}
	few := &mail.Advice{Rule: "google/rate-url", Action: mail.ActSuspend, Alert: true, After: 3, Within: time.Minute}
	for _, tt := range []struct {
		name  string
		o     mail.Outcome
		every time.Duration // between answers
		want  []int         // alarms after the first, second, third answer
		text  string
	}{
		{"at once", mail.Outcome{Reply: reply, Scope: mail.ScopeTenant, Advice: &mail.Advice{Rule: "google/dmarc", Alert: true}}, time.Second, []int{1, 1, 1},
			"google answers 421 4.7.28 that rule google/dmarc wants looked at"},
		{"on the third", mail.Outcome{Reply: reply, Scope: mail.ScopeGroup, Advice: few}, time.Second, []int{0, 0, 1},
			"google answers 421 4.7.28 that rule google/rate-url wants looked at, which asks for suspend of the group"},
		{"too far apart", mail.Outcome{Reply: reply, Advice: few}, time.Minute, []int{0, 0, 0}, ""},
		{"silence", mail.Outcome{Scope: mail.ScopeSource, Advice: &mail.Advice{Rule: "docomo/shut", Action: mail.ActSuspend, Alert: true}}, time.Second, []int{1, 1, 1},
			"google falls silent in a way that rule docomo/shut wants looked at, which asks for suspend of the source"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, log := newAlarms()
			for i, want := range tt.want {
				n.alerts.answered(n, "google", &tt.o)
				if got := len(n.alarms.list()); got != want {
					t.Fatalf("answer %d: %d alarms, want %d", i+1, got, want)
				}
				n.clock.Advance(tt.every)
			}
			for _, a := range n.alarms.list() {
				if a.Text != tt.text || a.About != "google "+tt.o.Advice.Rule {
					t.Errorf("about %q: %q", a.About, a.Text)
				}
			}
			if strings.Contains(log.String(), "secret@") {
				t.Error("an address is in the log")
			}
		})
	}
}
