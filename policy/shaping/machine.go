package shaping

import (
	"hash/fnv"
	"math"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// State is how a receiver stands to a source (R67).
//
//	         signals                     pause over
//	open ───────────────▶ blocked ───────────────────▶ probing ──▶ open   a probe succeeded
//	  ▲                      ▲                            │
//	  └── (slowed: learned)  └────────────────────────────┘  a probe failed: the pause doubles
type State uint8

// The states. Slowed is reserved for limits that are learned; nothing enters it yet.
const (
	Open State = iota
	Slowed
	Blocked
	Probing
)

func (s State) String() string {
	return [...]string{"open", "slowed", "blocked", "probing"}[s&3]
}

// Reason says why nothing was granted.
type Reason string

// The reasons of refusals. They are words of metrics and traces.
const (
	NotRefused     Reason = ""
	Connections    Reason = "connections"     // all are in use; a release frees one
	Rate           Reason = "rate"            // the pace leaves no message now
	ConnectionRate Reason = "connection_rate" // too many new connections lately
	DailyCap       Reason = "daily_cap"       // until the next UTC day
	BlockedPause   Reason = "blocked"         // the receiver blocks this source
	ProbeOut       Reason = "probing"         // one probe at a time, and it is out
	TopOfHour      Reason = "top_of_hour"     // everybody sends then; we come a little later
)

// Figures of the machine.
const (
	// GrantLife is how long a grant lasts: long enough for a session's worth of messages at a careful pace, short
	// enough that a lost holder does not matter.
	GrantLife = 5 * time.Minute

	// perSlot is how many waiting messages justify one more connection where pace is no concern.
	perSlot = 8

	// perRenewal is how many messages a grant without limits holds for each slot.
	perRenewal = 200

	// Three signals without a success between them block, or two by which somebody who listens turned us away; a
	// success takes a quarter of a signal back.
	signalWeight = 4
	turnedAway   = 6
	blockAt      = 12
)

// Machine is what is left of one receiver's limits for one source. It is a pure value: copy it to try a step. What is
// granted is debited at once and given back by Release, so that no order of calls exceeds a limit. Messages of a
// grant may be begun until its end only; the end never passes midnight UTC, which is when the daily cap starts anew.
type Machine struct {
	l Limits

	used    int // slots out
	pending int // messages out: an upper bound, exact when used is 0

	messages bucket
	sessions bucket

	day   int64 // of cap, days since 1970 UTC
	spent int   // messages granted on day and not given back
	stale int   // messages out when day began: giving them back does not raise today's cap

	state   State
	until   time.Time // of Blocked
	weight  int       // of signals lately
	pauses  int       // blocks without a success since: the pause has doubled that often
	probing bool      // the one probe is out
	old     int       // slots out since before the block
	refusal Reason
}

// NewMachine returns a machine with full buckets and an open receiver.
func NewMachine(l Limits) Machine {
	l.Connections = max(l.Connections, 1)
	m := Machine{l: l}
	if l.Rate > 0 {
		m.messages = bucket{rate: l.Rate, size: max(1, l.Rate)}
	}
	if l.ConnectionRate > 0 {
		m.sessions = bucket{rate: l.ConnectionRate, size: max(1, min(float64(l.Connections), 60*l.ConnectionRate))}
	}
	m.messages.level, m.sessions.level = m.messages.size, m.sessions.size
	return m
}

// Limits returns what the machine works with.
func (m *Machine) Limits() Limits { return m.l }

// Used returns how many slots are out.
func (m *Machine) Used() int { return m.used }

// Refusal tells why the last Grant or Renew gave nothing; NotRefused after one that gave something.
func (m *Machine) Refusal() Reason { return m.refusal }

// Grant asks for connections to send want messages with. slots > 0: that many connections, carrying together up to
// messages messages begun before until. slots = 0: Refusal says why, and until when to ask again; a zero until means
// that only a Release or an Observe can help.
func (m *Machine) Grant(now time.Time, want int) (slots, messages int, until time.Time) {
	m.advance(now)
	if want <= 0 {
		return 0, 0, time.Time{}
	}
	if r, until := m.closed(); r != NotRefused {
		return 0, 0, m.refuse(r, until)
	}
	free := m.l.Connections - m.used
	if free <= 0 {
		return 0, 0, m.refuse(Connections, time.Time{})
	}
	if m.state == Probing {
		free, want = 1, 1
	}
	if r, until := m.hour(now); r != NotRefused {
		return 0, 0, m.refuse(r, until)
	}
	free = min(free, m.sessions.whole())
	if free == 0 {
		return 0, 0, m.refuse(ConnectionRate, m.sessions.next(now, 1))
	}
	left, r, again := m.left(now, want)
	if left == 0 {
		return 0, 0, m.refuse(r, again)
	}
	want = min(want, left)
	slots = min(free, (want+m.spread()-1)/m.spread())
	messages = min(want, slots*m.perSlot())
	m.used += slots
	m.sessions.take(slots)
	m.debit(messages)
	m.probing = m.state == Probing
	m.refusal = NotRefused
	return slots, messages, m.end(now)
}

// Renew asks for more messages on a connection that is already out. 0 messages: as with Grant.
func (m *Machine) Renew(now time.Time, want int) (messages int, until time.Time) {
	m.advance(now)
	if want <= 0 || m.used == 0 {
		return 0, time.Time{}
	}
	if m.state == Probing { // a probe carries one message; its outcome opens the receiver
		return 0, m.refuse(ProbeOut, time.Time{})
	}
	if r, until := m.closed(); r != NotRefused {
		return 0, m.refuse(r, until)
	}
	left, r, again := m.left(now, want)
	if left == 0 {
		return 0, m.refuse(r, again)
	}
	messages = min(want, left, m.perSlot())
	m.debit(messages)
	m.refusal = NotRefused
	return messages, m.end(now)
}

// Release gives slots back, and the messages that were granted but not begun.
func (m *Machine) Release(now time.Time, slots, unusedMessages int) {
	m.advance(now)
	slots = min(max(slots, 0), m.used)
	back := min(max(unusedMessages, 0), m.pending)
	m.used -= slots
	m.pending -= back
	m.messages.put(back)
	old := min(back, m.stale)
	m.stale -= old
	m.spent = max(0, m.spent-(back-old))
	if left := slots - m.old; left >= 0 { // the old connections end first, so that there is never a second probe
		m.probing = m.probing && left == 0
	}
	m.old = max(0, m.old-slots)
	if m.used == 0 {
		m.pending, m.stale = 0, 0
	}
}

// Observe learns from an outcome. connected tells whether a session had been established when it came about.
func (m *Machine) Observe(now time.Time, o mail.Outcome, connected bool) {
	m.advance(now)
	if !signal(o, connected) {
		if answered(o) {
			m.success()
		}
		return
	}
	switch m.state {
	case Blocked: // an old connection ends; the pause runs already
	case Probing:
		m.block(now)
	default:
		if m.weight += weight(o); m.weight >= blockAt {
			m.block(now)
		}
	}
}

// State tells how the receiver stands to the source, and until when where a time ends it.
func (m *Machine) State() (State, time.Time) {
	if m.state == Blocked {
		return m.state, m.until
	}
	return m.state, time.Time{}
}

func (m *Machine) success() {
	m.weight = max(0, m.weight-1)
	if m.state == Probing {
		m.state, m.weight, m.pauses, m.probing = Open, 0, 0, false
	}
}

func (m *Machine) block(now time.Time) {
	pause := max(m.l.BlockPause, time.Second)
	most := m.l.BlockPauseMax
	if most == 0 {
		most = 4 * pause
	}
	for range m.pauses {
		pause = min(2*pause, most)
	}
	if pause < most {
		m.pauses++
	}
	m.state, m.until, m.weight, m.probing, m.old = Blocked, now.Add(pause), 0, false, m.used
}

// signal tells whether o says that the receiver does not want this source now: a connection refused, closed or reset,
// 421, or an answer that the rules attribute to the source or the whole receiver. What concerns a recipient or a
// message is none, and neither is our own trouble (DNS).
func signal(o mail.Outcome, connected bool) bool {
	switch {
	case o.Result == mail.Delivered || o.Result == 0 && o.Stage == mail.StageNone:
		return false
	case o.Stage == mail.StageNone || o.Stage == mail.StageDNS:
		return false
	case o.Reply.Code == 421 || o.Scope == mail.ScopeSource || o.Scope == mail.ScopeReceiver:
		return true
	case o.Stage <= mail.StageEHLO: // could not get as far as speaking
		return true
	}
	return connected && o.Reply.IsZero() && o.Stage >= mail.StageMail // reset or silent in mid session
}

// weight is how much a signal says. A connection that was taken and then turned away, by 421 or by hanging up before we
// could begin, was meant for us; one that was not taken, or that broke on the way, may be an accident.
func weight(o mail.Outcome) int {
	if o.Reply.Code == 421 || o.Stage > mail.StageConnect && o.Stage <= mail.StageEHLO {
		return turnedAway
	}
	return signalWeight
}

// answered tells whether o shows that the receiver takes part: any reply to a command of a transaction.
func answered(o mail.Outcome) bool { return !o.Reply.IsZero() && o.Stage >= mail.StageMail }

// advance brings buckets, day and state up to now. Time that runs backwards changes nothing.
func (m *Machine) advance(now time.Time) {
	m.messages.refill(now)
	m.sessions.refill(now)
	if d := unixDay(now); d > m.day {
		m.day, m.spent, m.stale = d, 0, m.pending
	}
	if m.state == Blocked && !now.Before(m.until) {
		m.state = Probing
	}
}

func unixDay(t time.Time) int64 { return int64(math.Floor(float64(t.Unix()) / 86400)) }

// closed tells whether the receiver's state forbids a grant.
func (m *Machine) closed() (Reason, time.Time) {
	switch {
	case m.state == Blocked:
		return BlockedPause, m.until
	case m.state == Probing && m.probing:
		return ProbeOut, time.Time{}
	}
	return NotRefused, time.Time{}
}

// hour keeps new connections off the first moments of an hour. The delay is random in the hour and the receiver, yet
// the same whenever it is asked for.
func (m *Machine) hour(now time.Time) (Reason, time.Time) {
	if m.l.TopOfHour <= 0 {
		return NotRefused, time.Time{}
	}
	start := now.Truncate(time.Hour)
	if now.Sub(start) >= m.l.TopOfHour {
		return NotRefused, time.Time{}
	}
	h := fnv.New32a()
	var b [8]byte
	for i := range b {
		b[i] = byte(start.Unix() >> (8 * i))
	}
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(m.l.Receiver))
	end := start.Add(time.Duration(float64(m.l.TopOfHour) * float64(h.Sum32()) / (1 << 32)))
	if now.Before(end) {
		return TopOfHour, end
	}
	return NotRefused, time.Time{}
}

