package replica

import (
	"slices"
	"time"
)

// core decides for an owner: who stands by, what counts as held, when to go on without. It is a pure machine: time is
// an argument, and what is to be done it answers as effects. Frames, waiters and connections are the shell's.
//
//	         dial                 answered             first chunk of        fill complete
//	idle ──────────▶ dialing ─────────────▶ filling ─── the fill ──▶ primed ───────────────▶ full
//	 ▲                  │        fits, full ────────────────────────────────────────────────▶ ▲
//	 └── lost, no answer, nothing acknowledged for patience while something waits: tried again later ──┘
//
// primed and full count as copies of what they acknowledge, where the book names them; only full ones are standbys to take
// over from alone, and told to the book. So who is new counts from when it is full and the book says so: a copy that whoever
// looks for an heir does not find is none.
type core struct {
	copies   int           // k
	strict   bool          // nothing is settled without its copies
	patience time.Duration // how long an acknowledgement may take while something waits
	byBook   bool          // only who is named counts
	named    []string      // by the book, as far as is known for certain

	order   []string // candidates, best first
	members map[string]*member

	next    uint64    // number of the next frame
	held    uint64    // every frame up to it is decided: it has k copies, or lies in the gap
	gapLow  uint64    // frames above it, and
	gapHigh uint64    // up to this one, were decided while short: the last such time
	settled uint64    // outcomes of frames up to it may count as told: held, and while short only once that is sure, if ever
	since   time.Time // when held last moved, or the first frame not held was shipped
	short   bool      // fewer copies than asked for, and the policy acts …
	begun   time.Time // … from then on
	renewed time.Time // as last heard
	fenced  bool
	told    []string // whom to take over from, as last told
	enough  bool     // as many as there should be were full when that was looked at last
	effects []effect
}

type memberState uint8

const (
	idle memberState = iota
	dialing
	filling
	primed
	full
)

func (s memberState) String() string {
	return [...]string{"idle", "dialing", "filling", "primed", "full"}[s]
}

// member is a candidate.
type member struct {
	name   string
	state  memberState
	acked  uint64
	moved  time.Time // last sign of life that counts against patience
	retry  time.Time // not dialled before
	missed int       // failures in a row
	quick  bool      // its connection broke while it worked: it is tried again before others
}

// What the shell does.
type (
	effect  any
	dial    struct{ name string }
	hangup  struct{ name string }
	shorten struct{ short bool } // the state of being short begins or ends
	tell    struct{ full []string }
	fence   struct{ epoch uint64 }
)

// What the shell reports.
type (
	candidates struct{ names []string }
	shipped    struct{} // one more frame
	answered   struct { // a standby took the greeting: frames follow from number from on
		name string
		from uint64
		full bool // and it has everything before
	}
	acked struct {
		name string
		ack
	}
	lost struct { // the connection ended, or never came about
		name string
	}
	refused struct { // by a standby that knows a higher epoch
		epoch uint64
	}
	named struct{ members []string } // the book names these as full, and nobody else for certain
	tick  struct {                   // renewed: when the last renewal of the lease that was granted was asked for
		renewed time.Time
	}
)

// Bounds of the wait before a member that failed is tried again.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
)

func (c *core) do(e effect) { c.effects = append(c.effects, e) }

// step takes one event.
func (c *core) step(now time.Time, event any) []effect {
	c.effects = nil
	if c.fenced {
		return nil
	}
	switch e := event.(type) {
	case candidates:
		c.elect(now, e.names)
	case shipped:
		c.shipped(now)
	case answered:
		c.answered(now, e)
	case acked:
		c.acked(now, e)
	case lost:
		if m := c.members[e.name]; m != nil && m.state != idle {
			c.miss(now, m)
		}
	case named:
		c.named = e.members
	case tick:
		c.renewed = e.renewed
	case refused:
		c.fenced = true
		for _, name := range c.order {
			c.idle(c.members[name])
		}
		c.do(fence(e))
		return c.effects
	}
	c.judge(now)
	return c.effects
}

