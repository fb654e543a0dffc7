// Package destination is the voice of one recipient domain's backlog: it keeps a bounded window of what is due, finds
// the way, asks sources for sessions, and backs off when nobody serves it.
//
// It must never carry a message itself, never hold the only copy of anything (the queue on disk is the truth), and
// never grow with its queue. Read state.go for the states, step.go for the decisions, outbox.go for what sessions see.
package destination

import (
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// State is where a destination stands.
//
//	          work              route found            a session joined
//	┌─ idle ────────▶ resolving ────────────▶ asking ──────────────────▶ sending
//	│   ▲                 │ ▲                  │  ▲                        │
//	│   │  nothing due    │ │ alarm            │  │ ask's deadline         │ dry
//	│   └─────────────────┼─┼──────────────────┼──┼────────────────────────┘
//	│                     │ │                  │  │ earliest Until
//	│     no route: defer ▼ │   all refuse:    ▼  │
//	│     or fail what  paused ◀─────────────paused
//	│     is due
//	└──▶ suspended: an operator said so; expired mail is failed at every alarm, nothing else happens
type State uint8

// The states.
const (
	StateIdle State = iota
	StateResolving
	StateAsking
	StateSending
	StatePaused
	StateSuspended
)

var stateNames = [...]string{"idle", "resolving", "asking", "sending", "paused", "suspended"}

func (s State) String() string { return stateNames[s%State(len(stateNames))] }

// Machine decides for one destination. It does no I/O: Step takes what happened and what the outbox looks like, and
// returns what to do.
type Machine struct {
	domain mail.Domain
	env    *Env
	state  State

	// The way. A route is used until fresh passes, and meanwhile a new one is looked for; without a route nothing is asked.
	resolving bool
	changed   bool // rules may be others than those of the route
	late      bool // … and were changed while it was looked for
	route     mail.Route
	key       string
	limits    *shaping.Limits
	kinds     map[bySpeed]*shaping.Limits // for cleaning mail and filters, as far as asked for since the route was found
	sorted    string                      // key of the hosts that the outbox was sorted by
	fresh     time.Time
	found     time.Time    // when the route was found
	dead      mail.Outcome // the domain cannot be mailed at all, until fresh
	unfound   time.Time    // DNS did not answer: not asked before
	answer    string       // of DNS, then

	sources []origin  // what is known of candidates, in the order they were met
	turn    int       // of the round among them
	asked   time.Time // deadline of the last ask; zero = none is out
	loading bool
	loaded  time.Time // when the last scan was started
	broken  time.Time // the store failed: no scan before
	swept   time.Time // when expired mail was last looked for
	trouble mail.Outcome

	effects []Effect
	plan    Plan
}

// origin is what a destination knows of one source.
type origin struct {
	addr    netip.Addr
	lane    string // kind of mail, see shaping.Limits
	reason  protocol.Reason
	until   time.Time // does not serve before
	failing bool      // the last thing heard was trouble with the connection
	since   time.Time // of the last trouble
	tries   int       // made since the first, while others got through
	next    time.Time // when to try again while others get through; zero = nothing keeps it from being asked
}

// noSource stands where no source is meant.
var noSource = netip.Addr{}

// EffectKind says what the shell must do.
type EffectKind uint8

// The effects.
const (
	EffectResolve EffectKind = iota // find the route, answer with Resolved
	EffectLoad                      // scan the disk, answer with Loaded
	EffectAsk                       // send an Ask of Want sessions for Shelf to Source
	EffectRelimit                   // tell Source of Limits that may be new
	EffectForget                    // the asks' deadline has passed
	EffectDismiss                   // settle up to N deliveries of Shelf (-1: that go to the domain's hosts) with Outcome
	EffectSweep                     // fail up to N expired deliveries
	EffectReopen                    // look again at what was passed over
	EffectSort                      // put what waits where it belongs now that the hosts of Route are known
)

// Effect is one thing to do.
type Effect struct {
	Kind     EffectKind
	Shelf    int
	Source   netip.Addr
	Want     int
	Deadline time.Time
	Tenant   string
	Ahead    bool
	Rides    bool
	Limits   *shaping.Limits
	Route    mail.Route
	Key      string
	N        int
	Outcome  mail.Outcome
	Receiver string
}

// NewMachine returns an idle machine. Each begins its round among the sources elsewhere, or ten thousand domains with
// one mail each would all ask the first.
func NewMachine(d mail.Domain, env *Env) *Machine {
	return &Machine{domain: d, env: env, turn: int(env.Rand() * sourcesMost)}
}

// sourcesMost is more than a pool has: a round may begin at any of them.
const sourcesMost = 1 << 10

// State returns where the machine stands.
func (m *Machine) State() State { return m.state }

// Receiver names who answers for this destination, "" while that is not known.
func (m *Machine) Receiver() string {
	if m.limits == nil {
		return ""
	}
	return m.limits.Receiver
}
