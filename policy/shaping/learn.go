package shaping

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Figures of learning. The law: an objection takes the pace down to a part of what was sent when it came, and that pace
// is remembered as the ceiling. From below the pace comes back to just under the ceiling within a few minutes, stays
// there, and feels its way beyond only after a calm time, slowly first and faster the longer nothing happens. So most of
// the time is spent close under what the receiver bears, and few messages are spent on finding out.
const (
	cut        = 0.85             // of the pace, at an objection …
	deepCut    = 0.5              // … at one soon after another
	soon       = time.Minute      // …
	hover      = 0.98             // of the ceiling: where the pace comes to rest
	comeBack   = time.Minute      // the gap to it shrinks to a third in that time
	calm       = 10 * time.Minute // without an objection before the ceiling is tried
	firstTry   = 0.004            // growth a minute, to begin with; doubles with every calm time
	bestTry    = 0.2              // … and at most
	reaction   = 3 * time.Second  // answers to what was under way when the pace was cut count once
	hush       = 10 * time.Second // in which no new messages are granted after the second objection in a row: what it counts must run out first
	leastPace  = 0.2              // messages a second: whoever objects to so few does not mean the pace
	leastPart  = 10               // such a part of the pace is left to who goes at it, however much goes at a pace that is fixed
	mostPace   = 10_000           // a pace that binds nobody
	firstSteps = time.Minute      // the pace doubles in that time until the first objection, where it starts low
	bound      = 30 * time.Second // the pace grows only while it holds mail back: so long after it did
	meterSpan  = time.Minute      // over which the pace of sending is measured: receivers count by the minute
	slotAgain  = 10 * time.Minute // without an objection before one more connection is tried

	borne  = 1.02 // of the ceiling that was met last: what goes beyond it shows that the receiver bears more now …
	onward = 0.03 // … and the pace grows by so much a minute

	// Whoever still objects after so many cuts in a row may not mean the pace, but how much was sent: it counts by the
	// hour. It is left alone but for a message now and then, until it takes one. Where that takes longer than a count by
	// the minute would explain, the ceiling is what it took in an hour, and tried again later.
	strikes    = 3
	trickle    = 30 * time.Second // from one such message to the next; doubles …
	trickleMax = 5 * time.Minute  // … up to this
	unforgiven = 2 * time.Minute
	volumeCalm = 20 * time.Minute // calm where it counts by the hour
	volumeSpan = time.Hour        // over which the volume is measured
	volumeFold = 10 * time.Second // how often what was sent is added to it
	rested     = 30 * time.Minute // without mail: what was borne before need not be borne now …
	restart    = 0.5              // … so that part of the ceiling is where it begins again, as after a trickle
)

// learned is what a machine found out that a receiver bears, below its limits. Zero values mean: as the limits say.
type learned struct {
	pace      float64 // messages a second
	ceiling   float64 // the pace at which the receiver last objected
	conns     int     // connections
	ramp      bool    // conns grows by one with each success: after a probe (Google's procedure)
	per       int     // messages on one connection …
	perUntil  time.Time
	shortened time.Time

	objected time.Time // last
	grown    moment    // up to when growth is reckoned
	binding  moment    // when the pace last held mail back …
	parted   moment    // … and when a part of it did, of which a lane has no more
	added    time.Time // when conns last grew or shrank

	level float64 // of the meter
	at    moment

	met    float64   // ceiling at the last objection; 0 = as ceiling
	struck int       // cuts in a row, each soon after the one before
	spent  time.Time // when they were as many as strikes
	before float64   // pace until then, and …
	had    float64   // … what the last hour's came to
	volume bool      // the last objections were to the volume

	sentAll float64   // messages of the last hour, the older the less …
	since   time.Time // … of which this is the first …
	folded  time.Time // … up to then
	recent  int       // those sent since folded

	limit *mail.Advice // ActLimit in force …
	until time.Time    // … until then
}

// Cause is why a machine is not open: the rule, and the receiver's words.
type Cause struct {
	Rule  string
	Reply string // at most 200 octets
}

// meter counts n messages begun, or given back where n is negative.
func (k *learned) meter(now time.Time, n int) {
	k.decay(now)
	k.level = max(0, k.level+float64(n))
	if k.recent += n; now.Sub(k.folded) >= volumeFold {
		k.fold(now)
	}
}

