package source

import (
	"context"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Loan is a slot for somebody who carries no mail, such as a probe: it counts against the receiver's limits like a
// session's, and goes at the same pace. Its methods are for one goroutine.
type Loan struct {
	sources *Sources
	book    *Book
	lane    *lane
	left    int
	until   time.Time
}

// loanLook is how long somebody waits for a slot that no time is known for.
const loanLook = 200 * time.Millisecond

// Borrow waits for a slot of source at the receiver of limits.
func (x *Sources) Borrow(ctx context.Context, source netip.Addr, limits *shaping.Limits) (*Loan, error) {
	b := x.warden(source).book
	for {
		now := x.run.Clock.Now()
		b.mu.Lock()
		l := b.lane(now, limits)
		slots, messages, until := 0, 0, time.Time{}
		if b.shut() == protocol.ReasonNone {
			slots, messages, until = l.to.control.Grant(now, 1, l.own)
		}
		if slots > 0 {
			l.open++
			l.to.open++
			l.loans++
			b.mu.Unlock()
			return &Loan{sources: x, book: b, lane: l, left: messages, until: until}, nil
		}
		b.mu.Unlock()
		if err := wait(ctx, now, until); err != nil {
			return nil, err
		}
	}
}

// Next waits until one more may be begun; false where the slot is to be given back first.
func (n *Loan) Next(ctx context.Context) bool {
	for ctx.Err() == nil {
		now := n.sources.run.Clock.Now()
		if n.left > 0 && now.Before(n.until) {
			n.left--
			return true
		}
		n.book.mu.Lock()
		n.lane.to.control.Release(now, 0, n.left, n.lane.own)
		var until time.Time
		n.left, until = n.lane.to.control.Renew(now, 1, n.lane.own)
		refusal := n.lane.to.control.Refusal()
		n.book.mu.Unlock()
		if n.left > 0 {
			n.until = until
			continue
		}
		if refusal != shaping.Rate || wait(ctx, now, until) != nil {
			return false
		}
	}
	return false
}

// Observe tells the controller what the receiver answered.
func (n *Loan) Observe(o mail.Outcome, connected bool) {
	w := n.sources.warden(n.book.source)
	n.book.mu.Lock()
	n.book.observe(n.sources.run.Clock.Now(), n.lane, o, connected)
	effects := n.book.flush()
	n.book.mu.Unlock()
	w.act(effects)
}

// Return gives the slot back to who waits.
func (n *Loan) Return() {
	w := n.sources.warden(n.book.source)
	now := n.sources.run.Clock.Now()
	n.book.mu.Lock()
	n.lane.loans--
	n.book.release(now, n.lane, n.left)
	n.left = 0
	n.book.dispatch(now, n.lane.to)
	effects := n.book.flush()
	n.book.mu.Unlock()
	w.act(effects)
}

// wait lasts until a moment of the product clock, seen from now, or a little where there is none.
func wait(ctx context.Context, now, until time.Time) error {
	d := loanLook
	if until.After(now) {
		d = min(until.Sub(now), time.Second) // the clock may be set meanwhile
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
