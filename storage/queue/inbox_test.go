package queue

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestCrowded(t *testing.T) {
	for _, tt := range []struct {
		name            string
		requests, bytes int
		want            bool
	}{
		{"empty", 0, 0, false},
		{"a few", maxPending/2 - 1, maxPendBytes / 2, false},
		{"many requests", maxPending / 2, 0, true},
		{"many octets", 1, maxPendBytes/2 + 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Store{}
			s.inbox.waiting, s.inbox.bytes = make([]*request, tt.requests), tt.bytes
			if got := s.Crowded(); got != tt.want {
				t.Fatal(got)
			}
		})
	}
}

// TestBatch: a batch is what waits, in order; where that is too much, outcomes go first, which leave at least half of it to others.
func TestBatch(t *testing.T) {
	const large = maxBatchBytes/2 + 1
	for _, tt := range []struct {
		name    string
		waiting string // m: a small message, M: one of more than half a batch, G: of more than a batch, o: an outcome, O: one of 10 KB; with a count before it
		batches []string
	}{
		{"nothing", "", []string{""}},
		{"all of a little, as it came", "2m1o1m1o", []string{"2m1o1m1o"}},
		{"outcomes overtake large messages", "2M1o1M1o", []string{"2o1M", "1M", "1M"}},
		{"and keep their order", "1M1o1M2o", []string{"3o1M", "1M"}},
		{"one that is larger than a batch goes alone", "2G", []string{"1G", "1G"}},
		{"outcomes do not wait for it", "1G1o1m", []string{"1o", "1G", "1m"}},
		{"many outcomes leave half to others", "200o100m", []string{"128o72o56m", "44m"}},
		{"outcomes behind it overtake it, too", "1G2o1G2o", []string{"4o", "1G", "1G"}},
		{"large outcomes leave half of the octets to others", "100m100O", []string{"52O100m40O", "8O"}},
		{"as many as a batch", "256m", []string{"256m"}},
		{"one more", "257m", []string{"256m", "1m"}},
		{"outcomes alone", "300o", []string{"256o", "44o"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := &inbox{}
			in.room = sync.NewCond(&in.mu)
			for _, r := range requests(tt.waiting, large) {
				in.waiting, in.bytes = append(in.waiting, r), in.bytes+r.size
			}
			first := slices.Clone(in.waiting)
			seq := func(r *request) int { return slices.Index(first, r) }
			for i, want := range tt.batches {
				got := in.take(nil)
				if s, w := kinds(got), kinds(requests(want, large)); s != w {
					t.Fatalf("batch %d is %q, want %q", i, s, w)
				}
				for _, outcome := range []bool{false, true} {
					last := -1
					for _, r := range got {
						if r.outcome == outcome {
							if seq(r) < last {
								t.Errorf("batch %d: one overtakes its like", i)
							}
							last = seq(r)
						}
					}
				}
			}
			if len(in.waiting) != 0 || in.bytes != 0 {
				t.Errorf("%d are left, %d octets", len(in.waiting), in.bytes)
			}
		})
	}
}

func requests(s string, large int) (out []*request) {
	n := 0
	for _, c := range s {
		if c >= '0' && c <= '9' {
			n = 10*n + int(c-'0')
			continue
		}
		for ; n > 0; n-- {
			out = append(out, &request{outcome: c == 'o' || c == 'O', size: map[rune]int{'o': 200, 'O': 10_000, 'm': 1200, 'M': large, 'G': 3 * large}[c]})
		}
	}
	return out
}

func kinds(rs []*request) string {
	var b strings.Builder
	for _, r := range rs {
		switch {
		case r.outcome && r.size > 1000:
			b.WriteByte('O')
		case r.outcome:
			b.WriteByte('o')
		case r.size > maxBatchBytes:
			b.WriteByte('G')
		case r.size > maxBatchBytes/2:
			b.WriteByte('M')
		default:
			b.WriteByte('m')
		}
	}
	return b.String()
}

// TestNobodyIsPassedOverTwice: however many outcomes keep coming, what waits beside them is in every second batch at least.
func TestNobodyIsPassedOverTwice(t *testing.T) {
	for _, row := range []struct{ name, waits, comes string }{
		{"a message larger than a batch", "1G1m", "50o"},
		{"one that does not fit beside large outcomes", "1M", "128O"},
		{"small messages beside many outcomes", "300m", "256o"},
	} {
		t.Run(row.name, func(t *testing.T) {
			in := &inbox{}
			in.room = sync.NewCond(&in.mu)
			add := func(s string) {
				for _, r := range requests(s, maxBatchBytes/2+1) {
					in.waiting, in.bytes = append(in.waiting, r), in.bytes+r.size
				}
			}
			add(row.waits)
			passed := 0
			for i := 0; slices.ContainsFunc(in.waiting, func(r *request) bool { return !r.outcome }); i++ {
				add(row.comes)
				if slices.ContainsFunc(in.take(nil), func(r *request) bool { return !r.outcome }) {
					passed = 0
				} else if passed++; passed > 1 || i > 20 {
					t.Fatalf("batch %d has outcomes alone, as the one before", i)
				}
			}
		})
	}
}