// fold brings the volume up to now.
func (k *learned) fold(now time.Time) {
	if k.folded.IsZero() {
		k.since = now
	}
	k.sentAll *= math.Exp(-now.Sub(k.folded).Seconds() / volumeSpan.Seconds())
	k.sentAll, k.recent, k.folded = max(0, k.sentAll+float64(k.recent)), 0, now
}

// hourly is the pace that comes to what was sent in the last hour, or since there was something.
func (k *learned) hourly(now time.Time) float64 {
	k.fold(now)
	known := 1 - math.Exp(-now.Sub(k.since).Seconds()/volumeSpan.Seconds())
	return k.sentAll / volumeSpan.Seconds() / max(known, 0.01)
}

func (k *learned) decay(now time.Time) {
	at := momentOf(now)
	if d := at.since(k.at); d > 0 {
		k.level *= math.Exp(-d.Seconds() / meterSpan.Seconds())
		k.at = at
	}
}

// sent is the present pace of sending, in messages a second.
func (k *learned) sent(now time.Time) float64 {
	k.decay(now)
	return k.level / meterSpan.Seconds()
}

// object takes the pace down from inForce (0 = none): the receiver found it too fast.
func (k *learned) object(now time.Time, inForce float64) {
	if !k.objected.IsZero() && now.Sub(k.objected) < reaction {
		return
	}
	was, part := k.sent(now), cut
	if k.again(now) {
		part = deepCut
	}
	if inForce > 0 { // a meter lags behind; where the pace was binding, that was it, unless it grew as fast as at first
		switch {
		case k.ceiling == 0 && k.pace > 0:
			part = deepCut
		case k.bound(now):
			was = inForce
		}
		was = min(was, inForce)
	}
	if k.exhausted() {
		k.exhaust(now)
		return
	}
	k.take(now, was, part)
}

// again counts an objection, and tells whether it comes soon after another.
func (k *learned) again(now time.Time) bool {
	wait := soon
	if k.exhausted() {
		wait = 2 * trickleMax
	}
	if !k.objected.IsZero() && now.Sub(k.objected) < wait {
		k.struck++
		return true
	}
	k.volume = k.volume && k.spent.After(k.objected.Add(-wait))
	k.struck = 1
	return false
}

// exhausted tells whether the receiver takes nothing for now, so that it is asked now and then only.
func (k *learned) exhausted() bool { return k.struck >= strikes }

// exhaust is for a receiver that takes nothing however few are sent.
func (k *learned) exhaust(now time.Time) {
	if k.struck == strikes {
		k.spent, k.before, k.had = now, k.pace, k.hourly(now)
	}
	wait := min(trickle<<min(k.struck-strikes, 8), trickleMax)
	k.pace, k.objected, k.grown = 1/wait.Seconds(), now, momentOf(now)
}

// relieved is mail taken by a receiver that took nothing for a while.
func (k *learned) relieved(now time.Time) {
	if !k.exhausted() || now.Sub(k.objected) < trickle/2 {
		return
	}
	k.struck, k.grown = 0, momentOf(now)
	if k.volume = now.Sub(k.spent) >= unforgiven; !k.volume {
		k.pace = k.before
		return
	}
	k.ceiling = max(leastPace, (k.had+k.hourly(now))/2) // at its end a silence makes it look too small, at its begin too large
	k.pace, k.met = restart*k.ceiling, k.ceiling
}

// bound tells whether the pace holds mail back, or did a moment ago.
func (k *learned) bound(now time.Time) bool { return momentOf(now).since(k.binding) < bound }

// take sets ceiling and pace by what was sent when the receiver objected. Where nothing held the mail back, there was just
// no more of it: what the receiver bears is as unknown as at the start, and found out in the same way.
func (k *learned) take(now time.Time, was, part float64) {
	was = max(was, leastPace)
	k.ceiling, k.pace = 0, max(was*part, leastPace)
	if k.bound(now) {
		k.ceiling = was
	}
	k.objected, k.grown, k.met = now, momentOf(now), k.ceiling
}

// blocked is object for a receiver that blocks: it bears much less, unless nothing was sent lately.
func (k *learned) blocked(now time.Time, inForce float64, served time.Time) {
	if served.IsZero() || now.Sub(served) > soon {
		return
	}
	was := k.sent(now)
	if inForce > 0 {
		was = min(was, inForce)
	}
	k.take(now, was, deepCut)
}

// crowd takes the number of connections down from used.
func (k *learned) crowd(now time.Time, used int) {
	if !k.added.IsZero() && now.Sub(k.added) < reaction {
		return
	}
	if k.conns > 0 {
		used = min(used, k.conns)
	}
	k.conns, k.added = max(1, used-max(1, used/4)), now
}

