package report

import (
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// enders begin the copy of the message that a free-form bounce is about, in lower case.
func enders() []string {
	return []string{
		"--- below this line is a copy of the message", "------ this is a copy of the message", "----- original message follows", "----- original message -----",
		"----- unsent message follows", "--- the message cannot be delivered", "----- message header follows", "----- returned message follows",
		"--- original message follows", "-----original message", "------ the headers of the original message", "original message headers:",
		"----- message body suppressed", "--- undelivered message follows", "received: from ", "return-path: ",
	}
}

// fromText reads the bounce of a machine that writes for people: qmail, Exim, Sendmail, Postfix before RFC 3464, Exchange,
// the carriers. Each address starts a paragraph that says why.
func (r *Report) fromText(w *walk, header []byte) {
	lines := strings.Split(strings.Join(w.text, "\n"), "\n")
	stops := enders()
	quoted := []string{"message-id:", "from:", "sender:", "reply-to:"} // fields of the message; none names who did not get it
	own := ownAddresses(header)
	var current *Failed
	var words []string // of the current address, or of the whole text where none was met
	var failed []Failed
	finish := func() {
		if current != nil && len(failed) < maxFailed {
			current.Reply = replyIn(strings.Join(words, " "))
			failed = append(failed, *current)
		}
	}
	rest := 0
	for i, line := range lines {
		lower := strings.ToLower(strings.TrimLeft(line, " \t>"))
		if startsAny(lower, stops) {
			rest = i
			break
		}
		if a := addressAt(line); a != "" && !startsAny(lower, quoted) && !own[a.Fold()] && len(failed) < maxFailed {
			if current == nil || a.Fold() != current.To.Fold() {
				finish()
				if current != nil {
					words = nil
				}
				current = &Failed{To: a}
			}
		}
		if line = strings.TrimSpace(line); line != "" && len(words) < 60 {
			words = append(words, line)
		}
	}
	finish()
	if rest > 0 && w.returned == nil {
		w.returned = copied(lines[rest:])
		r.ID = w.id()
		w.spam = w.spam || strings.EqualFold(value(w.returned, "X-SPASIGN"), "NG")
	}
	if to := strings.Split(value(header, "X-Failed-Recipients"), ","); len(failed) == 0 && to[0] != "" {
		for _, a := range to[:min(len(to), maxFailed)] {
			failed = append(failed, Failed{To: addressOf(a), Reply: replyIn(strings.Join(words, " "))})
		}
	}
	if rest > 0 { // what the returned copy says is not said by the report
		lines = lines[:rest]
	}
	text := strings.ToLower(strings.Join(lines, " "))
	if len(failed) == 0 && len(words) > 0 {
		failed = append(failed, Failed{Reply: replyIn(strings.Join(words, " "))})
	}
	if isWarning(text) {
		r.Kind = Delayed
		return
	}
	for _, f := range failed {
		r.add(f, w.spam)
	}
}

// isWarning tells whether the text says that nothing ended yet.
func isWarning(text string) bool {
	return strings.Contains(text, "warning message only") || strings.Contains(text, "no action is required on your part") ||
		strings.Contains(text, "will continue to be attempted") || strings.Contains(text, "delivery is delayed") ||
		strings.Contains(text, "you do not need to resend")
}

// copied is the header section of a returned copy.
func copied(lines []string) []byte {
	for i, l := range lines {
		if n := strings.IndexByte(l, ':'); n > 0 && l[0] != '-' && !strings.ContainsAny(l[:n], " \t") {
			header, _ := split([]byte(strings.Join(lines[i:], "\r\n") + "\r\n"))
			return header
		}
	}
	return nil
}

// ownAddresses are those a bounce names besides the recipient: its writer, and us.
func ownAddresses(header []byte) map[string]bool {
	own := map[string]bool{}
	for _, name := range [...]string{"From", "To", "Reply-To", "Return-Path", "Sender"} {
		for _, w := range strings.FieldsFunc(value(header, name), notAddress) {
			own[strings.ToLower(w)] = true
		}
	}
	return own
}

func notAddress(r rune) bool { return strings.ContainsRune("<>,;\" ()[]", r) }

// addressAt is the address a line begins with or names in brackets, "" where there is none.
func addressAt(line string) mail.Address {
	if len(line) > 1000 || !strings.Contains(line, "@") {
		return ""
	}
	for _, w := range strings.FieldsFunc(line, notAddress) {
		w = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(w, "mailto:"), ":"), ".")
		if a := mail.Address(strings.Trim(w, "'*")); strings.Contains(w, "@") && a.Check() == nil && a.Domain() != "" && strings.Contains(string(a.Domain()), ".") {
			return a
		}
	}
	return ""
}

func startsAny(s string, with []string) bool {
	for _, w := range with {
		if strings.HasPrefix(s, w) {
			return true
		}
	}
	return false
}

// replyIn finds the SMTP reply in words about a failure: a code of three digits, an enhanced code, or both; the words
// are its text. Code 0 where the words hold none.
func replyIn(words string) smtp.Reply {
	words = clip(words)
	r := smtp.Reply{Text: words}
	fields := strings.FieldsFunc(words, func(c rune) bool { return strings.ContainsRune(" \t()[]<>:;,\"'-#", c) })
	for _, f := range fields {
		if e, ok := enhancedIn(f); ok && r.Enhanced.IsZero() && e.Class != 2 {
			r.Enhanced = e
			continue
		}
		if n, err := strconv.Atoi(f); err == nil && len(f) == 3 && n >= 400 && n < 600 && r.Code == 0 && n%100 < 60 {
			r.Code = n
		}
	}
	if r.Code == 0 && !r.Enhanced.IsZero() {
		r.Code = 550
	}
	if r.Code != 0 {
		r.Text = afterCodes(r)
	}
	return r
}

// afterCodes is the text of r without the code and the enhanced code in front, however often, which r has beside it.
func afterCodes(r smtp.Reply) string {
	text := r.Text
	for before := ""; before != text; {
		before = text
		for _, code := range []string{strconv.Itoa(r.Code), r.Enhanced.String()} {
			if rest, ok := strings.CutPrefix(text, code); ok && (rest == "" || rest[0] == ' ' || rest[0] == '-') {
				text = strings.TrimLeft(rest, " -")
			}
		}
	}
	return text
}

// clip bounds a reply's text and makes it one line of what a reply may hold.
func clip(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > maxReply {
		s = strings.ToValidUTF8(s[:maxReply], "")
	}
	return s
}

// enhancedIn reads "5.1.1".
func enhancedIn(s string) (smtp.EnhancedCode, bool) {
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(parts) != 3 {
		return smtp.EnhancedCode{}, false
	}
	var v [3]uint16
	for i, p := range parts {
		if n := strings.IndexAny(p, " ("); i == 2 && n > 0 { // "5.1.1 (bad destination)"
			p = p[:n]
		}
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n > 999 {
			return smtp.EnhancedCode{}, false
		}
		v[i] = uint16(n)
	}
	return smtp.EnhancedCode{Class: v[0], Subject: v[1], Detail: v[2]}, v[0] == 2 || v[0] == 4 || v[0] == 5
}
