package smtpc

import (
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Work is what a session carries. Its methods are called by one goroutine at a time: the session's own, except that
// Clear and Sent may be called by the goroutine that reports an earlier outcome durable, while the session's goroutine
// waits for just that.
type Work interface {
	// Next returns the next delivery, waiting for one at most wait (0 = not at all); nil when there is none.
	Next(wait time.Duration) *mail.Job
	// Ready is asked once the envelope of j is accepted, before its body, by the session's own goroutine; it may wait for the
	// disk. False closes the connection; Return follows.
	Ready(j *mail.Job) bool
	// Clear is asked immediately before the final dot of j (rule D3). False closes the connection without the dot;
	// Return follows. It must not block.
	Clear(j *mail.Job) bool
	// Sent is told that the final dot of j, which was cleared, is out. It is not called where the connection broke first:
	// Settle or Return tells then. It must not block.
	Sent(j *mail.Job)
	// Settle takes the outcome of j. durable is called exactly once, from any goroutine, when the outcome cannot be
	// forgotten any more, or with an error when the store failed.
	Settle(j *mail.Job, o mail.Outcome, durable func(error))
	// Return gives j back: its transaction was not, or not provably, begun. It simply stays queued.
	Return(j *mail.Job)
}

// Limits bound what one session carries.
type Limits struct {
	Messages int           // transactions on this connection; 0 = no limit
	Time     time.Duration // how long after Carry's beginning a transaction may begin; 0 = no limit
	Interval time.Duration // from the begin of one message to the begin of the next
	Linger   time.Duration // how long an idle connection waits for the next message
	Groups   bool          // body and next envelope may share a write (rule D4); false = two round trips per message
}

// Result is why a session ended.
type Result struct {
	Outcome  mail.Outcome // zero when it ended in peace; StageNone means the trouble was ours, not the receiver's
	Messages int          // deliveries that got an outcome
	Torn     bool         // the connection was lost inside a pipelined group: use no groups with this host for a day
}