// grow lets the pace and the number of connections come back, up to now.
func (k *learned) grow(now time.Time, l *Limits) {
	if k.limit != nil && !now.Before(k.until) {
		k.limit = nil
	}
	if k.per > 0 && !now.Before(k.perUntil) {
		k.per = 0
	}
	if k.conns > 0 && !k.ramp && !now.Before(k.added.Add(slotAgain)) {
		k.conns, k.added = k.conns+1, now
	}
	if k.conns >= l.Connections {
		k.conns, k.ramp = 0, false
	}
	if l.Rate > 0 && k.pace >= l.Rate || k.pace > mostPace {
		k.pace = 0
	}
	if k.pace == 0 || k.exhausted() {
		return
	}
	if k.limit != nil && k.limit.Rate > 0 { // it holds the mail back, and nothing is learned below it
		k.grown = momentOf(now)
		return
	}
	at := momentOf(now)
	if k.ceiling > 0 && k.at != 0 && at.since(k.at) > rested {
		k.pace = min(k.pace, restart*k.ceiling)
	}
	dt := at.since(k.grown)
	if dt <= 0 {
		return
	}
	k.grown = at
	binds := k.bound(now)
	if !binds && at.since(k.parted) >= bound {
		return
	}
	dt = min(dt, bound) // a long silence says nothing about what the receiver bears
	if k.ceiling == 0 {
		k.pace *= math.Exp2(dt.Seconds() / firstSteps.Seconds())
		return
	}
	if rest := hover * k.ceiling; k.pace < rest {
		k.pace = rest - (rest-k.pace)*math.Exp(-dt.Seconds()/comeBack.Seconds())
		if k.pace > rest*0.995 {
			k.pace = rest
		}
		return
	}
	if !binds { // so little mail shows nothing about more than was borne
		return
	}
	if g := k.tries(now); g > 0 {
		k.pace *= math.Exp(g * dt.Minutes())
		k.ceiling = max(k.ceiling, k.pace)
	}
}

// tries is by how much a minute the pace goes beyond the ceiling.
func (k *learned) tries(now time.Time) float64 {
	wait := calm
	if k.volume {
		wait = volumeCalm
	}
	quiet := 24 * time.Hour // where nobody ever objected
	if !k.objected.IsZero() {
		quiet = momentOf(now).since(momentOf(k.objected))
	}
	if quiet < wait {
		return 0
	}
	g := min(bestTry, firstTry*math.Exp2(quiet.Minutes()/wait.Minutes()-1))
	if !k.volume && k.met > 0 && k.pace > borne*k.met {
		g = max(g, onward)
	}
	return g
}

// Pace is how many messages a second may go now; 0 = no bound.
func (m *Machine) Pace() float64 { return Lower(Lower(m.l.Rate, m.k.pace), m.k.named()) }

// Binds tells whether the pace held mail back a moment ago: more connections would not have carried more.
func (m *Machine) Binds(now time.Time) bool { return m.k.bound(now) || m.k.named() > 0 }

// PaceOf is the same for one lane: what it has of that, or what holds for mail of a fixed pace.
func (m *Machine) PaceOf(x *Lane) float64 {
	if x.fixed() {
		return Lower(m.l.Rate, m.k.named())
	}
	return x.Pace(m.Pace())
}

// named is how many messages a second the receiver has said it takes; 0 = it has not.
func (k *learned) named() float64 {
	if k.limit == nil {
		return 0
	}
	return k.limit.Rate
}

// Lower is the smaller of two paces, either of which may be no bound.
func Lower(a, b float64) float64 {
	if a <= 0 || b > 0 && b < a {
		return max(0, b)
	}
	return a
}

// Connections is how many may be out now.
func (m *Machine) Connections() int {
	n := m.l.Connections
	if k := m.k.conns; k > 0 {
		n = min(n, k)
	}
	if a := m.k.limit; a != nil && a.Connections > 0 {
		n = min(n, a.Connections)
	}
	return n
}

// PerConnection is how many messages one connection may carry now; 0 = no bound.
func (m *Machine) PerConnection() int {
	n := m.l.PerConnection
	if k := m.k.per; k > 0 && (n == 0 || k < n) {
		n = k
	}
	if a := m.k.limit; a != nil && a.PerConnection > 0 && (n == 0 || a.PerConnection < n) {
		n = a.PerConnection
	}
	return n
}

