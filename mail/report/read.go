package report

import (
	"bytes"
	"slices"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/directive"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Kind is what came in.
type Kind uint8

// The kinds of mail that comes to a return address.
const (
	Other     Kind = iota // whatever people write
	Bounce                // a delivery failed
	Delayed               // a warning, or a success: nothing ended badly
	Complaint             // somebody called the message spam (RFC 5965)
	AutoReply             // a person is away, a desk has received (RFC 3834)
)

var kindNames = [...]string{"other", "bounce", "delayed", "complaint", "auto_reply"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Other]
}

// Words is the kind in words: "automatic answer".
func (k Kind) Words() string {
	switch k {
	case Bounce:
		return "bounce"
	case Delayed:
		return "delay or success notice"
	case Complaint:
		return "complaint"
	case AutoReply:
		return "automatic answer"
	}
	return "letter"
}

// Bounds of what is read (threat T9). More is left unread, and no error: a report says what it has to say in front.
const (
	maxRead   = 1 << 20 // octets of a message
	maxDepth  = 32
	maxParts  = 1000
	maxText   = 64 << 10 // octets of one part, decoded
	maxFailed = 100      // recipients of one report
	maxReply  = 500      // octets of one reply
)

// Report is what a message says about mail sent earlier. All of it is a claim of whoever sent it.
type Report struct {
	Kind     Kind
	Failed   []Failed       // of Bounce: never empty
	Reporter string         // host that says so, "" = unknown
	Feedback string         // of Complaint: abuse, fraud …
	To       []mail.Address // of Complaint: whom the message was sent to
	ID       string         // Message-ID of the message it is about, with brackets; "" = not told
}

// Failure tells whether it is about mail that did not arrive, or was not wanted.
func (r *Report) Failure() bool { return r.Kind == Bounce || r.Kind == Complaint }

// Failed is one recipient that the message did not reach.
type Failed struct {
	To    mail.Address // "" where the report names none
	Reply smtp.Reply   // what was answered; Code 550 where the report names none
}

// Read tells what a message says. It never fails: what cannot be read is Other.
func Read(msg []byte) Report {
	msg = msg[:min(len(msg), maxRead)]
	w := walk{}
	w.entity(msg, 0)
	header, _ := split(msg)
	r := Report{ID: w.id()}
	switch {
	case len(w.status) > 0:
		r.fromStatus(w.status, w.spam)
	case w.feedback != nil:
		r.fromFeedback(w.feedback)
	case fromDaemon(header) && !isAnswer(header):
		r.fromText(&w, header)
	}
	if r.Kind == Other && isAnswer(header) {
		r.Kind = AutoReply
	}
	return r
}

// fromStatus reads message/delivery-status (RFC 3464): fields of the message, an empty line, fields per recipient.
func (r *Report) fromStatus(status []byte, spam bool) {
	r.Kind = Delayed
	for i, group := range groups(status) {
		reporter := value(group, "Reporting-MTA")
		if i == 0 && reporter != "" {
			r.Reporter = typed(reporter)
			continue
		}
		if len(r.Failed) == maxFailed || !strings.EqualFold(value(group, "Action"), "failed") {
			continue
		}
		f := Failed{To: addressOf(value(group, "Original-Recipient"))}
		if f.To == "" {
			f.To = addressOf(value(group, "Final-Recipient"))
		}
		f.Reply = replyIn(typed(value(group, "Diagnostic-Code")))
		if own, ok := enhancedIn(value(group, "Status")); ok && (f.Reply.Enhanced.IsZero() || f.Reply.Enhanced.Detail == 0) {
			f.Reply.Enhanced = own
		}
		r.add(f, spam)
	}
}

// add appends a failure; a spam signature of au's stands in front of its words.
func (r *Report) add(f Failed, spam bool) {
	if f.Reply.Code == 0 {
		f.Reply.Code = 550
	}
	if spam {
		f.Reply.Text = strings.TrimSpace("X-SPASIGN: NG " + f.Reply.Text)
	}
	r.Kind = Bounce
	r.Failed = append(r.Failed, f)
}

