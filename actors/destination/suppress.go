package destination

import (
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

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
