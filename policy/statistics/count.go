package statistics

import "github.com/ekiden-mta/ekiden/mail"

// Row names whose mail is counted together.
type Row struct {
	Tenant, Composition, User string
	From                      mail.Domain // of the envelope sender; "" = the null sender
	Carrier                   string
	Cleaning                  bool
}

// Result is what a day knows of a Row. The first five are of the mail accepted on that day, whenever it ends: queued =
// succeeded + failed + blocked as soon as nothing of it waits (requirement R81). The last two are of what ended on that
// day (requirement R83).
type Result struct {
	Queued    uint64
	Succeeded uint64
	Failed    uint64
	Blocked   uint64 // on a list of the tenant's own
	Bounced   uint64 // reported as failed after its success (requirement R65); in Succeeded as well
	Success   uint64
	NG        uint64 // not reachable, or refused (requirements D3)
}

// Add adds o.
func (r *Result) Add(o Result) {
	r.Queued, r.Succeeded, r.Failed, r.Blocked = r.Queued+o.Queued, r.Succeeded+o.Succeeded, r.Failed+o.Failed, r.Blocked+o.Blocked
	r.Bounced, r.Success, r.NG = r.Bounced+o.Bounced, r.Success+o.Success, r.NG+o.NG
}

// ErrorsOf names errors that are counted together (requirement R97).
type ErrorsOf struct {
	Tenant, User string
	Domain       mail.Domain // of the recipient
	Status       mail.Status
}

// Count tells what an event adds to the day on which its message was accepted, nothing where it does not count, and to its
// own day. carrier is the classic queue of its domain (R63).
func Count(e *mail.Event, carrier string) (accepted, ended Result) {
	if e.Own {
		return accepted, ended
	}
	switch e.Kind {
	case mail.EventAccepted:
		accepted.Queued = 1
	case mail.EventDelivered:
		accepted.Succeeded, ended.Success = 1, 1
	case mail.EventFailed, mail.EventDiscarded:
		accepted.Failed = 1
	case mail.EventSuppressed:
		if accepted.Blocked = 1; e.Status == mail.StatusUserUnknown { // the black box answers as if the address did not exist (R103)
			accepted.Blocked, accepted.Failed = 0, 1
		}
	case mail.EventBounced:
		accepted.Bounced = 1
	}
	if isNG(e, carrier) {
		ended.NG = 1
	}
	return accepted, ended
}

// pc is the carrier of everybody who is none.
const pc = "pc"

// isNG tells whether the customer's results count a delivery as "NG/reject" (requirements D3): it ended in a failure of
// address or receiver, at once or reported later. A full mailbox at a carrier is none, nor is what the customer's own
// lists or orders ended.
func isNG(e *mail.Event, carrier string) bool {
	switch e.Kind {
	case mail.EventSuppressed:
		return e.Status == mail.StatusUserUnknown
	case mail.EventFailed, mail.EventBounced:
		return e.Status != mail.StatusInterrupted && (e.Status != mail.StatusOverCapacity || carrier == pc || carrier == "")
	}
	return false
}

// IsError tells whether an event is a line of the error log, whose statuses are counted by domain (requirement R97).
func IsError(e *mail.Event) bool {
	return !e.Own && (e.Kind == mail.EventFailed || e.Kind == mail.EventSuppressed || e.Kind == mail.EventBounced)
}
