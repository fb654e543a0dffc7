// Package source is the guardian of one source IP's reputation: how many connections it holds to each receiver, at
// what pace, and whether the receiver lets it. It starts the sessions that carry mail and hands them from destination
// to destination.
//
// It must never exceed a receiver's limits, whatever order things happen in, and never let a slot leak: a slot is a
// live session, nothing else. Read state.go for what it keeps, step.go for what it decides, session.go for a session's
// way through it.
package source

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Controller is what is left of a receiver's limits for one source: pure, and never called concurrently.
// *shaping.Machine is one with static limits; one that learns fits behind the same methods.
type Controller interface {
	// Grant asks for connections for want messages of a lane; with 0 slots Refusal says why, and until when to ask again.
	Grant(now time.Time, want int, x *shaping.Lane) (slots, messages int, until time.Time)
	// Renew asks for more messages on a connection that is out.
	Renew(now time.Time, want int, x *shaping.Lane) (messages int, until time.Time)
	// Release gives slots back, and messages that were not begun.
	Release(now time.Time, slots, unused int, x *shaping.Lane)
	Resume(now time.Time, slots int)         // so many are out, whoever granted them
	Relimit(now time.Time, l shaping.Limits) // the rules were edited
	Observe(now time.Time, o mail.Outcome, connected bool, x *shaping.Lane)
	Served(at time.Time) // mail was delivered then; Observe hears of successes only after trouble
	// What may be now: connections, messages on each and a second (0 = no bound), of all and of a lane, and why it is less than the limits.
	Connections() int
	PerConnection() int
	Pace() float64
	PaceOf(x *shaping.Lane) float64
	Binds(now time.Time) bool // the pace is what holds mail back
	Cause() shaping.Cause
	State() (shaping.State, time.Time)
	Refusal() shaping.Reason
	// What it learned, in short, for when it is needed again; what another source learned, to begin with; a new source's plan.
	Remember(now time.Time) shaping.Memory
	Recall(now time.Time, y shaping.Memory)
	Hint(now time.Time, y shaping.Memory)
	Warm(now time.Time, p *shaping.Plan)
	Warmup() (step, allowed int, ok bool)
	Lift(now time.Time) // ends a block before its time
	// Spare tells whether the pace leaves a message now that nobody was promised: who was promised the last moment may have it.
	Spare(now time.Time) bool
}

var _ Controller = (*shaping.Machine)(nil)

// Book is everything a source knows, shared between the actor and the sessions under one mutex, because a session that
// runs dry must find its next destination without a message. The actor owns its life: asks and ends of sessions go
// through it.
//
//	receiver: controller, slots ──┬── lane (kind of mail): its own limits ──┬── road (route key): asks in line, idle sessions
//	                              └── lane …                                └── road …
//
// What a receiver sees is one source, whatever kind of mail that sends: blocks, connections, caps, warm-up and what was
// learned are the receiver's; what an operator set for a kind of mail lies below that, and a grant needs both.
//
// A destination's turn on a session lasts Quantum messages, or turnLife, while others wait in the lane; then it goes to
// the end of the line of its tenant, and the next tenant has its turn. So a receiver shared by 10,000 small domains serves
// each, and a tenant with many of them, or with millions of messages, no faster than one with a few (requirement N11).
// Lanes share a receiver's connections in the same way, by turns: see lane.due.
type Book struct {
	source   netip.Addr
	cfg      *Config
	counters *Counters

	mu       sync.Mutex
	by       map[string]*receiver
	order    []*receiver         // as they were met: what is done to all is done in this order
	live     map[uint64]*Session // a slot is one of these
	lastID   uint64
	stopping bool
	plan     *shaping.Plan             // of warm-up, nil = none
	kept     map[string]shaping.Memory // by receiver, or lane: of those that are gone
	effects  []Effect
	ridden   []*road   // with riders, and some that had
	look     time.Time // at these; zero = there are none
}

// Config is how sources work.
type Config struct {
	Quantum    int // messages of one destination's turn, and of one renewal; default 100
	Controller func(shaping.Limits) Controller
	NewWaker   func() protocol.Waker // for each session; default a channel
	Patience   time.Duration         // an ask that cannot be served within this is refused; default 30 s
	Hints      *Hints                // what other sources learned; nil = nothing
	Totals     *Totals               // what all sources of the node have together; default: this one alone
	Jumps      *Jumps                // what all sources of the node are answered about recipients; default: this one alone
	// Holds tells whether the node may send from an address; nil = always. What another node sends from is refused: a receiver
	// knows a source by its address, so that one book has to keep all that it is sent from there (requirement N6).
	Holds func(netip.Addr) bool
}

