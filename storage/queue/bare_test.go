package queue

import (
	"testing"
	"time"
)

// TestBare: the store that a benchmark measures against keeps mail as any other, over a restart, and tells of none.
func TestBare(t *testing.T) {
	for _, bare := range []bool{false, true} {
		r := newRig(t)
		r.cfg.Bare = bare
		r.reopen()
		a := r.message("mail", "one@a.example", "two@a.example")
		r.put(a)
		r.settle(a.Deliveries[0])
		r.reopen()
		left := r.scan("a.example", Cursor{}, time.Now().Add(time.Hour), 10)
		if len(left) != 1 || left[0].To != "two@a.example" || r.body(left[0].Message) != "mail" {
			t.Errorf("bare %t: left %+v", bare, left)
		}
		told, want := len(r.history()), 0
		if !bare {
			want = 3
		}
		if total := r.sums(); told != want || (total[0]+total[3] > 0) == bare {
			t.Errorf("bare %t: %d events told, counters %v", bare, told, total)
		}
	}
}
