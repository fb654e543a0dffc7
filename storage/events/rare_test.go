package events

import (
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// inSteps searches anew from every position a search tells that it has come to, and counts the searches.
func (r *rig) inSteps(q Query) (found []mail.Event, steps int) {
	r.Helper()
	for {
		at := q.After
		q.Reached = func(c Cursor) bool { at = c; return false }
		some, _ := r.find(q)
		found = append(found, some...)
		if steps++; at == q.After {
			return found, steps
		}
		q.After = at
	}
}

// TestRareEvents: a search that hardly anything matches can be ended on its way and goes on there; at the end it has come
// behind all there is, and begins there when more has been written.
func TestRareEvents(t *testing.T) {
	r := newRig(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	rare := mail.Event{Kind: mail.EventDelivered, At: now, Group: "rare"}
	const blocks = 2*chunkBlocks + 10
	for i := range blocks {
		e := mail.Event{Kind: mail.EventDelivered, At: now, Group: "common", Delivery: mail.Seq(i)}
		if i == chunkBlocks+3 || i == blocks-1 {
			e.Group = rare.Group
		}
		r.write(now, e)
	}
	found, steps := r.inSteps(Query{Group: "rare"})
	if want := []mail.Seq{chunkBlocks + 3, blocks - 1}; !slices.Equal(seqs(found), want) || steps < 3 {
		t.Errorf("found %v in %d steps, want %v in three or more", seqs(found), steps, want)
	}
	var end Cursor
	if err := r.Search(t.Context(), Query{Group: "none", Reached: func(c Cursor) bool { end = c; return true }}, nil); err != nil || end != r.End().Next() {
		t.Errorf("came to %v, %v; want %v", end, err, r.End().Next())
	}
	r.write(now, rare)
	if found, _ := r.find(Query{Group: "rare", After: end}); len(found) != 1 {
		t.Errorf("%d found of what was written later, want 1", len(found))
	}
}

// TestRareKinds: a search from behind the newest event of its kinds ends without a look at a block. Of what was there when the
// log was opened that is not known.
func TestRareKinds(t *testing.T) {
	r := newRig(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	of := func(kind mail.EventKind) mail.Event { return mail.Event{Kind: kind, At: now} }
	r.write(now, of(mail.EventFailed))
	r.openLog(0)
	old := r.End()
	r.write(now, of(mail.EventAccepted), of(mail.EventDelivered))
	r.write(now, of(mail.EventFailed), of(mail.EventAccepted))
	failed := r.End()
	r.write(now, of(mail.EventAccepted))
	failures := []mail.EventKind{mail.EventFailed, mail.EventBounced}
	for _, tt := range []struct {
		name  string
		kinds []mail.EventKind
		from  Cursor
		lacks bool
		found int
	}{
		{"from the beginning", failures, Cursor{}, false, 2},
		{"from a block of before", []mail.EventKind{mail.EventBounced}, old, false, 0},
		{"from the first block since", failures, old.Next(), false, 1},
		{"from the block with the newest", failures, failed, false, 1},
		{"from the next block", failures, failed.Next(), true, 0},
		{"from the next block, more kinds", append(failures, mail.EventAccepted), failed.Next(), false, 1},
		{"of a kind that never was", []mail.EventKind{mail.EventBounced}, old.Next(), true, 0},
		{"of every kind", nil, failed.Next(), false, 1},
		{"of what is still to come", failures, r.End().Next(), true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lacks := r.lacks(tt.kinds, tt.from)
			if found, _ := r.find(Query{Kinds: tt.kinds, After: tt.from}); lacks != tt.lacks || len(found) != tt.found {
				t.Errorf("ends at once: %v, %d found; want %v, %d", lacks, len(found), tt.lacks, tt.found)
			}
		})
	}
}
