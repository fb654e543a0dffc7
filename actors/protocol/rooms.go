package protocol

import (
	"context"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Trip is what a session must know to connect.
type Trip struct {
	Source        netip.Addr    // invalid: the system chooses
	Route         mail.Route    // hosts to try in order
	Receiver      string        // policy group, for classification and logs
	PerConnection int           // messages on this connection; 0 = no limit
	SessionTime   time.Duration // how long it begins messages; 0 = no limit
	Interval      time.Duration
	TLS           string      // "opportunistic", "required" or "none"
	Domain        mail.Domain // of the mail it is made for, for the log
}

// Work is what a session carries. It is called from the session's own goroutine only.
type Work interface {
	// Next gives the next delivery, waiting at most wait for it; nil = nothing. With wait 0 nil means "not now", else
	// it means that the session should end.
	Next(wait time.Duration) *mail.Job
	// Ready is asked once the envelope is accepted, before the body; it may wait for the disk. false = close, then Return.
	Ready(*mail.Job) bool
	// Clear is asked immediately before a final dot; false = close without the dot, then Return.
	Clear(*mail.Job) bool
	// Sent is told that the final dot is out.
	Sent(*mail.Job)
	// Settle hands in an outcome. The func is called once it is durable, from another goroutine, and must not block;
	// an error means that the store failed. The job must not be touched after that.
	Settle(*mail.Job, mail.Outcome, func(error))
	// Return gives back what was not, or not provably, begun.
	Return(*mail.Job)
}

// Report says why a session ended.
type Report struct {
	Connected bool         // EHLO was answered with 2xx
	Outcome   mail.Outcome // zero when it ended in peace
	Messages  int          // transactions that got an outcome
}

// Courier runs one session from connect to QUIT.
type Courier interface {
	Run(ctx context.Context, t Trip, w Work) Report
}

// Resolver finds the way to a domain. Outcome.Result 0 = found, Deferred = not now, Failed = never.
type Resolver interface {
	Route(ctx context.Context, d mail.Domain) (mail.Route, mail.Outcome)
}

// Cursor is a position in a destination's queue on disk, known only to the store that made it. nil = the beginning.
type Cursor any

// Queue is the store. Settle must not block for the disk, and calls done from a goroutine of its own. A delivery is
// visible to Scan no earlier than its registry learns of it can be expected, but may well be earlier.
type Queue interface {
	// Scan lists at most n deliveries of d that are due by until, from c on, in the order priority (larger first), due,
	// Seq. next goes on from there: what is put or moved to before it does not come up any more. more tells that n was
	// reached; nextDue is the earliest due time after until, zero where there is none, known only where more is false.
	Scan(d mail.Destination, c Cursor, until time.Time, n int) (ds []mail.Delivery, next Cursor, more bool, nextDue time.Time, err error)
	// ScanAt is Scan for what is due at that very moment, without a look at what else waits.
	ScanAt(d mail.Destination, c Cursor, due time.Time, n int) (ds []mail.Delivery, next Cursor, more bool, err error)
	// Rewind gives the cursor that lies before d and not behind c. nil is always a right answer, and a slow one.
	Rewind(c Cursor, d *mail.Delivery) Cursor
	Body(id mail.MessageID) ([]byte, error)
	Settle(s mail.Settlement, done func(error))
	// Mark writes d anew where it is queued; only Dotted differs from what is there. It is like Settle otherwise, and no
	// error where d is not queued any more.
	Mark(d *mail.Delivery, done func(error))
}
