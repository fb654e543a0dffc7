package shaping

import "time"

// Cap lets so many messages begin in a span of time, whoever receives them, so that what they point to is not
// overrun (requirement R57). They are spread evenly over the span: no span, wherever it begins, holds more of them. It is
// not safe for concurrent use.
type Cap struct {
	step     time.Duration // from one message to the next
	slack    time.Duration // how much of a delay may be made up for
	next     time.Time     // when the next one is due
	promised time.Time     // to whoever asked last in vain
}

// promiseMost is how far ahead whoever asks in vain is sent; later ones find what the earlier ones left.
const promiseMost = time.Second

// NewCap allows messages (at least 1) in each span per. The hundredth part of the span that a message may be late without
// being lost is taken off the rate, so that the bound holds.
func NewCap(messages int, per time.Duration) Cap {
	slack := min(per/100, 50*time.Millisecond)
	if messages == 1 {
		slack = 0
	}
	return Cap{step: (per + slack + time.Duration(messages) - 1) / time.Duration(messages), slack: slack}
}

// Adopt takes over from a cap with other figures what was begun under it.
func (c *Cap) Adopt(old *Cap) {
	c.next = old.next
	if most := old.next.Add(c.step - old.step); !old.next.IsZero() && most.After(c.next) {
		c.next = most
	}
}

// Rate is how many messages a second may begin.
func (c *Cap) Rate() float64 { return float64(time.Second) / float64(c.step) }

// Ready tells whether a message may begin now, and otherwise when to ask again. Each that asks in vain is told another
// moment, so that not all of them come back at once.
func (c *Cap) Ready(now time.Time) (time.Time, bool) {
	if !now.Before(c.Opens()) {
		return now, true
	}
	c.promised = c.promised.Add(c.step)
	if c.promised.Before(c.next) || c.promised.Sub(now) > promiseMost {
		c.promised = c.next
	}
	return c.promised, false
}

// Opens is when the next message may begin; the zero time or a past one = it may now. Whoever only looks asks this.
func (c *Cap) Opens() time.Time {
	if c.next.IsZero() {
		return c.next
	}
	return c.next.Add(-c.slack)
}

// Take notes that a message begins now; Ready must have said so.
func (c *Cap) Take(now time.Time) {
	if now.After(c.next) {
		c.next = now
	}
	c.next = c.next.Add(c.step)
}
