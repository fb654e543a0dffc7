package bounce

import (
	"slices"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Words are what one error status is called in every vocabulary that shows it (requirement E-16).
type Words struct {
	Status   mail.Status       // R96, the one the others follow from
	Name     string            // of rules data, and of whoever wants a word instead of a number
	Bounce   string            // second line of a classic bounce mail (R86); "" = none is sent
	Code     int               // three digits where the receiver gave none (R74)
	Soft     bool              // R98; all others are hard
	Enhanced smtp.EnhancedCode // RFC 3463, of a delivery status notification where the receiver gave none
}

// vocabulary is the one table of requirement E-16. Soft are those of R98.
func vocabulary() []Words {
	code := func(class, subject, detail uint16) smtp.EnhancedCode {
		return smtp.EnhancedCode{Class: class, Subject: subject, Detail: detail}
	}
	return []Words{
		{mail.StatusHostUnknown, "host", unknownHost, 590, false, code(5, 1, 2)},
		{mail.StatusUserUnknown, "user", unknownUser, 550, false, code(5, 1, 1)},
		{mail.StatusTimeout, "timeout", "", 490, true, code(4, 4, 7)},
		{mail.StatusRefused, "refused", rejected, 550, false, code(5, 7, 1)},
		{mail.StatusOverCapacity, "capacity", "", 552, true, code(5, 2, 2)},
		{mail.StatusForward, "forward", "", 550, false, code(5, 1, 6)},
		{mail.StatusServer, "server", "", 554, false, code(5, 3, 5)},
		{mail.StatusSize, "size", "", 552, true, code(5, 3, 4)},
		{mail.StatusFormat, "format", "", 593, false, code(5, 1, 3)},
		{mail.StatusBlockListed, "blocklist", "", 591, false, code(5, 7, 1)},
		{mail.StatusUnsubscribed, "unsubscribed", "", 591, false, code(5, 7, 1)},
		{mail.StatusInterrupted, "interrupted", "", 592, false, code(5, 0, 0)},
		{mail.StatusOther, "other", "", 554, false, code(5, 0, 0)},
	}
}

// WordsOf returns what a status is called; of one that is none, nothing but the status.
func WordsOf(s mail.Status) Words {
	for _, w := range vocabulary() {
		if w.Status == s {
			return w
		}
	}
	return Words{Status: s}
}

// Code is the three-digit result of an event (R74): the receiver's where it replied, else ours. 250 is success; 0 where
// nothing was tried yet.
func Code(e *mail.Event) int {
	switch {
	case e.Kind == mail.EventDelivered && e.Reply.Code == 0:
		return 250
	case e.Kind == mail.EventAccepted || e.Kind == mail.EventTakenOver:
		return 0
	case e.Kind == mail.EventSuppressed:
		return 591
	case e.Kind == mail.EventDiscarded:
		return 592
	case e.Stage == mail.StageNone && e.Status == mail.StatusTimeout: // our own decision, whatever was answered before
		return 490
	case e.Reply.Code != 0:
		return e.Reply.Code
	case e.Kind == mail.EventDeferred && e.Stage == mail.StageDNS:
		return 491
	case e.Kind == mail.EventDeferred: // nobody answered: as if nobody was at home (RFC 5321 §4.2.3)
		return 421
	}
	return WordsOf(e.Status).Code
}

// Kinds of errors (R98).
const (
	Soft = "soft" // it passes by itself: what was put off, and the statuses that say so
	Hard = "hard"
)

// Kind is the kind of error that an event tells of; "" where it tells of none in the receiver or the address.
func Kind(e *mail.Event) string {
	switch {
	case e.Kind == mail.EventDeferred, (e.Kind == mail.EventFailed || e.Kind == mail.EventBounced) && WordsOf(e.Status).Soft:
		return Soft
	case e.Kind == mail.EventFailed, e.Kind == mail.EventBounced:
		return Hard
	}
	return ""
}

// The reasons of a classic bounce mail (R86, R89).
const (
	unknownUser  = "unknown user"
	unknownMaybe = "unknown user (maybe)"
	unknownHost  = "unknown host"
	rejected     = "reject"
)

// Reason is the second line of the classic bounce mail about the end of a delivery; "" = none is sent (requirements D3,
// R86-R89). queue is the classic queue of the domain (R63).
func Reason(e *mail.Event, queue string) string {
	switch {
	case e.Kind == mail.EventSuppressed && e.Status == mail.StatusUserUnknown:
		return unknownUser // the black box is sure (D3)
	case e.Kind != mail.EventFailed && e.Kind != mail.EventBounced:
		return ""
	case e.Status == mail.StatusUserUnknown && (queue != "pc" && queue != "rakuten" || judged(e.Domain)):
		return unknownUser
	case e.Status == mail.StatusUserUnknown:
		return unknownMaybe
	case e.Status == mail.StatusRefused && queue != "docomo": // others tell nobody, or cannot be told apart (R87)
		return ""
	}
	return WordsOf(e.Status).Bounce
}

// judged tells whether a provider's "unknown user" can be believed (R88, E-10).
func judged(d mail.Domain) bool {
	return slices.Contains([]mail.Domain{"hotmail.co.jp", "live.jp", "gmail.com", "ybb.ne.jp", "yahoo.co.jp", "mail.goo.ne.jp",
		"infoseek.jp", "livedoor.com", "ivedoor.com"}, d)
}
