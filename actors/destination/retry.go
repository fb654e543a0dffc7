package destination

import (
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/schedule"
)

// nextDue is when a deferred delivery is looked at again: when policy/schedule says, or, where no further attempt fits
// into its lifetime, at the end of that, where it fails (R46-R48, E-26). r is in [0,1).
func nextDue(now time.Time, d *mail.Delivery, o mail.Outcome, r float64) time.Time {
	if due, ok := schedule.Next(now, d, o, r); ok {
		return due
	}
	return d.Expires
}

// jitter spreads t by up to 1 %, never shorter: mail that waits for its receiver is due as often as its retry says (R46).
func jitter(t time.Duration, r float64) time.Duration {
	return time.Duration(float64(t) * (1 + 0.01*r))
}
