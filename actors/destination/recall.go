package destination

import (
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
)

// Figures of the recall.
const (
	// recallAfter is how long mail may wait in hand behind a dot that is not answered. The session that held it loses its
	// connection, so it is more than a busy receiver takes.
	recallAfter = 10 * time.Second

	// recallLook is the shortest time between two looks through what is in flight.
	recallLook = time.Second
)

// recall takes back what sessions hold behind an earlier message whose final dot is not answered: the envelope of the
// next message goes out with that dot, and a receiver may take ten minutes for it (RFC 5321 §4.5.3.2.6). The session
// finds out when it asks for clearance. b.mu is held.
func (b *Outbox) recall(now time.Time) {
	if now.Sub(b.swept) < recallLook {
		return
	}
	b.swept = now
	limit := now.Add(-recallAfter).UnixMilli()
	for i := len(b.flight) - 1; i >= 0; i-- { // backwards: land fills the hole with what was looked at
		p := b.flight[i]
		if since := p.Behind.Load(); since == 0 || since > limit || !p.Fate.CompareAndSwap(protocol.Held, protocol.Recalled) {
			continue
		}
		b.land(p)
		again := &protocol.Parcel{Job: p.Job, Cost: p.Cost}
		b.putBack(again)
		b.env.Counters.Recalled.Add(1)
	}
}

// renew readies a parcel that a session gave back for the next one.
func renew(p *protocol.Parcel) *protocol.Parcel {
	p.Fate.Store(protocol.Held)
	p.Behind.Store(0)
	p.Dot.Store(protocol.NoDot)
	return p
}