// fromFeedback reads message/feedback-report (RFC 5965).
func (r *Report) fromFeedback(b []byte) {
	r.Kind, r.Feedback = Complaint, strings.ToLower(value(b, "Feedback-Type"))
	r.Reporter = value(b, "User-Agent")
	for _, name := range [...]string{"Original-Rcpt-To", "Removal-Recipient"} {
		if a := addressOf(value(b, name)); a != "" && !slices.Contains(r.To, a) {
			r.To = append(r.To, a)
		}
	}
	if r.Feedback == "not-spam" {
		r.Kind = Other
	}
}

// fromDaemon tells whether a machine that delivers mail wrote the message.
func fromDaemon(header []byte) bool {
	from := strings.ToLower(string(directive.Mailbox(directive.Find(header, "From"))))
	for _, who := range [...]string{"mailer-daemon", "postmaster", "mail-daemon", "mailerdaemon", "mailsystem", "mdaemon"} {
		if strings.HasPrefix(from, who) {
			return true
		}
	}
	if directive.Find(header, "X-Failed-Recipients") != nil {
		return true
	}
	subject := strings.ToLower(directive.Text(directive.Find(header, "Subject")))
	for _, word := range [...]string{"undeliver", "delivery status notification", "delivery failure", "failure notice", "returned mail",
		"mail delivery failed", "mail system error", "message you sent blocked", "delivery has failed", "could not be delivered"} {
		if strings.Contains(subject, word) {
			return true
		}
	}
	return false
}

// isAnswer tells whether a machine answers for a person (RFC 3834 §5, and what came before it).
func isAnswer(header []byte) bool {
	kind := strings.ToLower(value(header, "Content-Type"))
	if strings.HasPrefix(kind, "multipart/report") {
		return false
	}
	subject := strings.ToLower(directive.Text(directive.Find(header, "Subject")))
	for _, word := range [...]string{"out of office", "out of the office", "auto reply", "autoreply", "automatic reply", "auto:", "vacation",
		"away from my mail", "自動返信", "自動応答", "不在"} {
		if strings.Contains(subject, word) {
			return true
		}
	}
	for _, name := range [...]string{"X-Autoreply", "X-Autorespond", "X-Autogenerated", "X-Auto-Response-Suppress"} {
		if v := value(header, name); v != "" && name != "X-Auto-Response-Suppress" && !strings.EqualFold(v, "no") {
			return true
		}
	}
	precedence := strings.ToLower(value(header, "Precedence"))
	if precedence == "auto_reply" {
		return true
	}
	auto := strings.ToLower(value(header, "Auto-Submitted"))
	return strings.HasPrefix(auto, "auto-replied") && !fromDaemon(header) ||
		strings.HasPrefix(auto, "auto-replied") && strings.Contains(auto, "vacation")
}

// value is a field of a header section, unfolded; "" where it has none.
func value(header []byte, name string) string {
	return string(directive.Trim(directive.Find(header, name)))
}

// typed is what stands behind the type of a field, "smtp; 550 no" (RFC 3464 §2.1.2).
func typed(v string) string {
	if kind, rest, ok := strings.Cut(v, ";"); ok && !strings.ContainsAny(strings.TrimSpace(kind), " <@") {
		return strings.TrimSpace(rest)
	}
	return strings.TrimSpace(v)
}

// addressOf is the address of a field such as "rfc822; <x@y>", "" where it is none.
func addressOf(v string) mail.Address {
	a := mail.Address(strings.Trim(typed(v), "<> \t"))
	if a.Check() != nil {
		return ""
	}
	return a
}

// groups cuts text at its empty lines.
func groups(b []byte) [][]byte {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	var out [][]byte
	for _, g := range bytes.Split(b, []byte("\n\n")) {
		if g = bytes.Trim(g, "\n"); len(g) > 0 && len(out) <= maxFailed {
			out = append(out, append(bytes.ReplaceAll(g, []byte("\n"), []byte("\r\n")), "\r\n"...))
		}
	}
	return out
}
