package placement

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestBankChangesHands: an owner lends while it is certain to lead, and the next one once all of that is over.
func TestBankChangesHands(t *testing.T) {
	const s = time.Second
	ask := []Ask{{"docomo", 2, 0, 2}}
	for _, row := range []struct {
		name               string
		now, since, proven time.Duration
		want               int
		err                error
	}{
		{"has just begun", 10 * s, 10 * s, 10 * s, 0, nil},
		{"what was lent before it may last", 14*s + 400*time.Millisecond, 10 * s, 14 * s, 0, nil},
		{"what was lent before it is over", 14*s + 500*time.Millisecond, 10 * s, 14 * s, 2, nil},
		{"was certain two seconds ago", 20 * s, 10 * s, 18 * s, 2, nil},
		{"was certain three seconds ago", 20 * s, 10 * s, 17 * s, 0, ErrNotOwner},
		{"was certain before it began again", 20 * s, 19 * s, 18 * s, 0, ErrNotOwner},
	} {
		t.Run(row.name, func(t *testing.T) {
			var b Bank
			units, err := b.Ask(row.now, row.since, row.proven, "n1", ask)
			if !errors.Is(err, row.err) || err == nil && units[0] != row.want {
				t.Errorf("lent %v, %v, want %d, %v", units, err, row.want, row.err)
			}
		})
	}
	t.Run("a new reign begins with nothing lent", func(t *testing.T) {
		var b Bank
		for _, r := range []struct{ now, since time.Duration }{{20 * s, 10 * s}, {31 * s, 30 * s}} {
			if units, err := b.Ask(r.now, r.since, r.now, "n1", ask); err != nil || (units[0] == 2) != (r.since == 10*s) {
				t.Errorf("since %s: %v %v", r.since, units, err)
			}
		}
	})
}

func TestBankIsBounded(t *testing.T) {
	var b Bank
	const now = time.Minute
	for i := range maxPots {
		if _, err := b.Ask(now, 1, now, "n1", []Ask{{fmt.Sprint(i), 1, 0, i % 2}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Ask(now, 1, now, "n1", []Ask{{"one more", 1, 0, 1}}); err != nil {
		t.Errorf("half of the limits are not in use: %v", err)
	}
	for i := range maxPots {
		if _, err := b.Ask(now, 1, now, "n1", []Ask{{fmt.Sprint(i), 1, 0, 1}}); err != nil {
			if !errors.Is(err, ErrPots) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Error("there is no bound")
}
