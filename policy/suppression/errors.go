package suppression

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
)

// Counts tells whether a failure, at once or reported later, counts against the address it was sent to (R100): it does
// where the address, its mailbox or its domain is at fault. A refusal by policy (4), a message too large (8) and whatever we
// decided ourselves (10 to 12, and 9 where no receiver said so) say nothing about the address; nor does an answer whose rule
// says so.
func Counts(e *mail.Event) bool {
	if e.Kind != mail.EventFailed && e.Kind != mail.EventBounced || e.Own || e.NoSuppress || e.To == "" {
		return false
	}
	switch e.Status {
	case mail.StatusHostUnknown, mail.StatusUserUnknown, mail.StatusTimeout, mail.StatusOverCapacity, mail.StatusForward,
		mail.StatusServer, mail.StatusOther:
		return true
	case mail.StatusFormat:
		return !e.Reply.IsZero()
	}
	return false
}

// Learns tells whether the black box learns the address: a receiver said that it does not exist (R103). Refused ones
// are not learned.
func Learns(e *mail.Event) bool {
	return Counts(e) && e.Status == mail.StatusUserUnknown && e.Stage != mail.StageDNS
}

// Complains tells whether the recipient called the mail spam: the tenant's mail to it stops at once.
func Complains(e *mail.Event) bool { return e.Kind == mail.EventComplained && !e.Own && e.To != "" }

// Complaint is the reason of a block that a complaint has led to.
const Complaint = "complaint"

// Errors is what was counted against one address of a tenant, by status.
type Errors map[mail.Status]int

// maxErrors is where a count stays.
const maxErrors = 9999

// Add counts one failure.
func (c Errors) Add(s mail.Status) { c[s] = min(c[s]+1, maxErrors) }

// Total returns the sum.
func (c Errors) Total() (n int) {
	for _, v := range c {
		n += v
	}
	return n
}

// Excluded tells whether an address with these errors gets no mail; threshold is at least 1 (R100).
func (c Errors) Excluded(threshold int) bool { return c.Total() >= max(threshold, 1) }

// Stopped tells whether the delivery stop takes the address, and for which status: the first whose occurrences reach
// what reasons asks for (R101).
func (c Errors) Stopped(reasons map[int]int) (mail.Status, bool) {
	for _, s := range slices.Sorted(maps.Keys(c)) {
		if need := reasons[int(s)]; need > 0 && c[s] >= need {
			return s, true
		}
	}
	return 0, false
}

// stopped is the reason on the block list of an address that the delivery stop took.
const stopped = "delivery stop: status "

// StopReason says in words why the delivery stop took an address: for a status that occurred so many times.
func StopReason(s mail.Status, occurred int) string {
	return fmt.Sprintf("%s%d, occurred %d", stopped, s, occurred)
}

// ParseStopReason reads what StopReason wrote; both are 0 for every other reason.
func ParseStopReason(reason string) (s mail.Status, occurred int) {
	text, ok := strings.CutPrefix(reason, stopped)
	if !ok {
		return 0, 0
	}
	text, times, _ := strings.Cut(text, ", occurred ")
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, 0
	}
	occurred, _ = strconv.Atoi(times) // reasons of older releases do not tell
	return mail.Status(n), min(max(occurred, 0), maxErrors)
}

// String returns what ParseErrors reads: "2=1,5=3", by status.
func (c Errors) String() string {
	var b strings.Builder
	for _, s := range slices.Sorted(maps.Keys(c)) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d=%d", s, c[s])
	}
	return b.String()
}

// ParseErrors reads what String wrote. What it cannot read counts for nothing.
func ParseErrors(text string) Errors {
	c := Errors{}
	for part := range strings.SplitSeq(text, ",") {
		status, n, _ := strings.Cut(part, "=")
		s, err1 := strconv.ParseUint(status, 10, 8)
		v, err2 := strconv.ParseUint(n, 10, 16)
		if err1 == nil && err2 == nil && v > 0 {
			c[mail.Status(s)] = min(int(v), maxErrors)
		}
	}
	return c
}
