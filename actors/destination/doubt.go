package destination

import (
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// A delivery is in doubt when its final dot is out and no answer is known. Where nobody crashes the session tells. Where
// mail in doubt is not simply sent again, the disk must tell as well, so there the record says that the dot is about to go
// before it goes, and whoever finds such a record later knows as much as a session that lost its connection (N3).

// doubt decides about an outcome that is in doubt, and writes the decision into its words. True where the delivery is given
// up: that says nothing about its address.
func (e *Env) doubt(d *mail.Delivery, o *mail.Outcome) (given bool) {
	if !o.InDoubt || e.Doubt == nil {
		return false
	}
	way := e.Doubt(d.Tenant, d.Group)
	o.Detail += ": " + way.String()
	if way != mail.DoubtGiveUp {
		return false
	}
	o.Result, o.Status = mail.Failed, mail.StatusOther
	return true
}

// Ready puts on disk that p's final dot is about to go. Mail that is sent again anyway needs no such mark.
func (b *Outbox) Ready(p *protocol.Parcel) bool {
	d := &p.Job.Delivery
	if b.env.Doubt == nil || b.env.Doubt(d.Tenant, d.Group) == mail.DoubtRetry || p.Marked {
		return true
	}
	if !p.Claim() { // it was taken back
		return false
	}
	marked := *d
	marked.Dotted = true
	done := make(chan error, 1)
	b.env.Queue.Mark(&marked, func(err error) { done <- err })
	if err := <-done; err != nil {
		return false
	}
	p.Marked = true
	return true
}

// unmark takes the mark off the disk of a parcel whose dot did not go, and returns it then. False where it has none.
func (b *Outbox) unmark(p *protocol.Parcel) bool {
	if !p.Marked {
		return false
	}
	p.Marked = false
	b.env.Queue.Mark(&p.Job.Delivery, func(err error) {
		if err == nil { // else it stays in flight: the store has failed
			b.unmarked(p.Job.Delivery.Seq)
			b.Return(p)
		}
	})
	return true
}

// unmarked notes that a delivery's mark is off the disk. A scan that is under way may have read it before, and would find a
// dot where none went: given up, or held, by mistake.
func (b *Outbox) unmarked(seq mail.Seq) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.disk.loading {
		b.disk.cleared = append(b.disk.cleared, seq)
	}
}

// settleDoubts tells of deliveries whose final dot was about to go when the node that had them ended.
func (b *Outbox) settleDoubts(now time.Time, list []*protocol.Parcel) {
	for _, p := range list {
		b.Settle(now, p, mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, Status: mail.StatusOther,
			Detail: "the node ended after the final dot", InDoubt: true, At: now}, "", nil)
	}
}
