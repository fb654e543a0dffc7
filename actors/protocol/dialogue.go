package protocol

import (
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Reason says what binds a destination that does not send.
type Reason uint8

// The reasons, in the order an operator would look for them.
const (
	ReasonNone      Reason = iota
	ReasonSlots            // every connection the limits allow is in use
	ReasonRate             // the pace of messages
	ReasonCap              // a speed cap
	ReasonBlocked          // the receiver blocks this source
	ReasonSuspended        // an operator said so
	ReasonConnect          // the receiver's hosts do not answer as they should
	ReasonDNS              // the domain cannot be resolved at the moment
	ReasonStorage          // our own store fails
	ReasonStopping         // the node is on its way down
	ReasonLease            // it is not sure that this node may still send
	ReasonQuiet            // quiet hours: nothing may be sent before they end
	ReasonWarmup           // a new source has sent what its plan allows for now
	ReasonDailyCap         // messages of the day are used up
	ReasonHourlyCap        // messages of the hour are used up
	ReasonTopOfHour        // everybody sends at the full hour; we come a little later
	ReasonConnects         // too many connections were begun lately
	ReasonInterval         // the distance from one message to the next on each connection
	ReasonElsewhere        // the source is another node's
	Reasons                // how many there are
)

var reasonNames = [...]string{"", "slots", "rate", "cap", "blocked", "suspended", "connect", "dns", "storage", "stopping", "lease", "quiet", "warmup",
	"daily_cap", "hourly_cap", "top_of_hour", "connection_rate", "interval", "elsewhere"}

func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return ""
}

// Ask asks a source for sessions on an outbox. Destination -> source, when work waits that nobody carries. Answered by
// Join on the outbox once for every session granted, or by Refused and Withdraw; waits in line until Deadline.
type Ask struct {
	Outbox   Outbox
	Shelf    int             // which of the outbox's pools
	Want     int             // sessions, at least 1
	Route    mail.Route      // where to connect
	Key      string          // Route.Key()
	Limits   *shaping.Limits // of the receiver; immutable
	Deadline time.Time       // after it both sides forget the ask
	Tenant   string          // of the head, for fairness
	Ahead    bool            // it goes before its tenant's other asks: see destination.ahead
	Rides    bool            // nobody works for it and it has little: it may wait a moment for a session that is at work
}

// Refused says that a source will not serve before Until. Source -> destination, instead of a grant.
type Refused struct {
	Source netip.Addr
	Lane   string // which kind of mail it is about, see shaping.Kind
	Reason Reason
	Until  time.Time
}

// Troubled says that a session ended at the level of its connection before it carried anything. Source -> destination,
// so that it tries another source or backs off.
type Troubled struct {
	Source netip.Addr
	Shelf  int
	Report Report
}

// Reported says that a session has ended. Session -> source, exactly once for each session started.
type Reported struct {
	Session uint64
	Report  Report
}

// Arrived says that the outbox wants its destination's attention: work that nobody carries, more work than its
// sessions can carry, or an earlier due time than the alarm set. Outbox -> destination, at most one at a time.
type Arrived struct{}

// Resolved answers the destination's wish for a route. Resolver's goroutine -> destination.
type Resolved struct {
	Route   mail.Route
	Key     string
	Limits  *shaping.Limits
	Outcome mail.Outcome // Result 0 = resolved
}

// Loaded says that a scan of the disk was merged into the outbox. Loader's goroutine -> destination.
type Loaded struct{ Err error }

// Changed says that suspensions, gates, rules or sources are not what they were. Registry -> destination.
type Changed struct{}

// Relimited says that the rules of a receiver are not what they were, without asking for anything: connections that have
// old figures may be of use to nobody who asks. Destination -> source.
type Relimited struct {
	Limits *shaping.Limits // immutable
}

// Reshared says that a node may have more or less than before of what it shares with others. Node -> source.
type Reshared struct{}

// Ticked says that an alarm went off. Clock -> destination or source.
type Ticked struct{}

// Looked says that it is time to look at what rides behind sessions at work. Clock -> source.
type Looked struct{}

// Restarted is the first message a new incarnation of a failed actor gives itself.
type Restarted struct{}
