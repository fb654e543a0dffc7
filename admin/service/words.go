package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// StatusWord is what the log calls a kind of event (requirement R64).
func StatusWord(k mail.EventKind) string {
	switch k {
	case mail.EventAccepted:
		return "queued"
	case mail.EventDelivered:
		return "succeeded"
	}
	return k.String()
}

// ParseStatus reads a status word; the names of the events count too. "" is every kind.
func ParseStatus(s string) (mail.EventKind, error) {
	if s == "" {
		return 0, nil
	}
	words := make([]string, 0, mail.EventKinds)
	for k := mail.EventAccepted; k < mail.EventKinds; k++ {
		if s == StatusWord(k) || s == k.String() {
			return k, nil
		}
		words = append(words, StatusWord(k))
	}
	return 0, fmt.Errorf("%w: %q is no status; allowed: %s", ErrInvalid, s, strings.Join(words, ", "))
}

// ParseStatuses reads status words separated by commas, in spaces or not; "" is every kind, as none.
func ParseStatuses(s string) (out []mail.EventKind, err error) {
	if s == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(s, ",") {
		k, err := ParseStatus(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		if k == 0 {
			return nil, fmt.Errorf("%w: a status is missing in %q", ErrInvalid, s)
		}
		if !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out, nil
}

// Statuses writes what ParseStatuses reads.
func Statuses(kinds []mail.EventKind) string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = StatusWord(k)
	}
	return strings.Join(words, ",")
}

// ParseMessage reads the id of a message that events are looked for by. One of zeros is no message's: it would not narrow.
func ParseMessage(s string) (mail.MessageID, error) {
	id, err := mail.ParseMessageID(s)
	if err == nil && id.IsZero() {
		err = fmt.Errorf("%q is no message's id", s)
	}
	if err != nil {
		return id, fmt.Errorf("%w: message: %w", ErrInvalid, err)
	}
	return id, nil
}

// ParseClasses reads error statuses (requirement R96), separated by commas; "" is all.
func ParseClasses(s string) (out []mail.Status, err error) {
	for word := range strings.SplitSeq(s, ",") {
		if word == "" {
			continue
		}
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || n > int(mail.StatusInterrupted) && n != int(mail.StatusOther) {
			return nil, fmt.Errorf("%w: %q is no error status; allowed: 0 to 12, 99", ErrInvalid, word)
		}
		out = append(out, mail.Status(n))
	}
	return out, nil
}

// ParseUnit checks the unit of a counter query; "" is the total.
func ParseUnit(s string) (string, error) {
	switch s {
	case "":
		return UnitTotal, nil
	case UnitTotal, UnitHour, UnitFive:
		return s, nil
	}
	return "", fmt.Errorf("%w: %q is no unit; allowed: total, hour, 5min", ErrInvalid, s)
}

// maxName bounds names that are only looked up, in octets.
const maxName = 255

// ParseSubject reads whom a suspension concerns into its normal form.
func ParseSubject(kind, value string) (Subject, error) {
	switch kind {
	case SubjectDomain:
		d, err := mail.ParseDomain(value)
		if err != nil {
			return Subject{}, fmt.Errorf("%w: %q is no domain", ErrInvalid, value)
		}
		return Subject{Kind: kind, Value: string(d)}, nil
	case SubjectSource:
		a, err := netip.ParseAddr(value)
		if err != nil {
			return Subject{}, fmt.Errorf("%w: %q is no IP address", ErrInvalid, value)
		}
		return Subject{Kind: kind, Value: a.Unmap().String()}, nil
	case SubjectReceiver, SubjectTenant, SubjectGroup, SubjectRule:
		most := maxName
		if kind == SubjectRule { // made of several names
			most = 4 * maxName
		}
		if value == "" || len(value) > most {
			return Subject{}, fmt.Errorf("%w: a %s has a name of 1 to %d octets", ErrInvalid, kind, most)
		}
		return Subject{Kind: kind, Value: value}, nil
	}
	return Subject{}, fmt.Errorf("%w: one of domain, receiver, source, tenant, group, rule is needed", ErrInvalid)
}

// Narrow is s for the mail of a tenant and a delivery group only; "" does not narrow.
func (s Subject) Narrow(tenant, group string) (Subject, error) {
	switch {
	case tenant == "" && group == "":
		return s, nil
	case s.Kind == SubjectRule:
		return s, fmt.Errorf("%w: a rule's suspension is named as a whole", ErrInvalid)
	case s.Kind == SubjectTenant && tenant != "", s.Kind == SubjectGroup && group != "":
		return s, fmt.Errorf("%w: %s is named twice", ErrInvalid, s.Kind)
	case len(tenant) > maxName || len(group) > maxName:
		return s, fmt.Errorf("%w: tenant and group have names of at most %d octets", ErrInvalid, maxName)
	case s.Kind == SubjectTenant: // one form for a tenant's group
		return Subject{Kind: SubjectGroup, Value: group, Tenant: s.Value}, nil
	}
	s.Tenant, s.Group = tenant, group
	return s, nil
}

// ParseInstant reads a moment: UNIX seconds, RFC 3339, or a duration back from now ("90m"). "" is the zero time.
func ParseInstant(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 && n < 1<<38 {
		return time.Unix(n, 0), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%w: %q is no time; allowed: UNIX seconds, RFC 3339, or a duration back from now such as 90m", ErrInvalid, s)
}

// MaxCursor bounds the position in a list that a caller gives back, in octets. One of a search over all nodes holds a
// position per node.
const MaxCursor = 8192

// MaxReason bounds the operator's words about what is done, in octets.
const MaxReason = 500

// ParsePlace checks where an address is to stand. "" for the list is the block list.
func ParsePlace(list, tenant, filter string) (Place, error) {
	p := Place{List: list, Tenant: tenant, Filter: filter}
	if p.List == "" {
		p.List = BlockList
	}
	switch {
	case p.List != BlackBox && p.List != BlockList && p.List != Unsubscribe:
		return p, fmt.Errorf("%w: list: %.80q is no list; allowed: blackbox, blocklist, unsubscribe", ErrInvalid, list)
	case p.List == BlackBox && tenant != "":
		return p, fmt.Errorf("%w: tenant: the black box is of all tenants; a tenant has a blocklist", ErrInvalid)
	case p.List != BlackBox && tenant == "":
		return p, fmt.Errorf("%w: tenant: the %s is of one tenant: its name is needed", ErrInvalid, p.List)
	case filter != "" && p.List != Unsubscribe:
		return p, fmt.Errorf("%w: filter: a filter belongs to the list unsubscribe only", ErrInvalid)
	case len(tenant) > maxName || len(filter) > maxName:
		return p, fmt.Errorf("%w: tenant and filter have names of at most %d octets", ErrInvalid, maxName)
	}
	return p, nil
}

// CheckSuppression reports what keeps s from being listed at now; its place must come from ParsePlace.
func CheckSuppression(s Suppression, now time.Time) error {
	if err := s.Address.Check(); err != nil || s.Address.IsNull() {
		return fmt.Errorf("%w: address: %.80q is no mail address", ErrInvalid, s.Address)
	}
	if len(s.Reason) > MaxReason {
		return fmt.Errorf("%w: reason: longer than %d octets", ErrInvalid, MaxReason)
	}
	if !s.Expires.IsZero() && !s.Expires.After(now) {
		return fmt.Errorf("%w: expires: %s has passed already", ErrInvalid, s.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}
