// Package service names what the operator's front asks of a node: small interfaces that package node implements, and
// the values that pass through them.
//
// It must never hold behaviour: the rules are in policy, the facts in storage and actors, the wire forms in admin and
// admin/rpc. Read Services first.
package service

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Errors that a service may return (wrapped); the fronts translate them. Any other error is told to the caller as
// trouble of the node, without its text where the caller is not the operator.
var (
	ErrSealed    = errors.New("the node is sealed: it has no keys yet")
	ErrUnready   = errors.New("the node is not ready") // it has its keys, and not yet, or no more, what the answer needs
	ErrNotSealed = errors.New("the node is not sealed")
	ErrWrongCode = errors.New("the recovery code is wrong")
	ErrTooSoon   = errors.New("too many attempts: wait before the next one")
	ErrNotFound  = errors.New("there is no such thing")
	ErrInvalid   = errors.New("the request makes no sense")
	ErrNotYet    = errors.New("not in this release")
	ErrConflict  = errors.New("somebody else changed it meanwhile")
	ErrNoQuorum  = errors.New("no majority of the members can be reached")
	ErrRefused   = errors.New("refused") // the request makes sense, but not as things are
)

// Services is everything the fronts need. A nil member is answered as not in this release.
//
// Numbers, Statistics, Log, Groups, Gates and Members may answer for several nodes. Where some of them did not answer, the answer
// stands and the error is a *Partial that names them; any other error comes without an answer.
type Services struct {
	Node         Node
	Numbers      Numbers
	Statistics   Statistics
	Log          Log
	Groups       Groups
	Gates        Gates
	Settings     Settings
	Suppressions Suppressions
	// DeliveryStops tells of what puts addresses on block lists by itself.
	DeliveryStops DeliveryStops
	Members       Members
	Keys          Keys
	Audit         Audit
	Jobs          Jobs
	Reservations  Reservations
	Probes        Probes
	Replies       Replies
	Users         Users
	Tenants       Tenants // nil: whatever name is given is taken
	Tokens        Tokens
	Links         Links
}

// Node is the node as a whole.
type Node interface {
	Status() Status
	// Conservation tells whether all that was promised is in the books, at this moment.
	Conservation() Conservation
	// Unseal gives the node its keys. ErrWrongCode, ErrTooSoon or ErrNotSealed where it does not.
	Unseal(ctx context.Context, code string) error
	// Drain stops taking mail; what is queued goes on being delivered. ErrNotYet where the node cannot.
	Drain(ctx context.Context) error
}

// Numbers are the counters and what is going on now.
type Numbers interface {
	// Counters returns one bucket of all time, 6 of an hour or 12 of five minutes, oldest first (requirement R61).
	Counters(ctx context.Context, q CounterQuery) ([]CounterBucket, error)
	// Queues returns the twelve rows of requirement R63 in their order; tenant "" = of all. Warming is nobody's in particular,
	// and 0 where a tenant is named.
	Queues(ctx context.Context, tenant string) ([]Queue, error)
	// Receivers returns what every source does at every receiver it knows at the moment.
	Receivers(ctx context.Context) ([]Receiver, error)
}

// Log is the event log.
type Log interface {
	// Search calls yield for each event that matches, oldest first, until yield returns false. Positions are opaque
	// to the caller, never empty, and stay valid while the event is kept.
	Search(ctx context.Context, q EventQuery, yield func(e mail.Event, position string) bool) error
	// Trace returns the life of a message or of everything sent to an address, and what still waits of it.
	Trace(ctx context.Context, q TraceQuery) (Trace, error)
}

// Groups are the delivery groups in use.
type Groups interface {
	Groups(ctx context.Context) ([]Group, error)
	// Stop closes the group on every node and returns when each has confirmed, or can send no more, or has been waited
	// for long enough. It needs no majority, and may be repeated.
	Stop(ctx context.Context, s GroupStop) (GroupStanding, error)
	// Resume lets a stopped group go on once a majority knows, else ErrNoQuorum; ErrNotFound where it was never stopped.
	Resume(ctx context.Context, tenant, group, author string) error
	// Discard ends the queued mail of a stopped group as interrupted and tells how many deliveries; ErrRefused where the
	// group is not stopped.
	Discard(ctx context.Context, tenant, group, author string) (int, error)
}

// Gates keep mail from going where it should not for now.
type Gates interface {
	Suspend(ctx context.Context, s Suspension) error
	// Unsuspend returns ErrNotFound where nothing is suspended.
	Unsuspend(ctx context.Context, s Subject, author string) error
	Suspensions(ctx context.Context) ([]Suspension, error)
}

// Settings is the book of settings in force.
type Settings interface {
	// Settings returns it as YAML, and its revision, which grows with every change.
	Settings(ctx context.Context) (yaml []byte, revision uint64, err error)
	// Apply puts other settings in their place on every node. ErrConflict where Base is not the revision in force, or
	// where somebody else changed one of the same objects meanwhile; settings.Errors (of policy/settings) where they
	// are wrong; ErrNoQuorum. Settings that change nothing are no error and make no new revision.
	Apply(ctx context.Context, a Application) (Applied, error)
}

