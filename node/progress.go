package node

import (
	"context"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// Whether all mail makes progress is judged by what is on disk, not by those who ought to see to it (requirement N7): a
// delivery that still waits a while after its lifetime ended is one that nobody has in hand.

const (
	progressEvery = time.Minute
	overdueAfter  = 15 * time.Minute // as long as a transaction under way may last
	overdueLook   = 20_000           // deliveries of one look
	overdueTold   = 5                // of which the log names the messages
)

// overdue is what the last looks at the queue have found. What two looks in a row find is without progress: one look alone
// may come while the deliveries are being ended.
type overdue struct {
	mu    sync.Mutex
	seen  map[mail.Seq]struct{} // found by the last look
	stuck []service.Overdue     // by the last two
	from  mail.Destination      // where the next look begins
}

func (o *overdue) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.stuck)
}

func (o *overdue) list() []service.Overdue {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stuck[:min(len(o.stuck), overdueTold)]
}

// logGap is what waits by the event log, less what the queue holds: 0 at rest.
func (e *engine) logGap() int64 { return e.store.Counters().Left() - int64(e.store.Waiting()) }

// mindProgress looks at the queue.
func (n *Node) mindProgress(e *engine) {
	if err := n.lookForOverdue(e.life, e); err != nil && e.life.Err() == nil {
		n.log.Warn("the queue could not be looked through for mail without progress", "error", err)
	}
}

// lookForOverdue looks at a bounded number of deliveries that are long due, the oldest of each destination first; the next
// look goes on with the next ones. While this node may not send, nothing ends and nothing is overdue.
func (n *Node) lookForOverdue(ctx context.Context, e *engine) error {
	o, now := &e.overdue, n.clock.Now()
	if !e.holds() || !e.owned.Load() {
		o.mu.Lock()
		o.seen, o.stuck = nil, nil
		o.mu.Unlock()
		return nil
	}
	var all []mail.Destination
	err := e.store.DestinationsDue(now.Add(-overdueAfter), func(d mail.Destination, _ int, _ time.Time) error {
		all = append(all, d)
		return nil
	})
	if err != nil {
		return err
	}
	found := map[mail.Seq]struct{}{}
	var stuck []service.Overdue
	left := overdueLook
	at := 0
	for i, d := range all { // where the last look ended
		if d == o.from {
			at = i
		}
	}
	o.from = mail.Destination{}
	for i := range all {
		d := all[(at+i)%len(all)]
		if left <= 0 {
			o.from = d
			break
		}
		var cursor queue.Cursor
		for more := true; more && left > 0; {
			var ds []mail.Delivery
			if ds, cursor, more, _, err = e.store.Scan(d, cursor, now.Add(-overdueAfter), min(left, scanBatch)); err != nil {
				return err
			}
			if left -= len(ds); ctx.Err() != nil {
				return ctx.Err()
			}
			for i := range ds {
				ends := e.actors.Destinations().Ends(&ds[i])
				if ends.IsZero() || now.Before(ends.Add(overdueAfter)) {
					continue
				}
				found[ds[i].Seq] = struct{}{}
				if _, again := o.seen[ds[i].Seq]; again {
					stuck = append(stuck, service.Overdue{Message: ds[i].Message, Domain: ds[i].Domain, Ended: ends})
				}
			}
		}
	}
	o.mu.Lock()
	o.seen, o.stuck = found, stuck
	o.mu.Unlock()
	if len(stuck) > 0 {
		var messages []string
		for _, s := range stuck[:min(len(stuck), overdueTold)] {
			messages = append(messages, s.Message.String())
		}
		n.log.Error("mail makes no progress although its lifetime has ended: this is a fault of ekiden; a restart takes it up again",
			"deliveries", len(stuck), "messages", messages)
	}
	return nil
}

// Conservation implements service.Node.
func (n nodeService) Conservation() (c service.Conservation) {
	if e := n.engine.Load(); e != nil {
		c.Books = true
		c.Gap, c.LogGap = int64(n.numbers.gap(e.store.Waiting())), e.logGap()
		c.Overdue, c.Oldest = e.overdue.count(), e.overdue.list()
	}
	return c
}
