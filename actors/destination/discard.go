package destination

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// ErrDiscarding says that the same destination is being gone through already.
var ErrDiscarding = errors.New("mail of this destination is being discarded already")

// interrupted begins the detail of what ends as interrupted, before the reason: the code is the relay's own (requirement R74).
const interrupted = "592 interrupted: "

// Reasons why deliveries end as interrupted.
const (
	discarded = "discarded by the stop function"
	cancelled = "the reservation was cancelled"
)

// purge is what an outbox remembers while deliveries are being discarded.
type purge struct {
	ghosts map[mail.Seq]struct{} // settled since the scan began: it may still show them
}

// discardRounds bounds how often a destination is gone through again for what moved meanwhile.
const discardRounds = 3

// Discard ends every queued delivery of k to d that was accepted before a moment, of the machine's clock, as
// interrupted, in steps of a scan, each durable before the next, and tells how many. What is in delivery is left to its
// outcome: see gate.Gate.Discard for what becomes of it then. It ends early with ctx; to begin anew does no harm.
func (r *Registry) Discard(ctx context.Context, d mail.Destination, k gate.Key, before time.Time) (n int, err error) {
	return r.interrupt(ctx, d, func(b *Outbox, at protocol.Cursor) (ds []mail.Delivery, next protocol.Cursor, more bool, err error) {
		ds, next, more, _, err = b.env.Queue.Scan(b.dest, at, endOfTime, b.env.Batch)
		return ds, next, more, err
	}, func(d *mail.Delivery) bool { return concerns(k, d) && d.Accepted().Before(before) }, discarded)
}

// Cancel ends every queued delivery to d that is due at that very moment and meant, as Discard does, without a look at
// any other. meant is called with a lock held.
func (r *Registry) Cancel(ctx context.Context, d mail.Destination, due time.Time, meant func(*mail.Delivery) bool) (n int, err error) {
	return r.interrupt(ctx, d, func(b *Outbox, at protocol.Cursor) ([]mail.Delivery, protocol.Cursor, bool, error) {
		return b.env.Queue.ScanAt(b.dest, at, due, b.env.Batch)
	}, meant, cancelled)
}

// look is one step through what may be meant.
type look func(*Outbox, protocol.Cursor) (ds []mail.Delivery, next protocol.Cursor, more bool, err error)

func (r *Registry) interrupt(ctx context.Context, d mail.Destination, scan look, meant func(*mail.Delivery) bool, why string) (n int, err error) {
	s := r.shard(d)
	s.mu.Lock()
	b := r.entry(s, d, r.shell.Clock.Now()).outbox
	begun := b.beginPurge() // keeps it from being forgotten
	s.mu.Unlock()
	if !begun {
		return 0, ErrDiscarding
	}
	defer b.endPurge()
	for range discardRounds {
		done, moved, err := r.discardOnce(ctx, b, scan, meant, why)
		if n += done; err != nil || moved == 0 {
			return n, err
		}
	}
	return n, nil
}

// discardOnce goes through what scan shows of the destination. moved is how many deliveries it could not judge.
func (r *Registry) discardOnce(ctx context.Context, b *Outbox, scan look, meant func(*mail.Delivery) bool, why string) (n, moved int, err error) {
	var at protocol.Cursor
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return n, moved, err
		}
		var ds []mail.Delivery
		b.forgetGhosts()
		ds, at, more, err = scan(b, at)
		if err != nil {
			return n, moved, fmt.Errorf("look for what to discard: %w", err)
		}
		ps, skipped := b.seize(ds, meant)
		moved += skipped
		var kept sync.WaitGroup
		var failed error
		var mu sync.Mutex
		kept.Add(len(ps))
		for _, p := range ps {
			b.interrupt(r.shell.Clock.Now(), p, why, func(err error) {
				defer kept.Done()
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			})
		}
		all := make(chan struct{})
		go func() {
			kept.Wait()
			close(all)
		}()
		select {
		case <-all:
		case <-ctx.Done(): // they wait for standbys, perhaps for long; what was seized ends all the same
			return n, moved, ctx.Err()
		}
		if failed != nil {
			return n, moved, fmt.Errorf("keep what was discarded: %w", failed)
		}
		n += len(ps)
	}
	return n, moved, nil
}

// endOfTime is later than any due time.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func (b *Outbox) beginPurge() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.purge != nil {
		return false
	}
	b.purge = &purge{ghosts: map[mail.Seq]struct{}{}}
	return true
}

func (b *Outbox) endPurge() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.purge = nil
}

func (b *Outbox) forgetGhosts() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.purge.ghosts)
}

// seize takes those of ds into flight that are meant and in nobody's hands, so that no scan and no session meets them
// any more. skipped is how many a newer word than the scan's concerns: the next look finds them where they are now.
func (b *Outbox) seize(ds []mail.Delivery, meant func(*mail.Delivery) bool) (ps []*protocol.Parcel, skipped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.known(ds)
	defer b.env.known.Put(known)
	for i := range ds {
		d := &ds[i]
		if !meant(d) {
			continue
		}
		if _, ghost := b.purge.ghosts[d.Seq]; ghost {
			skipped++
			continue
		}
		if known.is[i] {
			continue
		}
		// One that was stored a moment ago may be offered yet: only the disk says then that it is no more.
		b.disk.newest = max(b.disk.newest, d.Seq)
		p := &protocol.Parcel{Job: mail.Job{Delivery: *d}}
		b.launch(p)
		ps = append(ps, p)
	}
	return ps, skipped
}

// interrupt ends p as interrupted (requirement R34); why is one of the reasons above.
func (b *Outbox) interrupt(now time.Time, p *protocol.Parcel, why string, done func(error)) {
	d := &p.Job.Delivery
	o := mail.Outcome{Result: mail.Failed, Stage: mail.StageNone, Status: mail.StatusInterrupted, Detail: interrupted + why, At: now}
	s := mail.Settlement{Delivery: d, Event: event(d, &o, "")}
	s.Event.Kind = mail.EventDiscarded
	b.env.Queue.Settle(s, b.durable(p, nil, b.watched(&s, done)))
}