// Reservations is mail that waits for a moment its sender chose.
type Reservations interface {
	// Reservations lists it in groups, the earliest first; tenant "" = of all.
	Reservations(ctx context.Context, tenant string) ([]Reservation, error)
	// CancelReservation ends a group's mail as interrupted and tells how many deliveries; ErrNotFound where there is none.
	CancelReservation(ctx context.Context, tenant, id, author string) (int, error)
}

// Reservation is all mail of a tenant from one domain that waits for one moment (requirement R29).
type Reservation struct {
	ID         string // the same on every node
	Tenant     string
	Time       time.Time
	FromDomain mail.Domain // of the envelope sender; "" = the null sender
	Count      int         // deliveries
}

// Jobs are what runs at night; only while testing is enabled may a caller run one now.
type Jobs interface {
	// RunJob returns when the job has ended: ErrNotFound where there is none of that name, ErrNotYet where its part
	// is not built.
	RunJob(ctx context.Context, name string) error
}

// Words of Status.State.
const (
	StateSealed   = "sealed"
	StateUnsealed = "unsealed"
	StateDraining = "draining"
	StateFailed   = "failed"
)

// Status is how a node is.
type Status struct {
	Name    string
	Version string
	State   string   // one of the words above
	Unread  bool     // it has not read yet what the members agreed on, being sealed or just started: it knows no users and no tokens
	Reasons []Reason // why the node is not ready to take mail; empty = ready
	Notices []Reason // what an operator should know of it all the same
	Started time.Time
	SMTP    []string // addresses it really listens on, in the order of the node file
	HTTP    string
	Data    string
	Helo    string // what it greets receivers with
}

// Conservation is how a node's books stand (requirement N7). Both gaps are 0 at rest, Overdue always.
type Conservation struct {
	Books   bool      // whether the node has its queue and its log; else the rest says nothing
	Gap     int64     // deliveries taken since the start, less those ended and queued
	LogGap  int64     // deliveries that wait by the event log, less those queued
	Overdue int       // deliveries that wait although their lifetime ended a while ago
	Oldest  []Overdue // some of them
}

// Overdue is a delivery without progress beyond its deadline.
type Overdue struct {
	Message mail.MessageID
	Domain  mail.Domain
	Ended   time.Time // its lifetime
}

// Reason is one cause of not being ready.
type Reason struct {
	Code   string // sealed, draining, disk, store, lease, degraded, restored, removed
	Detail string // a sentence
}

// Ready tells whether the node takes mail.
func (s Status) Ready() bool { return len(s.Reasons) == 0 }

// Units of CounterQuery.
const (
	UnitTotal = "total"
	UnitHour  = "hour"
	UnitFive  = "5min"
)

// CounterQuery says which counters. Empty members do not narrow.
type CounterQuery struct {
	Unit   string // one of the units above
	Group  string
	Domain mail.Domain
	Tenant string
}

// CounterCount is how many counters there are.
const CounterCount = 12

// Counters are the twelve counters of requirement R60, in its order: the first three are gauges, the others counts.
type Counters [CounterCount]int64

// The places of Counters.
const (
	Undelivered = iota
	Retry
	InDelivery
	Succeeded
	Failed
	Temporary
	DNSTemporary
	ConnectFailed
	ConnectError
	DNSFailed
	Expired
	Interrupted
)

var counterNames = [CounterCount]string{"undelivered", "retry", "in_delivery", "succeeded", "failed", "temporary",
	"dns_temporary", "connect_failed", "connect_error", "dns_failed", "expired", "interrupted"}

// CounterName is what the counter at place i is called in every form of output.
func CounterName(i int) string { return counterNames[i] }

// CounterBucket is one window of counters.
type CounterBucket struct {
	Start    time.Time // zero: all time
	Counters Counters
}

// Queue is one row of the carrier view.
type Queue struct {
	Name    string
	Waiting int64
	Slowed  int64 // of Waiting and in memory, such as is cleaned by itself: its tenant's lists are unclean (D2)
	Urgent  int64 // of Waiting and in memory, such as was raised above bulk mail (R35); of a backlog on disk it is the part in sight
	Warming int64 // sources that a warm-up plan limits there (R149)
}

// Receiver is what one source does at one receiver.
type Receiver struct {
	Receiver    string
	Source      netip.Addr // invalid: the system chooses
	State       string     // open, slowed, blocked, probing
	Waiting     int64      // deliveries due that wait for a slot
	Connections int
	Limit       int // 0 = none
	Delivered   int64
	Deferred    int64
	Failed      int64
	Until       time.Time // end of a block
	Detail      string    // the reply that caused the state; foreign text
	Node        string    // whose source it is; "" = of the node that answers
	Lane        string    // kind of mail that is counted apart: cleaning, a speed filter; "" = all other
	WarmStep    int       // of the source's warm-up plan …
	WarmMost    int       // … and what it allows for now; 0 = it is warm
}