// Cause tells why the receiver is slowed or blocked; zero where it is open or nobody said why.
func (m *Machine) Cause() Cause {
	if state, _ := m.State(); state == Open {
		return Cause{}
	}
	return m.cause
}

// repace fits the buckets to what is in force.
func (m *Machine) repace(now moment) {
	pace := Lower(m.l.Rate, m.k.pace)
	m.messages.fit(now, pace)
	m.least.fit(now, pace/leastPart)
	fresh := m.named.size == 0
	if m.named.fit(now, m.k.named()); fresh {
		m.named.level = m.named.size
	}
}

// advised acts on what the rules say about an answer. It tells whether that was all there is to do.
func (m *Machine) advised(now time.Time, o *mail.Outcome, learn bool) bool {
	a := o.Advice
	if a == nil || a.Action == mail.ActNone {
		return false
	}
	if !ours(o) {
		return a.Action == mail.ActSameSource || o.Scope != mail.ScopeConnection && o.Scope != mail.ScopeReceiver
	}
	if !m.often(now, a) {
		m.object(now, o, learn)
		return true
	}
	switch a.Action {
	case mail.ActSuspend:
		m.because(o)
		m.pause(now, a.For, learn)
	case mail.ActProbe:
		m.because(o)
		m.k.ramp = true
		m.pause(now, a.For, learn)
	case mail.ActLimit:
		m.because(o)
		m.restrain(now, a, learn)
	case mail.ActBackoff:
		m.object(now, o, learn)
	}
	return true
}

// ours tells whether the machine is the one to act: the answer concerns this source, this connection or everybody.
func ours(o *mail.Outcome) bool {
	own := func(s mail.Scope) bool {
		return s == mail.ScopeSource || s == mail.ScopeNetblock || s == mail.ScopeReceiver || s == mail.ScopeConnection
	}
	return own(o.Scope) || slices.ContainsFunc(o.Advice.Scopes, own)
}

// often tells whether an answer came as often as its rule asks for.
func (m *Machine) often(now time.Time, a *mail.Advice) bool {
	if a.After <= 1 {
		return true
	}
	if m.counted != a || now.Sub(m.countedAt) > a.Within {
		m.counted, m.countedAt, m.count = a, now, 0
	}
	m.count++
	if m.count < a.After {
		return false
	}
	m.counted, m.count = nil, 0
	return true
}

// object is an answer that wants less of us, without saying how much.
func (m *Machine) object(now time.Time, o *mail.Outcome, learn bool) {
	if !learn {
		return
	}
	before := m.k.objected
	switch {
	case o.Stage > mail.StageEHLO:
		m.k.object(now, m.Pace())
	case m.used > 1:
		m.k.crowd(now, m.used)
	}
	m.because(o)
	m.repace(momentOf(now))
	switch {
	case m.messages.size == 0:
	case m.k.exhausted(): // its pace is silence enough
		m.messages.level, m.least.level = 0, 0
	case !m.k.objected.After(before):
	case m.k.struck == 1: // what the receiver counts is full: nothing that was saved up goes now
		m.messages.level, m.least.level = min(m.messages.level, 0), min(m.least.level, 0)
	default:
		m.messages.silence(hush)
		m.least.silence(hush)
	}
}

// restrain puts a limit in force. The connection's length is taken down step by step, since nobody says what it is.
func (m *Machine) restrain(now time.Time, a *mail.Advice, learn bool) {
	d := a.For
	if d == 0 {
		d = max(m.l.BlockPause, time.Second)
	}
	if a.PerConnection < 0 {
		n := m.PerConnection()
		if n == 0 {
			n = 100
		}
		if now.Sub(m.k.shortened) >= reaction {
			m.k.per, m.k.perUntil, m.k.shortened = max(1, n*4/5), now.Add(d), now
		}
		return
	}
	if a.Rate > 0 && learn {
		m.k.blocked(now, m.Pace(), m.served)
	}
	m.k.limit, m.k.until = a, now.Add(d)
	m.repace(momentOf(now))
}

// because remembers the receiver's words.
func (m *Machine) because(o *mail.Outcome) {
	words := o.Reply.String()
	if o.Reply.IsZero() {
		words = o.Detail
	}
	m.cause = Cause{Reply: strings.ToValidUTF8(words[:min(len(words), 200)], "")}
	if o.Advice != nil {
		m.cause.Rule = o.Advice.Rule
	}
}
