package destination

import (
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// refuseLarge ends a delivery in flight that the receiver takes nothing of that size of: it would only say so itself, at the
// end of the whole message (requirements D2, R96 status 8).
func (b *Outbox) refuseLarge(now time.Time, p *protocol.Parcel, receiver string) {
	b.mu.Lock()
	most := b.largest
	b.mu.Unlock()
	b.Settle(now, p, mail.Outcome{Result: mail.Failed, Stage: mail.StageNone, Status: mail.StatusSize, Scope: mail.ScopeMessage, At: now,
		Detail: fmt.Sprintf("%d octets: %s takes messages of %d at most", p.Job.Delivery.Size, receiver, most)}, receiver, nil)
}

// suppressed tells whether d's recipient gets no mail (invariant I6).
func (e *Env) suppressed(d *mail.Delivery) bool {
	if e.Suppressed == nil {
		return false
	}
	_, no := e.Suppressed(d.Tenant, d.List, d.To)
	return no
}

// end settles a delivery in flight that is not to be attempted: its lifetime has ended, it is discarded, or its address gets no mail. A
// reason that has passed meanwhile puts it back.
func (b *Outbox) end(now time.Time, p *protocol.Parcel, receiver string) {
	d := &p.Job.Delivery
	if b.env.over(now, d) {
		b.expire(now, p, receiver)
		return
	}
	var why mail.Suppression
	no := false
	if b.env.Suppressed != nil {
		why, no = b.env.Suppressed(d.Tenant, d.List, d.To)
	}
	if !no {
		b.Return(p)
		return
	}
	o := mail.Outcome{Result: mail.Failed, At: now}
	s := mail.Settlement{Delivery: d, Event: why.Event(event(d, &o, receiver))}
	b.env.Queue.Settle(s, b.durable(p, nil, b.watched(&s, nil)))
}
