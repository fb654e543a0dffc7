package destination

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// Settle turns an outcome into what the store keeps: the event, and the delivery as it waits from now on where it was
// deferred. The parcel stays in flight until that is durable, so that no scan brings it back before.
func (b *Outbox) Settle(now time.Time, p *protocol.Parcel, o mail.Outcome, receiver string, done func(error)) {
	d := &p.Job.Delivery
	if o.At.IsZero() {
		o.At = now
	}
	given := b.env.doubt(d, &o)
	s := mail.Settlement{Delivery: d, Event: event(d, &o, receiver)}
	s.Event.NoSuppress = s.Event.NoSuppress || given || unjudged(d, &o)
	p.Dot.Store(protocol.NoDot)
	if o.InDoubt {
		b.env.Counters.InDoubt.Add(1)
	}
	held := o.Advice != nil && b.env.hold(now, d, &o, receiver)
	if gone := b.env.Suspensions.answered(d.Seq, o.Result == mail.Delivered); (held || gone) && b.env.Held != nil {
		b.env.Held()
	}
	if o.Result == mail.Deferred {
		next := *d
		next.Dotted = false
		next.Expires = b.env.ends(d)
		next.Due = nextDue(now, &next, o, b.env.Rand())
		next.Expires = d.Expires
		if end, quiet := b.env.quiet(next.Due, d); quiet {
			next.Due = end
		}
		if o.Stage != mail.StageNone {
			next.Excused = s.Event.NoSuppress
			if next.Attempts < ^uint16(0) {
				next.Attempts++
			}
		}
		next.InDoubt = next.InDoubt || o.InDoubt
		next.Source = b.comesFrom(now, d, &o, receiver)
		s.Next, s.Event.Next = &next, next.Due
	}
	b.env.Queue.Settle(s, b.durable(p, s.Next, b.watched(&s, done)))
}

// unjudged tells whether o is the end of a lifetime in which nothing was learned about d's address: there was no attempt, or the
// last one was answered to somebody else (R100).
func unjudged(d *mail.Delivery, o *mail.Outcome) bool {
	return o.Result == mail.Failed && o.Stage == mail.StageNone && (d.Attempts == 0 || d.Excused)
}

// comesFrom is where a deferred delivery is to be tried again from. Whoever greylists knows a sender by its address: from
// another it would be a stranger again. What was refused because of its source's address goes by another one (R43). An answer
// to the recipient that says something else is over with that.
func (b *Outbox) comesFrom(now time.Time, d *mail.Delivery, o *mail.Outcome, receiver string) netip.Addr {
	switch {
	case o.Advice != nil && o.Advice.Action == mail.ActSameSource:
		return o.Source
	case o.Advice != nil && o.Advice.Elsewhere:
		return b.elsewhere(now, d, o.Source, receiver)
	case o.Stage >= mail.StageRcpt && !o.Reply.IsZero():
		return noSource
	}
	return d.Source
}

// elsewhere is another source of the delivery's pool that is not suspended: not the same for all deliveries, so that none of
// them gets everything that one was refused.
func (b *Outbox) elsewhere(now time.Time, d *mail.Delivery, not netip.Addr, receiver string) netip.Addr {
	pool := b.env.Sources(d.Pool)
	at := slices.Index(pool, not)
	if at < 0 || len(pool) < 2 {
		return noSource
	}
	others := len(pool) - 1
	for i := range others {
		a := pool[(at+1+(int(d.Seq%mail.Seq(others))+i)%others)%len(pool)]
		if b.env.Suspensions.match(now, b.domain, receiver, a, d) == nil {
			return a
		}
	}
	return noSource
}

// durable is what the store calls once a settlement is safe.
func (b *Outbox) durable(p *protocol.Parcel, next *mail.Delivery, done func(error)) func(error) {
	return func(err error) {
		b.settled(p, next, err)
		if done != nil {
			done(err)
		}
	}
}

// watched adds Env.Settled to done. The settlement is copied only where somebody wants to see it.
func (b *Outbox) watched(s *mail.Settlement, done func(error)) func(error) {
	if b.env.Settled == nil {
		return done
	}
	kept := *s
	return func(err error) {
		b.env.Settled(&kept, err)
		if done != nil {
			done(err)
		}
	}
}

