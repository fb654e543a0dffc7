package mail

import (
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// EventKind says what happened to a delivery.
type EventKind uint8

// The kinds of events. Every accepted delivery has one EventAccepted and ends with exactly one of EventDelivered,
// EventFailed, EventSuppressed or EventDiscarded; EventDeferred may stand between, any number of times. EventTakenOver
// tells that the delivery waits at another node from here on, under another Seq; the log of that node begins with it.
// EventHandedOver is its counterpart in the log of the node that gave the delivery up: nothing of it follows there.
// EventBounced tells that the receiver reported a failure after it had taken the mail: it stands behind EventDelivered,
// which stays true (requirement R65). EventComplained tells that its recipient called it spam (RFC 5965).
// EventReceived is of mail to a return address that tells of no failure of ours (requirement R71): an automatic answer, a
// notice of delay, a letter, or a report that fits no delivery. It changes nothing. Detail says what it was; From is
// the return address and To whom it is about where no delivery is known, "" where it does not say.
// EventBlocked and EventReleased are of no delivery, and have no message: the address To was put on, or taken off, its
// tenant's block list (requirements R101, R102). Status is the error that led to it and Attempt how often it occurred,
// both 0 where somebody did it; Due is since when it was blocked.
// EventLookup and EventConnection are of the network, not of a delivery, and are found by their kinds only. EventLookup is
// one question put to the DNS (requirement R69): Domain is the name, Reply.Text the status of the answer ("NXDOMAIN"), Detail
// the kind of record and the answer. EventConnection is one TCP connection to a receiver, or the attempt at one (R70):
// Taken is when it began and At when it ended, Reply the greeting, Stage and Detail what went wrong with it, Served
// what became of its mail. Tenant is whose mail it was for; "" where that was several tenants', or is not known.
// EventAlarm is found by its kind only, too: something that somebody should look at (see node/alarms.go). Rule is the alarm's
// name, Receiver what it is about, Detail one sentence; Due is when it ends by itself, zero once it has ended. It is no tenant's.
const (
	EventAccepted EventKind = iota + 1
	EventDelivered
	EventDeferred
	EventFailed
	EventSuppressed
	EventDiscarded
	EventTakenOver
	EventBounced
	EventComplained
	EventHandedOver
	EventBlocked
	EventReleased
	EventLookup
	EventConnection
	EventReceived
	EventAlarm

	EventKinds // one more than the last kind
)

var eventNames = [...]string{"", "accepted", "delivered", "deferred", "failed", "suppressed", "discarded", "taken over", "bounced", "complained", "handed over",
	"blocked", "released", "lookup", "connection", "received", "alarm"}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return ""
}

// IsFinal tells whether an event of this kind ends a delivery: nothing but what IsLate follows.
func (k EventKind) IsFinal() bool {
	switch k {
	case EventDelivered, EventFailed, EventSuppressed, EventDiscarded:
		return true
	}
	return false
}

// IsLate tells whether events of this kind stand behind the end of a delivery, or beside it, and leave it as it is.
func (k EventKind) IsLate() bool {
	return k == EventBounced || k == EventComplained || k == EventReceived
}

// Aside tells whether events of this kind are of no delivery and no address: whoever wants them asks for them.
func (k EventKind) Aside() bool {
	return k == EventLookup || k == EventConnection || k == EventAlarm
}

// MaxReportMail is how much is kept of a mail that tells of a failure, in octets.
const MaxReportMail = 32 << 10

// Served counts what became of the mail of one connection: final outcomes and temporary ones.
type Served struct{ Delivered, Deferred, Failed uint32 }

// Unverified is the Detail of a delivery to a receiver that drops mail in silence after its 250 (requirement N17).
const Unverified = "accepted_unverified"

// Event is one line of the truth about a delivery. Logs, counters, bounces, webhooks and suppression derive from it.
type Event struct {
	At       time.Time // millisecond resolution
	Kind     EventKind
	Message  MessageID
	Delivery Seq
	Tenant   string
	Group    string
	From     Address // envelope sender
	To       Address
	Domain   Domain
	Sequence uint64 // of the tenant's events in one node's log: 1, 2, 3 …; the log gives it, 0 = not from a log
	Attempt  uint16 // 1 for the first transaction; 0 on EventAccepted
	Own      bool   // of the engine's own mail (a bounce): not among the customer's counts

	Composition string
	User        string // who handed it over with AUTH or a key; "" = nobody in particular
	APIData     string // X-Api-Data (requirement R22)
	Cleaning    bool

	// Of EventAccepted only.
	Client     netip.Addr // the relaying server
	HeaderFrom string
	HeaderID   string // Message-ID header, with angle brackets
	Subject    string // decoded; "" where the composition does not store it (requirement R112)
	Size       int
	Due        time.Time // when it is to be sent where that is later: a reservation, or the end of quiet hours; else zero

	// Of every other kind.
	Taken      time.Time // when the message was accepted; zero = not known
	Receiver   string    // policy group that answered
	Stage      Stage
	Status     Status
	InDoubt    bool
	NoSuppress bool // the answer says nothing about the address (see Advice)
	Reply      smtp.Reply
	Detail     string
	Source     netip.Addr
	Remote     netip.AddrPort
	MX         string
	TLS        bool
	Next       time.Time // of EventDeferred: when the next attempt is due
	Scope      Scope     // whom the answer concerned …
	Rule       string    // … as this rule about answers says; "" = none knew it
	Action     Action    // what Rule said to do …
	For        time.Duration
	Served     Served // of EventConnection only
	Mail       string // of what IsLate: the mail that told of it, its first MaxReportMail octets (R71)
}

// Judge notes what rules about answers made of o. An answer that concerns somebody else says nothing about the address,
// whether a rule knew it or not.
func (e *Event) Judge(o *Outcome) {
	e.Status, e.Scope = o.Status, o.Scope
	e.NoSuppress = o.Stage >= StageMail && !o.Reply.IsZero() && o.Scope != ScopeRecipient
	if a := o.Advice; a != nil {
		e.NoSuppress, e.Rule, e.Action, e.For = e.NoSuppress || a.NoSuppress, a.Rule, a.Action, a.For
	}
}
