package bounce

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Parse reads rules data of the form of rules.yaml, in place of the built-in ones. The error names group, row and key.
// Own rows come before them, as New has it.
func Parse(src []byte, own ...Own) (*Rules, error) { return parse(src, own) }

// Finding is a row of rules data that does not do what its writer meant.
type Finding struct {
	Receiver string // "" = everybody
	Rule     string // "group/name"
	Text     string // what is wrong with it
	Meant    bool   // a built-in row that an operator's stands before: as it should be, if it was meant
}

// Lint finds rows that can never decide: behind an earlier row that matches all they match, with the same or another
// meaning, or not reached by their own example. Rows of everybody are looked at among themselves. An operator's row need
// not have an example.
func (r *Rules) Lint() []Finding {
	var out []Finding
	for _, receiver := range slices.Sorted(maps.Keys(r.byReceiver)) {
		rows := r.byReceiver[receiver]
		for i, one := range rows {
			found := func(by *rule, format string, args ...any) {
				out = append(out, Finding{receiver, one.advice.Rule, fmt.Sprintf(format, args...), by != nil && by.own && !one.own})
			}
			if j := slices.IndexFunc(rows[:i], func(earlier *rule) bool { return earlier.covers(one) }); j >= 0 {
				verb := "is unreachable behind"
				if one.covers(rows[j]) && (one.status != rows[j].status || one.scope != rows[j].scope || one.retry != rows[j].retry) {
					verb = "contradicts"
				}
				found(rows[j], "%s %s", verb, rows[j].advice.Rule)
				continue
			}
			if len(one.silence) > 0 || one.own && one.row.Example == "" {
				continue
			}
			f, err := one.example()
			switch {
			case err != nil:
				found(nil, "has no example that is a reply: %v", err)
			case !one.matches(&f):
				found(nil, "never matches: its own example does not")
			default:
				if first := r.match(receiver, &f); first != one {
					found(first, "never decides its own example: %s does", first.advice.Rule)
				}
			}
		}
	}
	return out
}

// example is the reply of a row's example as rules look at it; the address it is about is one that it names.
func (r *rule) example() (f facts, err error) {
	if f.reply, _, err = smtp.ParseReply([]byte(r.row.Example + "\r\n")); err != nil {
		return f, err
	}
	f.stage = mail.StageRcpt
	if r.row.At != "" {
		f.stage, _ = stage(r.row.At)
	}
	f.text = strings.ToLower(f.reply.Text)
	f.address = strings.Contains(f.text, "@")
	return f, err
}

// covers tells whether r matches whatever other does.
func (r *rule) covers(other *rule) bool {
	return coversAll(r.stages, other.stages, func(a, b mail.Stage) bool { return a == b }) &&
		coversAll(r.codes, other.codes, func(a, b int) bool { return a == b || a == b/100 }) &&
		coversAll(r.enhanced, other.enhanced, func(a, b enhancedRange) bool {
			return (a.class == 0 || a.class == b.class) && a.subject == b.subject && a.lo <= b.lo && b.hi <= a.hi
		}) &&
		coversAll(r.text, other.text, func(a, b string) bool { return strings.Contains(b, a) }) &&
		(r.address == 0 || r.address == other.address) && (len(r.silence) > 0) == (len(other.silence) > 0) &&
		coversAll(r.silence, other.silence, func(a, b mail.Silence) bool { return a == b })
}

// coversAll tells whether each of b is held by one of a; an empty list holds everything.
func coversAll[T any](a, b []T, holds func(a, b T) bool) bool {
	if len(a) == 0 {
		return true
	}
	return len(b) > 0 && !slices.ContainsFunc(b, func(one T) bool {
		return !slices.ContainsFunc(a, func(of T) bool { return holds(of, one) })
	})
}