// EventQuery narrows a search. Zero members do not narrow.
type EventQuery struct {
	Message mail.MessageID
	To      mail.Address // compared by Fold
	From    mail.Address
	Domain  mail.Domain
	Group   string
	Tenant  string
	Kinds   []mail.EventKind // none = all but those of the network
	Status  []mail.Status    // none = all
	APIData string           // a part of the X-Api-Data field (requirement R22); events of acceptance have it
	Source  netip.Addr       // source address (requirement R73)
	Since   time.Time        // inclusive
	Until   time.Time        // exclusive
	After   string           // position of the last event seen; "" = from the beginning
	Mail    bool             // with the mail that told of bounces and complaints (requirement R71)
	One     bool             // any event that matches is as good as another: no other member is asked where this one has it
	User    string           // who handed the mail over, exactly

	// Reached, where it is set, is told now and then how far the search has come, also where nothing matched, and at the end.
	// What lies before the position is looked through; false ends the search there, and one with After from there goes on.
	Reached func(position string) bool
}

// MailPage bounds a page of events that come with mail: 3 MiB of it.
const MailPage = 100

// TraceQuery asks for a message or for an address.
type TraceQuery struct {
	Message mail.MessageID // zero where Address is given
	Address mail.Address
	Limit   int // events at most, the newest
}

// Trace is the life of a message.
type Trace struct {
	Events  []mail.Event // oldest first
	Waiting []Waiting
}

// Waiting is a delivery that is not finished, and the constraint that binds it.
type Waiting struct {
	Delivery mail.Delivery
	Receiver string
	Binding  string    // gate, retry, reservation, slot, pace, interval, connection_rate, speed_cap, block, suspension, disk, lease, in_delivery …
	Detail   string    // in words: the limit, the rule, the reply, the author; may hold foreign text
	Until    time.Time // when the constraint ends; zero = unknown
}

// Group is a delivery group in use.
type Group struct {
	Name     string
	Tenant   string
	State    string // open, stopping, stopped
	Counters Counters
	LastSent time.Time
}

// Kinds of Subject.
const (
	SubjectDomain   = "domain"
	SubjectReceiver = "receiver"
	SubjectSource   = "source"
	SubjectTenant   = "tenant"
	SubjectGroup    = "group"
	SubjectRule     = "rule" // an automatic suspension, by its id: rule, receiver and whose mail it holds
)

// Subject is whom a suspension concerns.
type Subject struct {
	Kind  string // one of the kinds above
	Value string // normal form of its kind: a mail.Domain, a receiver's name, an address, a tenant's name

	Tenant string // only this tenant's mail; "" = everybody's, and of those kinds that say it
	Group  string // only this delivery group's; "" = all
}

// Suspension keeps the subject's mail waiting.
type Suspension struct {
	Subject
	Reason string // the operator's words
	Author string
	Since  time.Time
	Until  time.Time // zero = until it is lifted
	Rule   string    // that put it in force; "" = somebody did
	Node   string    // where that was
}

// Replies are the rules about what receivers answer.
type Replies interface {
	// ReplyRules lists those in force in the order in which they are asked.
	ReplyRules(ctx context.Context) ([]ReplyRule, error)
	// ReceiverRows lists who is who, and what each bears: an operator's rows first.
	ReceiverRows(ctx context.Context) ([]ReceiverRow, error)
}

// ReceiverRow is who a receiver is, and what it bears.
type ReceiverRow struct {
	Name    string
	Matches []string // domains and MX hosts
	Own     bool     // of the settings; else built in
	Limits  string   // in words
	Source  string   // where it is known from …
	Date    string   // … and when that was true
	Hits    uint64   // outcomes of deliveries that it was the row of, since the node started
}

// ReplyRule is what an answer means, and what is done about it.
type ReplyRule struct {
	Rule      string   // "group/name"
	Receivers []string // none = everybody's answers
	Own       bool     // of the settings; else built in
	Status    mail.Status
	Scope     mail.Scope
	Action    mail.Action
	For       time.Duration // 0 = not said
	Then      string        // what several such answers ask for besides, in words; "" = nothing
	Source    string        // where it is known from …
	Date      string        // … and when that was true
	Hits      uint64        // answers that it knew since the node started
}

// Probes asks receivers whether addresses exist, without any mail (requirement R50).
type Probes interface {
	// Probe asks as from, under the same limits and suspensions as mail, and answers in the order of to. source is the
	// address to ask by; invalid = one of the default pool that may. ErrInvalid for more than 1000 and for a stranger.
	Probe(ctx context.Context, from mail.Address, source netip.Addr, to []mail.Address) ([]Probed, error)
}

// Results of a probe.
const (
	ProbeExists       = "exists"
	ProbeUnknown      = "unknown"
	ProbeReject       = "reject" // refused for another reason than the address
	ProbeUndetermined = "undetermined"
)

// Probed is what became of one address.
type Probed struct {
	Address mail.Address
	Result  string
	Reply   smtp.Reply // zero where there was none
	Detail  string     // our words then
}
