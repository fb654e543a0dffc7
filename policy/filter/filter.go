// Package filter matches mail against the conditions that operators set: the name of a header and a pattern for its
// whole value. What matches gets a priority, keeps quiet hours, is forwarded, or belongs to a list to leave; speed filters look at the address or at
// the receiver's hosts, and say how fast what matches is sent.
//
// It is pure and must never change a message or decide when one goes: it says which rules apply. Read Set first, then
// Values, which is one message seen through a Set, then Traffic.
package filter

import (
	"regexp"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/directive"
)

// Condition is a header and a pattern that has to match its whole value (requirements R113, R114). The header "To", in
// any case, means the envelope recipient.
type Condition struct {
	Header  string
	Pattern *regexp.Regexp // anchored at both ends
}

// Set is the filters of one server composition, ready to match. It is built by the Add methods and not changed once
// it is in use; the nil Set has no filters.
type Set struct {
	headers  []string // distinct names that conditions look at, but for "To"
	priority []priority
	quiet    []quiet
	forward  []forward
	lists    []list
}

// condition is a Condition whose header has a place in Set.headers.
type condition struct {
	slot    int // recipient, or a place in Set.headers
	pattern *regexp.Regexp
}

// recipient is the slot of the envelope recipient.
const recipient = -1

type priority struct {
	condition
	priority uint8
}

type quiet struct {
	apply, except []condition
	hours         string
}

type forward struct {
	condition
	to   mail.Address
	copy bool
}

type list struct {
	condition
	List
}

// List is a mailing list that recipients can leave (requirement R104). It never changes once it is in use.
type List struct {
	Name     string
	URL      string // of the host that links lead to, "https://…"; "" = the node's
	OneClick bool   // with RFC 8058
}

// AddPriority gives what matches a priority (requirement R35); of several the first counts (E-27).
func (s *Set) AddPriority(c Condition, p uint8) {
	s.priority = append(s.priority, priority{s.condition(c), p})
}

// AddQuiet keeps what matches any of apply and none of except from being sent in hours, a text of policy/schedule
// (requirement R36); of several filters each that matches counts (E-27).
func (s *Set) AddQuiet(apply, except []Condition, hours string) {
	q := quiet{hours: hours}
	for _, c := range apply {
		q.apply = append(q.apply, s.condition(c))
	}
	for _, c := range except {
		q.except = append(q.except, s.condition(c))
	}
	s.quiet = append(s.quiet, q)
}

// AddForward sends a copy of what matches to an address, or sends it there instead (requirement R116). All copies are
// made, and the first that replaces counts (E-27).
func (s *Set) AddForward(c Condition, to mail.Address, copies bool) {
	s.forward = append(s.forward, forward{s.condition(c), to, copies})
}

// AddList makes what matches mail of a list, which its recipients can leave (requirement R104); of several the first counts.
func (s *Set) AddList(c Condition, l List) { s.lists = append(s.lists, list{s.condition(c), l}) }

func (s *Set) condition(c Condition) condition {
	if strings.EqualFold(c.Header, "To") {
		return condition{recipient, c.Pattern}
	}
	for i, h := range s.headers {
		if strings.EqualFold(h, c.Header) {
			return condition{i, c.Pattern}
		}
	}
	s.headers = append(s.headers, c.Header)
	return condition{len(s.headers) - 1, c.Pattern}
}

// Values is what the filters of a Set see of one message.
type Values struct {
	set     *Set
	headers []value
}

type value struct {
	text   string
	absent bool
}

// Read takes from the header section what the filters look at, each header once. Of a header that stands there twice
// the first counts (E-28).
func (s *Set) Read(header []byte) Values {
	v := Values{set: s}
	if s == nil || len(s.headers) == 0 {
		return v
	}
	v.headers = make([]value, len(s.headers))
	for i, name := range s.headers {
		raw := directive.Find(header, name)
		v.headers[i] = value{text: directive.Decoded(raw), absent: raw == nil}
	}
	return v
}

func (v *Values) matches(c *condition, to mail.Address) bool {
	if c.slot == recipient {
		return c.pattern.MatchString(string(to))
	}
	h := &v.headers[c.slot]
	return !h.absent && c.pattern.MatchString(h.text)
}

func (v *Values) any(cs []condition, to mail.Address) bool {
	for i := range cs {
		if v.matches(&cs[i], to) {
			return true
		}
	}
	return false
}

// Priority is that of mail to an address; 0 where no filter matches.
func (v *Values) Priority(to mail.Address) uint8 {
	if v.set == nil {
		return 0
	}
	for i := range v.set.priority {
		if f := &v.set.priority[i]; v.matches(&f.condition, to) {
			return f.priority
		}
	}
	return 0
}

// Quiet is the hours in which mail to an address must not be sent, as a text of policy/schedule; "" = none.
func (v *Values) Quiet(to mail.Address) string {
	if v.set == nil {
		return ""
	}
	var hours string
	for i := range v.set.quiet {
		q := &v.set.quiet[i]
		if !v.any(q.apply, to) || v.any(q.except, to) {
			continue
		}
		if hours != "" {
			hours += ","
		}
		hours += q.hours
	}
	return hours
}

// List is the list that mail to an address belongs to; nil = none.
func (v *Values) List(to mail.Address) *List {
	if v.set == nil {
		return nil
	}
	for i := range v.set.lists {
		if f := &v.set.lists[i]; v.matches(&f.condition, to) {
			return &f.List
		}
	}
	return nil
}

// Forwards tells whether there is anything to forward at all.
func (v *Values) Forwards() bool { return v.set != nil && len(v.set.forward) > 0 }

// Forward tells who gets mail to an address: that address or the one that replaces it, and whoever gets a copy. What
// is forwarded is not looked at again, so that no two filters make a loop.
func (v *Values) Forward(to mail.Address) (instead mail.Address, copies []mail.Address) {
	instead = to
	replaced := false
	for i := range v.set.forward {
		f := &v.set.forward[i]
		switch {
		case !v.matches(&f.condition, to):
		case f.copy:
			copies = append(copies, f.to)
		case !replaced:
			instead, replaced = f.to, true
		}
	}
	return instead, copies
}
