package destination

import (
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// Figures of the machine.
const (
	routeLife    = time.Minute      // how long a route without a life of its own is used before it is asked for again
	dismissMost  = 256              // deliveries settled in one step for one reason
	failMost     = 128              // deliveries deferred at once when no host can be reached; the rest waits its turn
	flightMost   = 2048             // unsettled deliveries above which nothing more is dismissed
	stuckAfter   = time.Second      // without a session that comes for more: deserves stuckStep sessions more
	stuckStep    = 2                // sessions
	restLook     = 2 * time.Second  // between looks at a destination whose mail is all with sessions, or that has asked
	troublePause = time.Second      // after a connection that failed while others work
	secondTry    = time.Second / 2  // after a source failed, while others get through …
	thirdTry     = 2 * time.Second  // … and after it failed again
	leaseLook    = time.Second      // between looks for a lease that was lost
	storePause   = 5 * time.Second  // after the store failed
	farAway      = 10 * time.Minute // the longest sleep of a destination that has work
)

// Step takes one message and the outbox as it is now (see Outbox.Look) and says what to do. The effects are valid
// until the next step; the plan goes into the outbox (see Outbox.Note).
func (m *Machine) Step(now time.Time, msg any, v *View) ([]Effect, Plan) {
	m.effects = m.effects[:0]
	if m.env.IsHalted() {
		return m.halt()
	}
	switch msg := msg.(type) {
	case protocol.Resolved:
		m.onResolved(now, &msg, v)
	case protocol.Loaded:
		m.loading = false
		if msg.Err != nil {
			m.broken = now.Add(storePause)
		}
	case protocol.Refused:
		o := m.origin(msg.Source, msg.Lane)
		o.reason, o.until, o.failing = msg.Reason, msg.Until, false
		if msg.Reason == protocol.ReasonBlocked {
			o.next = msg.Until // somebody has to bring the mail for the probe
		}
	case protocol.Troubled:
		m.onTroubled(now, &msg, v)
	case protocol.Changed:
		for i := range m.sources {
			if r := m.sources[i].reason; r == protocol.ReasonSuspended || r == protocol.ReasonWarmup || r == protocol.ReasonBlocked || r == protocol.ReasonElsewhere {
				m.sources[i] = origin{addr: m.sources[i].addr, lane: m.sources[i].lane}
			}
		}
		m.fresh, m.kinds = time.Time{}, nil
		m.changed, m.late = true, m.resolving
	case protocol.Restarted:
		m.state = StateIdle
	case protocol.Arrived, protocol.Ticked:
	}
	if !m.env.leased() {
		m.effects = m.effects[:0] // nothing may end either
		m.plan = Plan{}
		m.pause(now, now.Add(leaseLook), protocol.ReasonLease, "")
		return m.effects, m.plan
	}
	if m.unsorted() {
		m.sorted = m.key
		m.do(Effect{Kind: EffectSort, Route: m.route})
		m.plan = Plan{Quiet: true, Alarm: now.Add(farAway), Status: m.plan.Status} // until it looks again, at once
		return m.effects, m.plan
	}
	m.decide(now, v)
	m.plan.Status.Receiver = m.Receiver()
	if m.limits != nil {
		m.plan.Size = m.limits.Size
	}
	return m.effects, m.plan
}

// unsorted tells whether filters look at the hosts of the route, and the outbox knows others or none.
func (m *Machine) unsorted() bool {
	return m.key != "" && m.key != m.sorted && m.env.traffic().ByHosts()
}

// halt is all that a destination does once the store has failed: nothing, for good.
func (m *Machine) halt() ([]Effect, Plan) {
	m.state = StatePaused
	m.plan = Plan{Quiet: true, Status: Status{State: m.state, Reason: protocol.ReasonStorage}}
	return nil, m.plan
}

func (m *Machine) onResolved(now time.Time, r *protocol.Resolved, v *View) {
	m.resolving = false
	late := m.late
	m.late = false
	switch r.Outcome.Result {
	case mail.Failed:
		m.dead, m.route, m.key = r.Outcome, mail.Route{}, ""
		m.fresh = now.Add(routeLife)
	case mail.Deferred:
		m.answer = r.Outcome.Detail
		m.unfound = now.Add(jitter(v.Retry, m.env.Rand()))
		if !m.usable(now) {
			m.dismiss(failMost, r.Outcome)
		}
	default:
		m.dead, m.unfound = mail.Outcome{}, time.Time{}
		m.route, m.key, m.limits = r.Route, r.Key, r.Limits
		m.kinds = nil
		m.found, m.fresh = now, now.Add(routeLife)
		if !r.Route.Until.IsZero() && r.Route.Until.Before(m.fresh) && r.Route.Until.After(now) {
			m.fresh = r.Route.Until
		}
		if late { // once more: this may be by the rules of before
			m.fresh = now
		} else if m.changed {
			m.relimit(v)
		}
	}
}

// onTroubled backs off from the source that could not connect. When no candidate is left, what is due is deferred with
// the reason: that was the attempt.
func (m *Machine) onTroubled(now time.Time, t *protocol.Troubled, v *View) {
	lane, own := "", -1
	if t.Shelf < len(v.Shelves) {
		s := &v.Shelves[t.Shelf]
		if l := m.limitsOf(s); l != nil {
			lane = l.Kind.Name
		}
		if s.Speed.Routed() {
			own = t.Shelf
		}
	}
	o := m.origin(t.Source, lane)
	pause := m.backoff(v)
	if now.Sub(o.since) > 2*pause {
		o.tries = 0
	}
	o.reason, o.failing, o.since = protocol.ReasonConnect, true, now
	o.until, o.next = now.Add(pause), now.Add(pause)
	if o.tries == 0 {
		o.next = now.Add(min(secondTry, pause))
	} else if o.tries == 1 {
		o.next = now.Add(min(thirdTry, pause))
	}
	m.trouble = t.Report.Outcome
	if t.Shelf >= len(v.Shelves) {
		return
	}
	if s := &v.Shelves[t.Shelf]; s.Sessions > 0 { // others get through: it is no more than a connection too many
		o.until = now.Add(troublePause)
		return
	} else if s.Asked > 0 {
		return
	}
	for _, a := range m.candidates(now, &v.Shelves[t.Shelf]) {
		if m.serves(now, a, lane) {
			return
		}
	}
	out := t.Report.Outcome
	out.Result = mail.Deferred
	if own < 0 {
		m.dismiss(failMost, out)
		return
	}
	m.do(Effect{Kind: EffectDismiss, Shelf: own, N: failMost, Outcome: out, Receiver: m.limitsOf(&v.Shelves[own]).Receiver})
}

// dismiss settles up to n of what goes to the domain's hosts.
func (m *Machine) dismiss(n int, o mail.Outcome) {
	m.do(Effect{Kind: EffectDismiss, Shelf: -1, N: n, Outcome: o, Receiver: m.Receiver()})
}

// decide says what is to be done with the work as it is, and leaves the machine in the state that fits.
func (m *Machine) decide(now time.Time, v *View) {
	m.plan = Plan{Alarm: now.Add(farAway)}
	if v.Ready == 0 && v.Flight == 0 && !v.Low && !m.loading && v.NextDue.IsZero() && !v.Held {
		m.plan.Alarm = time.Time{}
	}
	if s := m.env.Suspensions.match(now, m.domain, m.Receiver(), noSource, nil); s != nil {
		m.suspend(now, v, s)
		return
	}
	if end, quiet := m.env.domainQuiet(now, m.domain); quiet {
		if v.Flight+v.Ready > 0 || v.Low || !v.NextDue.IsZero() || v.Held {
			m.pause(now, end, protocol.ReasonQuiet, "")
		}
		return
	}
	m.load(now, v)
	m.await(now, v)
	if !v.NextDue.IsZero() {
		at := later(v.NextDue, m.loaded.Add(max(m.env.Look, v.Look)))
		if !at.After(now) {
			at = now.Add(m.env.Look)
		}
		m.wakeBy(at)
	}
	if v.Held { // passed over: look again for what has expired there, and whether it may go now
		every := max(v.Retry, v.Look)
		if !now.Before(m.swept.Add(every)) {
			m.swept = now
			m.do(Effect{Kind: EffectReopen})
		}
		m.wakeBy(m.swept.Add(every))
	}
	m.again(now, v)
	if v.Ready == 0 {
		m.rest(now, v)
		return
	}
	routed := 0
	for i := range v.Shelves {
		if s := &v.Shelves[i]; s.Speed.Routed() {
			routed += s.Ready
		}
	}
	lost := routed < v.Ready && m.resolve(now, v)
	if !lost || routed > 0 {
		m.ask(now, v, lost)
	}
}

// await sees to asks that are out: whoever has not answered by the deadline never will.
func (m *Machine) await(now time.Time, v *View) {
	asked := 0
	for i := range v.Shelves {
		asked += v.Shelves[i].Asked
	}
	switch {
	case asked == 0:
		m.asked = time.Time{}
	case m.asked.IsZero(): // a former incarnation's
		m.asked = now.Add(m.env.AskFor)
	case !now.Before(m.asked):
		m.asked = time.Time{}
		m.do(Effect{Kind: EffectForget})
		for i := range v.Shelves {
			v.Shelves[i].Asked = 0
		}
	}
	if !m.asked.IsZero() {
		m.wakeBy(m.asked)
	}
}

// rest is for a destination without anything due in memory.
func (m *Machine) rest(now time.Time, v *View) {
	m.state = StateIdle
	if v.Flight > 0 {
		m.state = StateSending
	}
	m.plan.Status = Status{State: m.state, Until: v.NextDue}
	if v.Flight > 0 {
		m.plan.Look = now.Add(restLook)
	}
}

// load fills the window from disk.
func (m *Machine) load(now time.Time, v *View) {
	if !v.Low || m.loading {
		return
	}
	if now.Before(m.broken) {
		m.wakeBy(m.broken)
		m.plan.Quiet = true
		m.plan.Status = Status{State: m.state, Reason: protocol.ReasonStorage, Until: m.broken}
		return
	}
	m.loading, m.loaded = true, now
	m.do(Effect{Kind: EffectLoad})
}

// resolve sees to the route; true where there is none to use yet.
func (m *Machine) resolve(now time.Time, v *View) bool {
	if m.dead.Result == mail.Failed && now.Before(m.fresh) {
		m.fail(now, v)
		return true
	}
	if now.Before(m.unfound) {
		if m.usable(now) {
			return false
		}
		m.pause(now, m.unfound, protocol.ReasonDNS, m.answer)
		return true
	}
	if now.Before(m.fresh) {
		return false
	}
	if !m.resolving {
		m.resolving = true
		m.do(Effect{Kind: EffectResolve})
	}
	if m.usable(now) {
		return false
	}
	m.state = StateResolving
	m.plan.Quiet = true
	m.plan.Status = Status{State: m.state, Reason: protocol.ReasonDNS}
	return true
}

// usable tells whether the last route may serve on while a new one is looked for.
func (m *Machine) usable(now time.Time) bool {
	return m.limits != nil && m.dead.Result == 0 && now.Before(m.found.Add(farAway))
}

// fail settles a domain that cannot be mailed, some at a time.
func (m *Machine) fail(now time.Time, v *View) {
	m.state = StateIdle
	m.plan.Status = Status{State: m.state, Reason: protocol.ReasonDNS, Detail: m.dead.Detail, Until: m.fresh}
	if v.Flight > flightMost {
		m.plan.Quiet = true
		m.wakeBy(now.Add(m.env.Look))
		return
	}
	m.dismiss(dismissMost, m.dead)
	if v.Ready > dismissMost {
		m.wakeBy(now)
	}
}

// backoff is how long to leave a receiver alone that could not be reached: as long as the mail says, but no longer
// than its rules want.
func (m *Machine) backoff(v *View) time.Duration {
	t := v.Retry
	if m.limits != nil && m.limits.BlockPause > 0 {
		t = min(t, m.limits.BlockPause)
	}
	return jitter(max(t, time.Second), m.env.Rand())
}

// ask sees to it that there are as many sessions, working or asked for, as the backlog deserves. lost: there is no way
// to the domain's hosts, only to those that filters name.
func (m *Machine) ask(now time.Time, v *View, lost bool) {
	have, wants, served, full, detail := 0, false, false, true, ""
	var why origin
	for i := range v.Shelves {
		s := &v.Shelves[i]
		have += s.Sessions + s.Asked
		if s.Ready == 0 || lost && !s.Speed.Routed() {
			continue
		}
		if now.Before(s.Until) { // whoever works it knows; nobody else is of use
			if wants = true; s.Sessions+s.Asked == 0 {
				why = origin{reason: protocol.ReasonCap, until: s.Until}
			}
			served = served || s.Sessions+s.Asked > 0
			continue
		}
		wants = true
		sources := m.candidates(now, s)
		most := m.most(s, len(sources))
		want := min(max(m.env.deserves(s.Ready, s.Sessions), m.extra(now, s)), most)
		if want > s.Sessions+s.Asked {
			n, refusal := m.askSources(now, i, s, sources, want-s.Sessions-s.Asked)
			have += n
			if n == 0 {
				why = refusal
			}
		}
		served = served || s.Sessions+s.Asked > 0
		if s.Sessions+s.Asked < most {
			full = false
			if s.Asked > 0 { // nobody says when they are answered
				m.plan.Look = now.Add(restLook)
			} else if s.Sessions > 0 {
				m.wakeBy(later(s.Moved.Add(m.stuckAfter(s)), now.Add(stuckAfter/4)))
			}
		}
	}
	if !m.asked.IsZero() {
		m.wakeBy(m.asked)
	}
	switch {
	case have == 0 && wants:
		if why.failing {
			detail = m.trouble.Detail
		}
		m.sweep(now, v)
		m.pause(now, why.until, why.reason, detail)
		return
	case v.Flight > 0:
		m.state = StateSending
	default:
		m.state = StateAsking
	}
	m.plan.Quiet = false
	m.plan.Status = Status{State: m.state, Full: full && served}
	if full || !why.until.IsZero() {
		m.plan.Status.Full = true // nobody could give more for the moment
		m.plan.Status.Reason, m.plan.Status.Until = protocol.ReasonSlots, why.until
		if !why.until.IsZero() {
			m.plan.Status.Reason = why.reason
			m.wakeBy(why.until)
		}
	}
}

// extra is how many sessions a shelf should have whose sessions have not come for more for a while: they are slow, or
// the receiver holds them.
func (m *Machine) extra(now time.Time, s *Shelf) int {
	if s.Sessions == 0 || s.Asked > 0 || s.Moved.IsZero() || now.Sub(s.Moved) < m.stuckAfter(s) {
		return 0
	}
	return s.Sessions + stuckStep
}

// stuckAfter is how long sessions may take for one message before they are no use to the others.
func (m *Machine) stuckAfter(s *Shelf) time.Duration { return stuckAfter + m.limitsOf(s).Every() }

// askSources spreads an ask for n sessions over the candidates that serve, beginning with the one whose turn it is. It
// tells how many it asked for, and else what binds the candidate that serves first.
func (m *Machine) askSources(now time.Time, shelf int, s *Shelf, sources []netip.Addr, n int) (int, origin) {
	var first origin
	serving := 0
	lane := m.limitsOf(s).Kind.Name
	for _, a := range sources {
		if m.serves(now, a, lane) {
			serving++
		} else if o := m.origin(a, lane); first.until.IsZero() || o.until.Before(first.until) {
			first = *o
		}
	}
	if serving == 0 {
		return 0, first
	}
	each, rest := n/serving, n%serving
	rides := s.Sessions+s.Asked == 0 && s.Ready <= fewSessions && !s.Ahead
	for k := range sources {
		a := sources[(m.turn+k)%len(sources)]
		if !m.serves(now, a, lane) {
			continue
		}
		want := each
		if rest > 0 {
			want++
			rest--
		}
		if want == 0 {
			continue
		}
		m.askFor(now, shelf, s, a, want, rides)
	}
	m.turn++
	return n, origin{}
}

func (m *Machine) askFor(now time.Time, shelf int, s *Shelf, a netip.Addr, want int, rides bool) {
	deadline := now.Add(m.env.AskFor)
	l := m.limitsOf(s)
	e := Effect{Kind: EffectAsk, Shelf: shelf, Source: a, Want: want, Deadline: deadline, Tenant: s.Tenant, Limits: l, Route: m.route, Key: m.key,
		Rides: rides}
	if s.Speed.Routed() {
		e.Route, e.Key = s.Speed.Route, s.Speed.Route.Key()
	}
	if few := min(want, max(0, fewSessions-s.Sessions)); s.Ahead && few > 0 { // what else waits here asks for the rest in its turn
		first := e
		first.Want, first.Ahead = few, true
		m.do(first)
		e.Want -= few
	}
	if e.Want > 0 {
		m.do(e)
	}
	s.Asked += want
	if o := m.origin(a, l.Kind.Name); !o.next.IsZero() {
		o.next = time.Time{}
		o.tries++
	}
	if m.asked.IsZero() {
		m.asked = deadline
	}
	m.wakeBy(m.asked)
}

// serves tells whether source a may be asked now for a kind of mail.
func (m *Machine) serves(now time.Time, a netip.Addr, lane string) bool {
	o := m.origin(a, lane)
	if s := m.env.Suspensions.match(now, m.domain, m.Receiver(), a, nil); s != nil {
		o.reason, o.until = protocol.ReasonSuspended, suspendedUntil(now, s)
		return false
	}
	if o.reason != protocol.ReasonNone && !now.Before(o.until) {
		o.open()
	}
	return o.reason == protocol.ReasonNone
}

// open forgets what kept o from serving, but not that it is to be tried.
func (o *origin) open() { o.reason, o.until, o.failing = protocol.ReasonNone, time.Time{}, false }

// again asks for one session from a source that failed or was blocked, where others get through meanwhile: soon enough
// to tell chance from a block, which is the source's to declare (R67), and later often enough to find its end. Where nobody gets through,
// what is due is deferred instead, and the pause is the mail's.
func (m *Machine) again(now time.Time, v *View) {
	for i := range v.Shelves {
		s := &v.Shelves[i]
		l := m.limitsOf(s)
		if s.Sessions == 0 || l == nil {
			continue
		}
		for _, a := range m.candidates(now, s) {
			o := m.origin(a, l.Kind.Name)
			if o.next.IsZero() {
				continue
			}
			if now.Before(o.next) {
				m.wakeBy(o.next)
			} else if v.Ready+v.Flight == 0 { // not without mail: between two of a stream
				m.wakeBy(now.Add(secondTry))
			} else if m.env.Suspensions.match(now, m.domain, m.Receiver(), a, nil) == nil {
				o.open()
				m.askFor(now, i, s, a, 1, false)
			}
		}
	}
}

func (m *Machine) origin(a netip.Addr, lane string) *origin {
	for i := range m.sources {
		if m.sources[i].addr == a && m.sources[i].lane == lane {
			return &m.sources[i]
		}
	}
	m.sources = append(m.sources, origin{addr: a, lane: lane})
	return &m.sources[len(m.sources)-1]
}

// pause waits for a moment. Arrivals do not disturb it.
func (m *Machine) pause(now, until time.Time, why protocol.Reason, detail string) {
	m.state = StatePaused
	if !until.After(now) {
		until = now.Add(time.Second)
	}
	m.wakeBy(until)
	m.plan.Quiet = true
	m.plan.Status = Status{State: m.state, Reason: why, Detail: detail, Until: until}
}

// suspend waits for the operator, and lets go of what has expired meanwhile (E-26).
func (m *Machine) suspend(now time.Time, v *View, s *Suspension) {
	m.state = StateSuspended
	m.plan.Quiet = true
	m.load(now, v)
	m.sweep(now, v)
	m.wakeBy(suspendedUntil(now, s))
	m.plan.Status = Status{State: m.state, Reason: protocol.ReasonSuspended, Detail: s.Reason, Until: s.Until}
}

// suspendedUntil is when to look at a suspension again.
func suspendedUntil(now time.Time, s *Suspension) time.Time {
	if s.Until.IsZero() {
		return now.Add(farAway)
	}
	return s.Until
}

// sweep fails what has expired in the window of a destination that cannot send, once every retry interval.
func (m *Machine) sweep(now time.Time, v *View) {
	if v.Ready > 0 {
		if next := m.swept.Add(v.Retry); !now.Before(next) {
			m.swept = now
			m.do(Effect{Kind: EffectSweep, N: dismissMost})
		}
		m.wakeBy(m.swept.Add(v.Retry))
	}
}

func (m *Machine) wakeBy(t time.Time) {
	if m.plan.Alarm.IsZero() || t.Before(m.plan.Alarm) {
		m.plan.Alarm = t
	}
}

func (m *Machine) do(e Effect) { m.effects = append(m.effects, e) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