// left is how many messages may be granted now, and otherwise why not and when to ask again.
func (m *Machine) left(now time.Time, want int) (int, Reason, time.Time) {
	n := m.messages.whole()
	// A connection for every single token would be worse than the wait for a tenth of a second's worth.
	if least := min(want, max(1, int(m.l.Rate/10))); n < least {
		return 0, Rate, m.messages.next(now, least)
	}
	if m.l.DailyCap > 0 {
		if n = min(n, m.l.DailyCap-m.spent); n <= 0 {
			return 0, DailyCap, nextDay(now)
		}
	}
	return n, NotRefused, time.Time{}
}

func nextDay(now time.Time) time.Time { return time.Unix((unixDay(now)+1)*86400, 0).In(now.Location()) }

// spread is for how many waiting messages one connection is opened: where the receiver wants a pace, as many as it
// takes on one, so that few are held.
func (m *Machine) spread() int {
	if m.l.Interval > 0 {
		return m.perSlot()
	}
	return min(perSlot, m.perSlot())
}

// perSlot is how many messages a slot is granted at once.
func (m *Machine) perSlot() int {
	if m.l.DailyCap > 0 { // what is out at midnight cannot be told from what was sent
		return min(max(m.l.PerConnection, 1), perSlot)
	}
	if m.l.PerConnection > 0 {
		return min(m.l.PerConnection, perRenewal)
	}
	return perRenewal
}

func (m *Machine) debit(n int) {
	m.messages.take(n)
	m.pending += n
	m.spent += n
}

func (m *Machine) refuse(r Reason, until time.Time) time.Time {
	m.refusal = r
	return until
}

func (m *Machine) end(now time.Time) time.Time {
	end := now.Add(GrantLife)
	if m.l.DailyCap > 0 {
		if d := nextDay(now); d.Before(end) {
			return d
		}
	}
	return end
}