// settled is called once an outcome is durable, or the store failed. In the second case the parcel stays in flight:
// what the receiver has must not be sent again while this process knows of it, and nothing more is begun.
func (b *Outbox) settled(p *protocol.Parcel, next *mail.Delivery, err error) {
	b.env.Budget.give(p.Cost)
	p.Cost = 0
	if err != nil {
		b.env.Counters.StoreErr.Add(1)
		b.env.Halt(err)
		return
	}
	d := &p.Job.Delivery
	b.mu.Lock()
	b.land(p)
	if b.disk.loading {
		b.disk.ghosts = append(b.disk.ghosts, d.Seq)
	}
	if b.purge != nil {
		b.purge.ghosts[d.Seq] = struct{}{}
	}
	tell := false
	if next == nil {
		b.total--
		if d.Cleaning {
			b.clean = max(0, b.clean-1)
		}
	} else {
		tell = b.setNextDue(next.Due)
	}
	b.mu.Unlock()
	if tell {
		b.tell(protocol.Arrived{})
	}
}

// expire ends a delivery that is over: it fails where its lifetime has ended (R46, E-26).
func (b *Outbox) expire(now time.Time, p *protocol.Parcel, receiver string) {
	if b.env.discards(&p.Job.Delivery) {
		b.interrupt(now, p, discarded, nil)
		return
	}
	b.env.Counters.Expired.Add(1)
	b.Settle(now, p, mail.Outcome{Result: mail.Failed, Stage: mail.StageNone, Status: mail.StatusTimeout,
		Detail: "lifetime exceeded", At: now}, receiver, nil)
}

// event tells what happened to d.
func event(d *mail.Delivery, o *mail.Outcome, receiver string) mail.Event {
	e := mail.Event{
		At: o.At.Truncate(time.Millisecond), Message: d.Message, Delivery: d.Seq, Tenant: d.Tenant, Group: d.Group,
		From: d.From, To: d.To, Domain: d.Domain, Composition: d.Composition, User: d.User, APIData: d.APIData, Cleaning: d.Cleaning,
		Taken: d.Taken, Own: d.Own, Attempt: d.Attempts, Receiver: receiver, Stage: o.Stage,
		InDoubt: o.InDoubt, Reply: o.Reply, Detail: o.Detail, Source: o.Source, Remote: o.Remote, MX: o.MX, TLS: o.TLS,
	}
	e.Judge(o)
	if o.Stage != mail.StageNone && e.Attempt < ^uint16(0) {
		e.Attempt++
	}
	switch o.Result {
	case mail.Delivered:
		e.Kind = mail.EventDelivered
	case mail.Failed:
		e.Kind = mail.EventFailed
	default:
		e.Kind = mail.EventDeferred
	}
	return e
}

// Dismiss settles up to n waiting deliveries with one outcome that concerns them all: a domain that does not exist, or
// hosts nobody could reach. It tells how many it settled. What is stopped is left as it is. only is the shelf whose mail
// that is; -1 is all that goes to the domain's own hosts.
func (b *Outbox) Dismiss(now time.Time, o mail.Outcome, receiver string, n, only int) int {
	b.mu.Lock()
	var ps, dead []*protocol.Parcel
	for i, s := range b.shelves {
		if only >= 0 && i != only || only < 0 && s.speed.Routed() {
			continue
		}
		for len(s.waiting) > 0 && len(ps)+len(dead) < n {
			p := s.waiting.pop()
			switch d := &p.Job.Delivery; {
			case b.env.over(now, d):
				b.launch(p)
				dead = append(dead, p)
			case b.env.stopped(d):
				b.drop(p)
				b.held = true
			default:
				b.launch(p)
				ps = append(ps, p)
			}
		}
	}
	b.mu.Unlock()
	for _, p := range ps {
		b.Settle(now, p, o, receiver, nil)
	}
	for _, p := range dead {
		b.expire(now, p, receiver)
	}
	return len(ps) + len(dead)
}

// Sweep fails up to n deliveries of the window whose lifetime has ended, for a destination that cannot send.
func (b *Outbox) Sweep(now time.Time, receiver string, n int) int {
	b.mu.Lock()
	var dead []*protocol.Parcel
	for _, s := range b.shelves {
		s.waiting.filter(func(p *protocol.Parcel) bool {
			if len(dead) == n || !b.env.over(now, &p.Job.Delivery) {
				return true
			}
			dead = append(dead, p)
			return false
		})
	}
	for _, p := range dead {
		b.launch(p)
	}
	b.mu.Unlock()
	for _, p := range dead {
		b.expire(now, p, receiver)
	}
	return len(dead)
}
