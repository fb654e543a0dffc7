package intake

import (
	"strings"
	"sync"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/compliance"
)

// faultsMost bounds what the log keeps of a message's faults, in octets.
const faultsMost = 400

// repeats counts Message-IDs of tenants whose messages are looked at.
type repeats struct {
	mu sync.Mutex
	of *compliance.Repeats
}

// comply looks at a message of a tenant that wants it looked at (requirement N19). The refusal names the first fault and
// what to do about it; faults that are let pass are returned for the event of acceptance.
func (in *Intake) comply(s *mail.Submission, id []byte, refuses bool) (string, error) {
	found := compliance.Check(s.Data)
	now := s.At
	if now.IsZero() {
		now = in.Clock.Now()
	}
	in.repeats.mu.Lock()
	again, repeated := in.repeats.of.Count(now, s.Tenant, id)
	in.repeats.mu.Unlock()
	if repeated {
		found = append(found, again)
	}
	if len(found) == 0 {
		return "", nil
	}
	if in.Faulty != nil {
		for _, f := range found {
			in.Faulty(f.Rule, refuses)
		}
	}
	if refuses {
		return "", refuse(550, found[0].Code, found[0].Text)
	}
	texts := make([]string, len(found))
	for i, f := range found {
		texts[i] = f.Rule + ": " + f.Text
	}
	all := "warning: " + strings.Join(texts, "; ")
	return all[:min(len(all), faultsMost)], nil
}