// elect takes a new list of candidates. Who stands by and is still on it goes on, whatever its place: a standby is worth
// more than an order.
func (c *core) elect(now time.Time, names []string) {
	for _, name := range c.order {
		if !slices.Contains(names, name) {
			c.idle(c.members[name])
			delete(c.members, name)
		}
	}
	c.order = c.order[:0]
	for _, name := range names {
		if c.members[name] == nil {
			c.members[name] = &member{name: name}
		}
		if !slices.Contains(c.order, name) {
			c.order = append(c.order, name)
		}
	}
}

func (c *core) idle(m *member) {
	if m.state != idle {
		m.state = idle
		c.do(hangup{m.name})
	}
}

// miss counts a failure: the first one of a standby that worked is tried again at once, for the connection may have
// broken only; later ones wait longer and longer.
func (c *core) miss(now time.Time, m *member) {
	worked := m.state >= primed
	c.idle(m)
	m.missed++
	if m.quick = worked && m.missed == 1; m.quick {
		m.retry = now
		return
	}
	m.retry = now.Add(min(firstRetry<<min(m.missed-1, 10), lastRetry))
}

func (c *core) shipped(now time.Time) {
	if c.held == c.next-1 {
		c.since = now
	}
	for _, m := range c.members {
		if m.state != idle && m.acked == c.next-1 {
			m.moved = now
		}
	}
	c.next++
}

func (c *core) answered(now time.Time, e answered) {
	m := c.members[e.name]
	if m == nil || m.state != dialing {
		return
	}
	m.state, m.acked, m.moved = filling, e.from-1, now
	if e.full {
		m.state = full
	}
}

func (c *core) acked(now time.Time, e acked) {
	m := c.members[e.name]
	if m == nil || m.state < filling || e.high >= c.next {
		return
	}
	if e.high > m.acked {
		m.acked, m.moved, m.missed = e.high, now, 0
	}
	// The first chunk brings what makes other records readable, the data keys; until then a copy is none.
	if m.state == filling && e.fill > 0 {
		m.state = primed
	}
	if e.ack.full {
		m.state = full
	}
}

// judge draws the conclusions of an event.
func (c *core) judge(now time.Time) {
	for _, name := range c.order {
		m := c.members[name]
		// A fresh connection has something to answer even where no frame waits; one that stands by has only then.
		late := now.Sub(m.moved) >= c.patience && (m.state == dialing || m.state >= filling && m.acked < c.next-1)
		if late {
			m.missed++ // it hangs: no quick second try
			c.miss(now, m)
		}
	}
	trying, copies := c.dialSome(now)
	if copies >= c.copies { // who was to be filled in place of one that is back
		for _, name := range c.order {
			if m := c.members[name]; m.state == filling || m.state == primed && !c.counts(m) {
				c.idle(m)
			}
		}
	}
	c.raise(now)
	waiting := c.held < c.next-1
	switch {
	case !c.short && copies < c.copies && waiting && (trying < c.copies || now.Sub(c.since) >= 3*c.patience):
		c.short, c.begun = true, now
		c.gapLow = c.held
		c.do(shorten{true})
	case c.short && copies >= c.copies:
		c.short = false
		c.since = now
		c.do(shorten{false})
	}
	if c.short { // who is not named yet is waited for all the same: it has what only an operator would find
		kth, ok := c.kth(func(m *member) bool { return m.state >= primed })
		if !ok {
			kth = c.next - 1
		}
		c.held = max(c.held, kth)
		c.gapHigh = c.held
	}
	// An owner that was cut off from everybody looks the same as one whose standbys died, but only the latter has its
	// lease renewed. The former must keep to its credit: somebody may be about to repeat what it settles.
	switch {
	case c.strict: // by who is full: another may still have alive what was settled in a gap
		if kth, ok := c.kth(func(m *member) bool { return m.state == full && c.counts(m) }); ok {
			c.settled = max(c.settled, kth)
		}
	case !c.short || c.renewed.After(c.begun):
		c.settled = c.held
	}
	c.tellFull()
}

