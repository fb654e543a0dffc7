package shaping

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestShares: as long as the share of such answers is what it was nothing follows, and nothing where it grows for all sources, as with
// a list that many filters refuse; a source for which alone it grows is refused (receivers.md 3).
func TestShares(t *testing.T) {
	type phase struct {
		mails int   // of each source
		hits  []int // of each source: so many of ten mails are answered so
	}
	for _, row := range []struct {
		name    string
		phases  []phase
		refused []int // which sources are found refused in the last phase; none is before
	}{
		{"one source: none, then nearly all", []phase{{1000, []int{0}}, {10, []int{1}}, {200, []int{9}}}, []int{0}},
		{"one source: a tenth, then half", []phase{{1000, []int{1}}, {200, []int{5}}}, []int{0}},
		{"one source: a tenth, then a fifth", []phase{{1000, []int{1}}, {1000, []int{2}}}, nil},
		{"one source: a fifth, as ever", []phase{{3000, []int{2}}}, nil},
		{"one source: three tenths, then four", []phase{{1000, []int{3}}, {1000, []int{4}}}, nil},
		{"one source: nearly all from the beginning", []phase{{1000, []int{9}}}, nil},
		{"one source: too few to tell", []phase{{1000, []int{0}}, {20, []int{9}}}, nil},
		{"one of four", []phase{{1000, []int{1, 1, 1, 1}}, {200, []int{9, 1, 1, 1}}}, []int{0}},
		{"two of four, from the beginning", []phase{{400, []int{9, 1, 9, 1}}}, nil},
		{"two of four", []phase{{1000, []int{1, 1, 1, 1}}, {400, []int{9, 1, 9, 1}}}, []int{0, 2}},
		{"a new one beside three", []phase{{1000, []int{-1, 1, 1, 1}}, {200, []int{9, 1, 1, 1}}}, []int{0}},
		{"a list that filters refuse from all four", []phase{{1000, []int{1, 1, 1, 1}}, {1000, []int{6, 6, 6, 6}}}, nil},
		{"the same, and one gets a little more", []phase{{1000, []int{1, 1, 1, 1}}, {1000, []int{6, 7, 6, 6}}}, nil},
		{"the same, in the middle of a span of one", []phase{{1050, []int{1, 1, -1, 1}}, {970, []int{1, 1, 1, 1}}, {1000, []int{6, 6, 6, 6}}}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			var s Shares
			now := time.Date(2026, 7, 1, 12, 30, 0, 0, time.UTC)
			var refused []int
			taken := make([]int, 4)
			for last, p := range row.phases {
				for i := range p.mails {
					now = now.Add(time.Second)
					for k, hits := range p.hits {
						if hits < 0 || slices.Contains(refused, k) { // sends nothing
							continue
						}
						if (i*7)%10 >= hits {
							taken[k]++
							continue
						}
						source := netip.AddrFrom4([4]byte{192, 0, 2, byte(k)})
						if s.Answered(now, source, taken[k], 25) {
							if refused = append(refused, k); last < len(row.phases)-1 {
								t.Fatalf("source %d is refused in phase %d", k, last)
							}
						}
						taken[k] = 0
					}
				}
			}
			if slices.Sort(refused); !slices.Equal(refused, row.refused) {
				t.Errorf("refused: %v, want %v", refused, row.refused)
			}
		})
	}
}

// A share that stays where it is becomes what is usual: each pause is asked for after more answers, and there are three of them.
func TestSharesAreGotUsedTo(t *testing.T) {
	var s Shares
	now := time.Date(2026, 7, 1, 12, 30, 0, 0, time.UTC)
	source := netip.MustParseAddr("192.0.2.1")
	s.Answered(now, source, 2000, 25)
	var after []int
	n := 0
	for range 1000 {
		if n++; s.Answered(now, source, 0, 25) {
			after, n, now = append(after, n), 0, now.Add(time.Hour)
		}
	}
	if got := fmt.Sprint(after); got != "[24 50 88]" {
		t.Errorf("pauses after %s answers, want [24 50 88]", got)
	}
}