// Defaults fills what is zero.
func (c *Config) Defaults() {
	if c.Quantum == 0 {
		c.Quantum = 100
	}
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	if c.Totals == nil {
		c.Totals = &Totals{}
	}
	if c.Jumps == nil {
		c.Jumps = &Jumps{}
	}
	if c.NewWaker == nil {
		c.NewWaker = func() protocol.Waker { return make(wakeChan, 1) }
	}
	if c.Controller == nil {
		c.Controller = func(l shaping.Limits) Controller { m := shaping.NewMachine(l); return &m }
	}
}

// Counters are what the sources of a node did since it started.
type Counters struct {
	Granted  atomic.Int64                   // sessions put to work on an outbox
	Opened   atomic.Int64                   // connections begun
	Refused  [protocol.Reasons]atomic.Int64 // sessions' worth of asks refused, by reason
	Blocks   atomic.Int64                   // times a receiver was found to block a source
	Restarts atomic.Int64                   // source actors that failed and were restarted
	Lost     atomic.Int64                   // sessions whose courier failed
}

// receiver is one receiver, and what is left of what it bears of all kinds of mail together.
type receiver struct {
	name    string
	limits  *shaping.Limits // without regard to its kind of mail
	control Controller
	lanes   []*lane          // as they were met …
	named   map[string]*lane // … and by their kind of mail
	line    []*lane          // with asks in line, and some that had
	open    int              // sessions and loans …
	leaving int              // … of which so many are to end
	wants   int              // asks that dispatch found to wait for another one's connection
	tight   bool             // dispatch has found nobody to make room
	plan    *shaping.Plan
	alarm   time.Time
	round   float64      // how far the turns of the lanes have come
	turns   []*Session   // that wait for a moment which the pace has promised them
	watch   atomic.Int32 // successes still to be told to the controller; see Settled
	served  atomic.Int64 // when mail was last delivered, Unix nanoseconds
	taken   atomic.Int64 // how much since Jumps was told
}

// lane is one kind of mail to a receiver.
type lane struct {
	to      *receiver
	limits  *shaping.Limits
	own     *shaping.Lane // what an operator set for the kind; nil = nothing
	open    int           // sessions and loans …
	leaving int           // … of which so many are to end
	loans   int
	waiting int // asks in line on all roads
	roads   map[string]*road
	all     []*road
	busy    []*road     // with asks in line, in the order of their turns
	held    []*Session  // that may begin nothing for longer than a turn: whoever else needs a connection may have theirs
	rest    []time.Time // when connections that have ended might have begun their next message: until then they count as open
	inLine  bool        // in receiver.line
	turns   float64     // it has had; see due
	crowded bool        // it might open a connection now if the receiver bore one more
	bound   bound       // what kept it from the last connection that somebody asked for
	used    time.Time   // last ask or end of a session
}

// road is one set of hosts: sessions on it serve every destination with the same route key.
type road struct {
	lane   *lane
	key    string
	route  mail.Route
	line   line
	inTurn bool // in lane.busy
	idle   []*Session
	open   int // sessions

	riders riders       // asks that wait for a session at work
	dot    atomic.Int64 // nanoseconds that the receiver takes to answer a final dot; 0 = not known
}

// turnLife is how long a turn lasts at most where messages go at a slow pace and others wait.
const turnLife = time.Second

// EffectKind says what whoever called the book must do, after the lock is gone.
type EffectKind uint8

// The effects.
const (
	EffectStart  EffectKind = iota // start a goroutine for Session
	EffectWake                     // wake Session: it has something to do, or must end
	EffectRefuse                   // tell Outbox that it was Refused, and withdraw Want of Shelf
	EffectAlarm                    // step with Ticked at At
	EffectLook                     // step with Looked at At
)

// Effect is one thing to do.
type Effect struct {
	Kind    EffectKind
	Session *Session
	Outbox  protocol.Outbox
	Shelf   int
	Want    int
	Refused protocol.Refused
	At      time.Time
}

// NewBook returns the book of source, invalid for "the system chooses".
func NewBook(source netip.Addr, cfg *Config, counters *Counters) *Book {
	return &Book{source: source, cfg: cfg, counters: counters, by: map[string]*receiver{}, live: map[uint64]*Session{},
		kept: map[string]shaping.Memory{}}
}

// Source is the address the book keeps.
func (b *Book) Source() netip.Addr { return b.source }
