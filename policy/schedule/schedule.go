// Package schedule decides when a delivery is due: the retry ladder, the lifetime, and the bounds in which a message
// may choose its own.
//
// It is pure: time and chance come as arguments. It must never know how a message is stored or who tries it.
package schedule

import (
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// spread is how far a retry strays beyond its distance, so that what failed together does not come back together.
// Never before it: a greylisting receiver that wants three minutes has had them after three distances of one (R47).
// And little: whoever looks once per distance meets every attempt, so that half an hour of minutes is thirty (R46).
const spread = 0.01

// Next returns when d is tried again after the deferral o at now: RetryEvery later and up to 1 % more, as jitter in
// [0,1) says. Never beyond d's end: where no further attempt fits into the lifetime, ok is false and the
// delivery has failed with status 3 (R46). A final outcome has no next attempt either.
func Next(now time.Time, d *mail.Delivery, o mail.Outcome, jitter float64) (due time.Time, ok bool) {
	if o.Result == mail.Delivered || o.Result == mail.Failed {
		return time.Time{}, false
	}
	every := max(d.RetryEvery, time.Second, wish(now, d, &o))
	due = now.Add(every + time.Duration(float64(every)*spread*jitter)).Truncate(time.Millisecond)
	if !d.Expires.IsZero() && due.After(d.Expires) {
		return time.Time{}, false
	}
	return due, true
}

// soon is how many retries of mail that is greylisted come at the delivery's own distance: a receiver that says so and wants
// three minutes takes the fourth attempt (R47), one that wants five the sixth. Who wants more is asked less often.
const soon = 5

// wish is how long the receiver wants d kept, as its rule has it: where it greylists, or has had enough for this recipient.
// It never takes more than half of what is left of d's lifetime, or there would be no attempt any more.
func wish(now time.Time, d *mail.Delivery, o *mail.Outcome) time.Duration {
	a := o.Advice
	if a == nil || o.Scope != mail.ScopeRecipient || a.Action != mail.ActSameSource && a.Action != mail.ActSuspend ||
		a.Action == mail.ActSameSource && d.Attempts < soon {
		return 0
	}
	if d.Expires.IsZero() {
		return a.For
	}
	return min(a.For, d.Expires.Sub(now)/2)
}

// Expired tells whether d's lifetime is over at now: it must not be tried any more.
func Expired(now time.Time, d *mail.Delivery) bool {
	return !d.Expires.IsZero() && now.After(d.Expires)
}

// Expires returns the end of a lifetime that begins when the message was accepted, or at its reservation where that
// is later, and stands still in quiet hours (E-26). A zero reservation is none. Second resolution, rounded up.
func Expires(accepted, reservation time.Time, lifetime time.Duration, quiet Hours) time.Time {
	if reservation.After(accepted) {
		accepted = reservation
	}
	return quiet.After(accepted, lifetime).Add(time.Second - 1).Truncate(time.Second)
}
