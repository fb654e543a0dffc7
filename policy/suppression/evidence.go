package suppression

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Evidence tells which failure was counted last against an address: when, with which status, of which delivery, and what
// its receiver said. Two failures never read alike.
func Evidence(e *mail.Event) string {
	return fmt.Sprintf("%s status %d, message %s, delivery %d: %s", e.At.UTC().Format(time.RFC3339), e.Status, e.Message, e.Delivery, e.Reply)
}

// ParseEvidence reads time and status out of what Evidence wrote; both are zero for what older releases wrote.
func ParseEvidence(s string) (at time.Time, status mail.Status) {
	when, rest, _ := strings.Cut(s, " status ")
	number, _, _ := strings.Cut(rest, ",")
	at, err1 := time.Parse(time.RFC3339, when)
	n, err2 := strconv.ParseUint(number, 10, 8)
	if err1 != nil || err2 != nil {
		return time.Time{}, 0
	}
	return at, mail.Status(n)
}
