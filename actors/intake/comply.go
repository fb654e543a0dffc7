package intake

import (
	"strings"
	"sync"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/directive"
	"github.com/ekiden-mta/ekiden/policy/alignment"
	"github.com/ekiden-mta/ekiden/policy/compliance"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// faultsMost bounds what the log keeps of a message's faults, in octets.
const faultsMost = 400

// repeats counts Message-IDs of tenants whose messages are looked at.
type repeats struct {
	mu sync.Mutex
	of *compliance.Repeats
}

// wanted tells whether a setting of a tenant asks to look, and whether what is found refuses the message.
func wanted(setting string) (looks, refuses bool) {
	return setting != "off" && setting != "", setting == "refuse"
}

// comply looks at a message of a tenant that wants it looked at (requirement N19): at what it is, and at how its sender
// stands in the DNS. The refusal names the first fault and what to do about it; faults that are let pass are returned for the
// event of acceptance.
func (in *Intake) comply(s *mail.Submission, m *settings.Member, h *directive.Header) (noted string, err error) {
	var texts []string
	if looks, refuses := wanted(m.Tenant.Compliance); looks {
		for _, f := range in.faults(s, h.MessageID) {
			in.faulty(f.Rule, refuses)
			if texts = append(texts, f.Rule+": "+f.Text); refuses && err == nil {
				err = refuse(550, f.Code, f.Text)
			}
		}
	}
	if looks, refuses := wanted(m.Tenant.Alignment); looks && in.Standing != nil {
		for _, f := range in.Standing(m, identity(s, h)) {
			in.faulty(f.Rule, refuses)
			if texts = append(texts, f.Rule+": "+f.Text); refuses && err == nil {
				err = refuse(550, f.Code, f.Text+": "+f.Advice)
			}
		}
	}
	if len(texts) == 0 || err != nil {
		return "", err
	}
	noted = "warning: " + strings.Join(texts, "; ")
	return noted[:min(len(noted), faultsMost)], nil
}

func (in *Intake) faulty(rule string, refuses bool) {
	if in.Faulty != nil {
		in.Faulty(rule, refuses)
	}
}

// faults are those of the message itself.
func (in *Intake) faults(s *mail.Submission, id []byte) []compliance.Finding {
	found := compliance.Check(s.Data)
	now := s.At
	if now.IsZero() {
		now = in.Clock.Now()
	}
	in.repeats.mu.Lock()
	defer in.repeats.mu.Unlock()
	if again, repeated := in.repeats.of.Count(now, s.Tenant, id); repeated {
		found = append(found, again)
	}
	return found
}

// identity is who a message claims to come from, as far as it tells itself.
func identity(s *mail.Submission, h *directive.Header) alignment.Identity {
	id := alignment.Identity{Envelope: s.From.Domain(), Signatures: alignment.Signatures(s.Data[:h.End])}
	if from, err := mail.ParseDomain(string(fromDomain(h.From))); err == nil {
		id.From = from
	}
	return id
}
