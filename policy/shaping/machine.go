package shaping

import (
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// State is how a receiver stands to a source (R67).
//
//	         signals                     pause over
//	open ───────────────▶ blocked ───────────────────▶ probing ──▶ open   a probe succeeded
//	  ▲                      ▲                            │
//	  │ signals that ask for less  └──────────────────────┘  a probe failed: the pause doubles
//	  ▼
//	slowed: open, below the limits, until the receiver is seen to bear more
type State uint8

// The states.
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
	HourlyCap      Reason = "hourly_cap"      // until the next hour
	BlockedPause   Reason = "blocked"         // the receiver blocks this source
	ProbeOut       Reason = "probing"         // one probe at a time, and it is out
	TopOfHour      Reason = "top_of_hour"     // everybody sends then; we come a little later
	Warmup         Reason = "warmup"          // a new source sent what its plan allows for now; others may send
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

// Machine is what is left of one receiver's limits for one source, whatever kind of mail that sends: a kind with limits of
// its own comes with its Lane, and is granted what both allow. It is a pure value: copy it to try a step. What is
// granted is debited at once and given back by Release, so that no order of calls exceeds a limit. Messages of a
// grant may be begun until its end only; the end never passes the moment at which a cap starts anew.
type Machine struct {
	l Limits

	used    int // slots out
	pending int // messages out: an upper bound, exact when used is 0

	messages bucket // of mail that goes at the pace that was learned …
	least    bucket // … and what that has of it, however much goes at a pace that is fixed
	all      bucket // of that and of mail whose pace is fixed: as the limits say …
	named    bucket // … and as the receiver said in words
	sessions bucket

	day, hour allowance

	state   State
	until   time.Time     // of Blocked
	again   time.Duration // the pause a rule asked for: its failed probe takes the same again
	weight  int           // of signals lately
	pauses  int           // blocks without a success since: the pause has doubled that often
	probing bool          // the one probe is out
	turn    time.Time     // promised to the connection that last asked for messages in vain
	old     int           // slots out since before the block
	refusal Reason

	k         learned
	w         warmth
	served    time.Time // last success
	told      time.Time // when mail of a fixed pace was last objected to
	cause     Cause
	counted   *mail.Advice // a rule that acts only on answers that come often …
	countedAt time.Time    // … counted since then
	count     int
}

// NewMachine returns a machine with full buckets and an open receiver.
func NewMachine(l Limits) Machine {
	l.Connections = max(l.Connections, 1)
	m := Machine{l: l, day: allowance{most: l.DailyCap, span: 86400}, hour: allowance{most: l.HourlyCap, span: 3600}}
	if !l.Fixed {
		m.k.pace = l.Start
	}
	m.sessions = beginnings(l.ConnectionRate, l.Connections)
	if p := m.Pace(); p > 0 {
		m.messages = bucket{rate: p, size: max(1, p)}
	}
	if l.Rate > 0 {
		m.all = bucket{rate: l.Rate, size: max(1, l.Rate)}
	}
	m.messages.level, m.all.level = m.messages.size, m.all.size
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
// that only a Release or an Observe can help. x is the lane of the mail.
func (m *Machine) Grant(now time.Time, want int, x *Lane) (slots, messages int, until time.Time) {
	m.advance(now)
	x.advance(now, m.Pace())
	if want <= 0 {
		return 0, 0, time.Time{}
	}
	if r, until := m.closed(); r != NotRefused {
		return 0, 0, m.refuse(r, until)
	}
	most, r, until := x.begins(now)
	if most == 0 {
		return 0, 0, m.refuse(r, until)
	}
	if want, r, until = m.leftOf(now, want, x); want == 0 {
		return 0, 0, m.refuse(r, until)
	}
	free := min(m.Connections()-m.used, most)
	if free <= 0 {
		return 0, 0, m.refuse(Connections, time.Time{})
	}
	if m.state == Probing {
		free, want = 1, 1
	}
	if r, until := m.topOfHour(now); r != NotRefused {
		return 0, 0, m.refuse(r, until)
	}
	free = min(free, m.sessions.whole())
	if free == 0 {
		return 0, 0, m.refuse(ConnectionRate, m.sessions.next(now, 1))
	}
	left, r, again := m.left(now, want, x)
	if left == 0 {
		return 0, 0, m.refuse(r, again)
	}
	want = min(want, left)
	slots = min(free, (want+m.spread()-1)/m.spread())
	messages = min(want, slots*m.perSlot())
	m.used += slots
	m.sessions.take(slots)
	m.debit(now, messages, x)
	x.take(slots, messages)
	m.probing = m.state == Probing
	m.refusal = NotRefused
	return slots, messages, m.end(now)
}

// Renew asks for more messages on a connection of lane x that is already out. 0 messages: as with Grant.
func (m *Machine) Renew(now time.Time, want int, x *Lane) (messages int, until time.Time) {
	m.advance(now)
	x.advance(now, m.Pace())
	if want <= 0 || m.used == 0 {
		return 0, time.Time{}
	}
	if m.state == Probing { // a probe carries one message; its outcome opens the receiver
		return 0, m.refuse(ProbeOut, time.Time{})
	}
	if r, until := m.closed(); r != NotRefused {
		return 0, m.refuse(r, until)
	}
	if r, until := m.topOfHour(now); r != NotRefused {
		return 0, m.refuse(r, until)
	}
	if m.used > m.Connections() { // there are to be fewer
		return 0, m.refuse(Connections, time.Time{})
	}
	want, r, until := m.leftOf(now, want, x)
	if want == 0 {
		return 0, m.refuse(r, until)
	}
	left, r, again := m.left(now, want, x)
	if left == 0 {
		if r == Rate && (!x.fixed() || m.named.size > 0) {
			again = m.promise(now, again)
		}
		return 0, m.refuse(r, again)
	}
	messages = min(want, left, m.perSlot())
	m.debit(now, messages, x)
	x.take(0, messages)
	m.refusal = NotRefused
	return messages, m.end(now)
}

// Release gives slots of lane x back, and the messages that were granted but not begun.
func (m *Machine) Release(now time.Time, slots, unusedMessages int, x *Lane) {
	m.advance(now)
	x.release(slots, unusedMessages)
	slots = min(max(slots, 0), m.used)
	back := min(max(unusedMessages, 0), m.pending)
	m.used -= slots
	m.pending -= back
	m.all.put(back)
	m.messages.put(back)
	m.least.put(back)
	m.named.put(back)
	m.k.meter(now, -back)
	m.day.credit(back, m.used == 0)
	m.hour.credit(back, m.used == 0)
	m.w.credit(back)
	if left := slots - m.old; left >= 0 { // the old connections end first, so that there is never a second probe
		m.probing = m.probing && left == 0
	}
	m.old = max(0, m.old-slots)
	if m.used == 0 {
		m.pending = 0
	}
}

// Resume has the machine count so many slots as out, whatever it counted before; they may have been granted by another one, under
// other limits. Those it did not know have their messages already, and no probe is among them.
func (m *Machine) Resume(now time.Time, slots int) {
	if gone := m.used - slots; gone > 0 {
		m.Release(now, gone, 0, nil)
		return
	}
	if m.state == Blocked || m.state == Probing {
		m.old += slots - m.used
	}
	m.used = slots
}

// Observe learns from an outcome of mail of lane x. connected tells whether a session had been established when it came
// about. From mail whose pace is fixed nothing is learned but what the receiver says in words: to stop, or how much.
func (m *Machine) Observe(now time.Time, o mail.Outcome, connected bool, x *Lane) {
	m.advance(now)
	learn := !m.l.Fixed && !x.fixed()
	if m.state == Open && m.advised(now, &o, learn) {
		return
	}
	if !signal(o, connected) && !warned(&o) {
		if answered(o) {
			m.success(now, &o, learn)
		}
		return
	}
	switch m.state {
	case Blocked: // an old connection ends; the pause runs already
	case Probing:
		m.block(now, learn && meant(&o))
	default:
		// What many connections are told at once while mail went through a moment ago is one objection, not a block.
		if last := later(m.k.objected, m.told); m.used > 1 && now.Sub(last) < reaction && last.Sub(m.served) < reaction {
			return
		}
		if x.fixed() && o.Stage > mail.StageEHLO && !o.Reply.IsZero() {
			m.told = now
		}
		if !o.Reply.IsZero() { // without one it may be an accident of the network
			m.object(now, &o, learn)
		}
		if m.weight += weight(o); m.weight >= blockAt {
			m.because(&o)
			m.block(now, learn && meant(&o))
		}
	}
}

// Served tells that mail was delivered at a moment: Observe need not hear of every success.
func (m *Machine) Served(at time.Time) {
	if at.After(m.served) {
		m.served = at
	}
}

// State tells how the receiver stands to the source, and until when where a time ends it.
func (m *Machine) State() (State, time.Time) {
	switch {
	case m.state == Blocked:
		return m.state, m.until
	case m.state == Open && m.k.limit != nil:
		return Slowed, m.k.until
	case m.state == Open && (m.k.pace > 0 || m.k.conns > 0):
		return Slowed, time.Time{}
	}
	return m.state, time.Time{}
}

func (m *Machine) success(now time.Time, o *mail.Outcome, learn bool) {
	m.weight = max(0, m.weight-1)
	if o.Result == mail.Delivered {
		m.served = now
		if learn {
			m.k.relieved(now)
			m.repace(momentOf(now))
		}
	}
	switch {
	case m.state == Probing:
		m.state, m.weight, m.pauses, m.probing = Open, 0, 0, false
		if m.k.ramp {
			m.k.conns, m.k.added = 1, now
		}
	case m.k.ramp && o.Result == mail.Delivered:
		m.k.conns, m.k.added = m.k.conns+1, now
	}
}

// pause blocks for as long as a rule says; zero is as long as blocks last.
func (m *Machine) pause(now time.Time, d time.Duration, learn bool) {
	if d == 0 {
		m.block(now, learn)
		return
	}
	m.shut(now, d, learn)
	m.again = d
}

// Lift ends a block before its time: the next grant is the probe.
func (m *Machine) Lift(now time.Time) {
	m.advance(now)
	if m.state == Blocked {
		m.until, m.again, m.pauses = now, 0, 0
	}
}

// block leaves the receiver alone for a while. learn: it is us it does not want, and so fast; otherwise it may be down, or
// the pace was not ours to choose.
func (m *Machine) block(now time.Time, learn bool) {
	if m.again > 0 && m.state == Probing { // a rule's pause does not grow
		m.pause(now, m.again, learn)
		return
	}
	m.again = 0
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
	m.shut(now, pause, learn)
}

func (m *Machine) shut(now time.Time, pause time.Duration, learn bool) {
	if learn {
		m.k.blocked(now, m.Pace(), m.served)
	}
	m.w.back()
	m.state, m.until, m.weight, m.probing, m.old = Blocked, now.Add(pause), 0, false, m.used
}

// meant tells whether o is an answer, or a silence that the rules know for one: a connection that is refused by nobody
// knows whom is a machine that is down.
func meant(o *mail.Outcome) bool { return !o.Reply.IsZero() || o.Advice != nil }

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

// warned tells whether the rules have us do something about o, more than end the connection.
func warned(o *mail.Outcome) bool {
	a := o.Advice
	return a != nil && a.Action != mail.ActNone && a.Action != mail.ActSameSource && o.Scope != mail.ScopeConnection && ours(o)
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
	at := momentOf(now)
	m.k.grow(now, &m.l)
	m.repace(at)
	m.messages.refill(at)
	m.least.refill(at)
	m.all.refill(at)
	m.named.refill(at)
	m.sessions.refill(at)
	m.day.advance(now, m.pending)
	m.hour.advance(now, m.pending)
	m.w.advance(now, m.pending)
	if m.state == Blocked && !now.Before(m.until) {
		m.state = Probing
	}
}

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

// topOfHour keeps mail off the first moments of an hour, on new connections and open ones. The delay is random in the hour and the receiver, yet
// the same whenever it is asked for.
func (m *Machine) topOfHour(now time.Time) (Reason, time.Time) {
	if m.l.TopOfHour <= 0 {
		return NotRefused, time.Time{}
	}
	if end := m.l.Spared(now); now.Before(end) {
		return TopOfHour, end
	}
	return NotRefused, time.Time{}
}

// leftOf is how many of want messages lane x may have of its own. What a part of the pace holds back, the pace does.
func (m *Machine) leftOf(now time.Time, want int, x *Lane) (int, Reason, time.Time) {
	n, r, until := x.left(now, want)
	if r == Rate {
		m.k.parted = momentOf(now)
	}
	return n, r, until
}

// left is how many messages of lane x may be granted now, and otherwise why not and when to ask again.
func (m *Machine) left(now time.Time, want int, x *Lane) (int, Reason, time.Time) {
	n, rate := min(m.all.whole(), m.named.whole()), Lower(m.l.Rate, m.named.rate)
	if !x.fixed() {
		n, rate = min(n, max(m.messages.whole(), m.least.whole())), m.Pace()
	}
	// A connection for every single token would be worse than the wait for a tenth of a second's worth.
	if least := min(want, max(1, int(rate/10))); n < least {
		next := later(m.all.next(now, least), m.named.next(now, least))
		if !x.fixed() && m.messages.whole() < least {
			m.k.binding = momentOf(now)
			next = later(next, earlier(m.messages.next(now, least), m.least.next(now, least)))
			if m.k.exhausted() { // it may be over any moment
				next = earlier(next, now.Add(trickle))
			}
		}
		return 0, Rate, next
	}
	if n = m.day.left(n); n == 0 {
		return 0, DailyCap, m.day.ends(now)
	}
	if n = m.hour.left(n); n == 0 {
		return 0, HourlyCap, m.hour.ends(now)
	}
	if m.w.cold() {
		if n = min(n, m.w.left()); n <= 0 {
			return 0, Warmup, m.w.ends(now)
		}
	}
	return n, NotRefused, time.Time{}
}

// turnMost is how far ahead of the pace a connection that asks in vain is sent.
const turnMost = 10 * time.Second

// tooEarly is the part of the time between two messages that somebody may come too early who was told a moment.
const tooEarly = 5

// promise tells each connection that asks in vain another moment, from next on, at which the pace will have left
// something: else all of them come at the first, and all but one in vain. Who comes a little too early, because what was given
// back or a pace that changed has shifted the moments, waits for that little: sent to the end of the line, he would leave a
// moment to nobody.
func (m *Machine) promise(now, next time.Time) time.Time {
	step := m.step()
	if next.Sub(now) < step/tooEarly {
		return next
	}
	m.turn = m.turn.Add(step)
	if m.turn.Before(next) || m.turn.Sub(next) > turnMost {
		m.turn = next
	}
	return m.turn
}

// step is from one promised moment to the next; never a moment too short.
func (m *Machine) step() time.Duration {
	return time.Duration(max(0.1, 1/m.Pace())*float64(time.Second)) + time.Microsecond
}

// Spare tells whether the pace leaves a message now that nobody was promised, or that nobody had use for who was. Whoever was promised
// the last moment may have it, and that moment is the next to be promised.
func (m *Machine) Spare(now time.Time) bool {
	m.advance(now)
	if r, _ := m.closed(); r != NotRefused || m.messages.size == 0 || min(m.messages.whole(), m.all.whole(), m.named.whole()) < 1 {
		return false
	}
	m.turn = m.turn.Add(-m.step())
	return true
}

// spread is for how many waiting messages one connection is opened: where the receiver wants a pace, as many as it
// takes on one, so that few are held.
func (m *Machine) spread() int {
	if m.l.Interval > 0 {
		return m.perSlot()
	}
	return min(perSlot, m.perSlot())
}

// capped tells whether a span of time has a bound of messages.
func (m *Machine) capped() bool { return m.day.most > 0 || m.hour.most > 0 }

// perSlot is how many messages a slot is granted at once.
func (m *Machine) perSlot() int {
	if m.capped() || m.w.cold() { // what is out at the end of a span cannot be told from what was sent
		return min(max(m.PerConnection(), 1), perSlot)
	}
	if n := m.PerConnection(); n > 0 {
		return min(n, perRenewal)
	}
	return perRenewal
}

func (m *Machine) debit(now time.Time, n int, x *Lane) {
	m.all.take(n)
	m.named.take(n)
	m.k.meter(now, n)
	if !x.fixed() {
		m.least.level = min(m.least.level, max(0, m.least.level-float64(n)))
	}
	if !x.fixed() || !m.k.exhausted() { // who goes at the pace waits a while longer; what is to find out whether it takes mail again does not
		m.messages.level = max(m.messages.level-float64(n), min(m.messages.level, -m.messages.size))
	}
	m.pending += n
	m.day.debit(n)
	m.hour.debit(n)
	m.w.debit(n)
}

func (m *Machine) refuse(r Reason, until time.Time) time.Time {
	m.refusal = r
	return until
}

func (m *Machine) end(now time.Time) time.Time {
	end := now.Add(GrantLife)
	if m.l.TopOfHour > 0 {
		end = earlier(end, now.Truncate(time.Hour).Add(time.Hour))
	}
	if m.day.most > 0 {
		end = earlier(end, m.day.ends(now))
	}
	if m.hour.most > 0 {
		end = earlier(end, m.hour.ends(now))
	}
	if m.w.cold() {
		end = earlier(end, m.w.ends(now))
	}
	return end
}