// dialSome calls candidates until k are standing by or being tried. It returns how many are, and how many of them count
// as copies.
func (c *core) dialSome(now time.Time) (trying, copies int) {
	for _, m := range c.members {
		if m.state != idle {
			trying++
		}
		if c.counts(m) {
			copies++
		}
	}
	for trying < c.copies {
		m := c.nextTry(now)
		if m == nil {
			break
		}
		c.call(now, m)
		trying++
	}
	return trying + c.dialNamed(now), copies
}

func (c *core) call(now time.Time, m *member) {
	m.state, m.moved = dialing, now
	c.do(dial{m.name})
}

// dialNamed calls standbys that the book names beside others that are being filled in their place: the former count as soon
// as they are back, the latter when they are full. It returns how many it called.
func (c *core) dialNamed(now time.Time) (called int) {
	if !c.byBook {
		return 0
	}
	soon := 0
	for _, m := range c.members {
		if m.state != idle && c.isNamed(m) {
			soon++
		}
	}
	for _, name := range c.order {
		m := c.members[name]
		if soon+called < c.copies && m.state == idle && !now.Before(m.retry) && c.isNamed(m) {
			c.call(now, m)
			called++
		}
	}
	return called
}

// nextTry is the candidate to be dialled: the one whose connection just broke, for it has the most; else the one that
// failed least, in the order of candidates.
func (c *core) nextTry(now time.Time) (best *member) {
	for _, name := range c.order {
		m := c.members[name]
		if m.state != idle || now.Before(m.retry) {
			continue
		}
		if m.quick {
			return m
		}
		if best == nil || m.missed < best.missed {
			best = m
		}
	}
	return best
}

// counts tells whether what a member acknowledges has a copy there.
func (c *core) counts(m *member) bool {
	return m.state >= primed && (!c.byBook || c.isNamed(m))
}

func (c *core) isNamed(m *member) bool { return slices.Contains(c.named, m.name) }

// raise moves held to what the k-th best copy acknowledged.
func (c *core) raise(now time.Time) {
	if kth, _ := c.kth(c.counts); kth > c.held {
		c.held, c.since = kth, now
	}
}

// kth is the last frame that k of the members meant acknowledged; false where there are fewer.
func (c *core) kth(meant func(*member) bool) (uint64, bool) {
	var acks []uint64
	for _, m := range c.members {
		if meant(m) {
			acks = append(acks, m.acked)
		}
	}
	if len(acks) < c.copies {
		return 0, false
	}
	slices.Sort(acks)
	return acks[len(acks)-c.copies], true
}

// tellFull reports the members to take over from when they change: those that are full, and where these are too few,
// those that were so last. A standby whose connection broke still has more than anybody else. It reports them as well when
// they are enough again, be they the same: what went without its copies meanwhile has them now.
func (c *core) tellFull() {
	fulls := 0
	for _, m := range c.members {
		if m.state == full {
			fulls++
		}
	}
	var now []string
	for _, name := range c.order {
		if c.members[name].state == full || fulls < c.copies && slices.Contains(c.told, name) {
			now = append(now, name)
		}
	}
	again := fulls >= c.copies && !c.enough
	if c.enough = fulls >= c.copies; again || !slices.Equal(now, c.told) {
		c.told = now
		c.do(tell{now})
	}
}

// lacking tells whether frame n, which is decided, went without its copies.
func (c *core) lacking(n uint64) bool { return n > c.gapLow && n <= c.gapHigh }

// pinned is the first frame that must be kept: a standby has it yet to acknowledge, or it is not held.
func (c *core) pinned() uint64 {
	first := c.held + 1
	for _, m := range c.members {
		if m.state >= filling {
			first = min(first, m.acked+1)
		}
	}
	return first
}
