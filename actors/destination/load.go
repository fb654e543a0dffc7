package destination

import (
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// Load is one look at the disk: begin it, scan without any lock held, and merge what it brought.
type Load struct {
	Cursor protocol.Cursor
	Until  time.Time
	N      int
}

// BeginLoad starts a look at what is due by now. From here to Merge the outbox remembers what is settled, because the
// scan may still show it. false where one is under way already.
func (b *Outbox) BeginLoad(now time.Time) (Load, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := &b.disk
	if k.loading {
		return Load{}, false
	}
	k.loading, k.more, k.missed = true, false, false
	if !k.pass {
		k.until = now
		if k.cursor == nil {
			k.headed = now
			k.before, k.passed = k.passed, 0
		}
	}
	k.pass = true
	b.env.Counters.Scans.Add(1)
	return Load{Cursor: k.cursor, Until: k.until, N: b.env.Batch}, true
}

// Merge ends a load with what the scan brought.
func (b *Outbox) Merge(now time.Time, ds []mail.Delivery, next protocol.Cursor, more bool, nextDue time.Time) {
	wakes, dead, doubted, tell := b.merge(now, ds, next, more, nextDue)
	for _, p := range dead {
		b.expire(now, p, "")
	}
	b.settleDoubts(now, doubted)
	for _, w := range wakes {
		w.Wake()
	}
	if tell {
		b.tell(protocol.Arrived{})
	}
}

func (b *Outbox) merge(now time.Time, ds []mail.Delivery, next protocol.Cursor, more bool, due time.Time) (
	wakes []protocol.Waker, dead, doubted []*protocol.Parcel, tell bool,
) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := &b.disk
	known := b.known(ds)
	defer b.env.known.Put(known)
	_, silent := b.env.domainQuiet(now, b.domain)
	for i := range ds {
		d := &ds[i]
		k.newest = max(k.newest, d.Seq)
		if known.is[i] {
			continue
		}
		d.Dotted = d.Dotted && !slices.Contains(k.cleared, d.Seq)
		if d.Dotted && b.env.leased() {
			p := &protocol.Parcel{Job: mail.Job{Delivery: *d}}
			p.Job.Delivery.Dotted = false
			b.launch(p)
			doubted = append(doubted, p)
			continue
		}
		if d.Dotted || b.closed(now, d, noSource, "") {
			if b.env.over(now, d) && b.env.leased() && len(b.flight) < flightMost {
				p := &protocol.Parcel{Job: mail.Job{Delivery: *d}}
				b.launch(p)
				dead = append(dead, p)
				continue
			}
			b.held = true
			k.passed++
			continue
		}
		if silent || d.Quiet != "" {
			if end, quiet := b.env.quiet(now, d); quiet {
				k.passed++
				tell = b.setNextDue(end) || tell
				continue
			}
		}
		s := b.shelves[b.shelf(d)]
		if len(s.waiting) >= 2*s.share {
			s.skipped = true
			continue
		}
		s.waiting.push(refTo(&protocol.Parcel{Job: mail.Job{Delivery: *d}}))
		if w, t := b.rouse(s); w != nil {
			wakes = append(wakes, w)
		} else if t {
			tell = true
		}
	}
	if len(ds) > 0 {
		k.edge = ds[len(ds)-1].Priority
	}
	b.endLoad(next, more)
	if more && len(ds) > 0 {
		k.top = max(k.top, ds[len(ds)-1].Priority)
	}
	if !due.IsZero() && b.setNextDue(due) {
		tell = true
	}
	return wakes, dead, doubted, tell
}

// endLoad moves the cursor on, but not past what was kept out of the window meanwhile.
func (b *Outbox) endLoad(next protocol.Cursor, more bool) {
	k := &b.disk
	if !k.more {
		k.top = 0
	}
	k.cursor, k.pass, k.loading = next, more, false
	for i := range k.late {
		if d := &k.late[i]; k.behind(d) {
			b.rewindTo(d)
		}
	}
	k.more = k.more || more
	if k.missed || k.again && !more {
		b.rewind()
	}
	k.ghosts, k.cleared, k.late, k.missed = nil, nil, nil, false
}

// FailLoad ends a load that brought nothing because the store failed. The next one starts from the head.
func (b *Outbox) FailLoad() {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := &b.disk
	b.endLoad(k.cursor, true)
	b.rewind()
}

// Recover makes the outbox believe nothing but the disk, where waiting deliveries are, cleaning of them cleaning mail,
// and the first is due at due: at the start of a node, and, with none told, when its actor has failed. What is in flight stays in
// flight.
func (b *Outbox) Recover(waiting, cleaning int, due time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.shelves {
		for i := range s.waiting {
			b.drop(s.waiting[i].p)
		}
		s.waiting, s.asked, s.skipped = nil, 0, false
	}
	if waiting > 0 {
		b.total = waiting
		b.clean += cleaning // beside what has come since the store was opened
	}
	b.told, b.quiet, b.alarm, b.look = false, false, time.Time{}, time.Time{}
	b.nextDue = due
	b.rewind()
}

// Reopen makes what was passed over because of a gate or a suspension come up again; true where there was any. now
// tells that it is because something has changed, and not to look what has expired.
func (b *Outbox) Reopen(now bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now {
		b.disk.before, b.disk.passed = 0, 0
	}
	if !b.held {
		return false
	}
	b.held = false
	b.rewind()
	return true
}

// lookAgain has what was passed over looked at soon. It takes no lock: whoever calls it may hold another outbox's.
func (b *Outbox) lookAgain() {
	b.again.Store(true)
	b.tell(protocol.Arrived{})
}

// idle tells whether nothing is left that the destination would have to be remembered for.
func (b *Outbox) idle(now time.Time, after time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.disk.more || b.disk.loading || b.told || b.held || b.purge != nil || len(b.flight) > 0 || !b.nextDue.IsZero() || now.Sub(b.touched) < after {
		return false
	}
	for _, s := range b.shelves {
		if len(s.waiting) > 0 || s.sessions > 0 || s.asked > 0 || s.skipped {
			return false
		}
	}
	return true
}
