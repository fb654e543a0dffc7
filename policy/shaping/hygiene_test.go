package shaping

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"
)

// TestHygiene: lists are unclean once more than the limit of the last 1,000 recipients are unknown, and clean again where
// the last 1,000 had half of that (requirement D2), whether one member saw them or three a third each.
func TestHygiene(t *testing.T) {
	start := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	type run struct {
		n       int
		unknown bool
	}
	tests := []struct {
		name    string
		limit   int
		runs    []run
		want    HygieneStanding
		unclean bool
		clean   bool
	}{
		{"nothing", 10, nil, HygieneStanding{}, false, false},
		{"just at the limit", 10, []run{{900, false}, {100, true}}, HygieneStanding{100, 1000}, false, false},
		{"one more", 10, []run{{900, false}, {101, true}}, HygieneStanding{101, 1000}, true, false},
		{"before there are 1,000", 10, []run{{101, true}}, HygieneStanding{101, 101}, true, false},
		{"old ones count no more", 10, []run{{100, true}, {950, false}, {50, true}}, HygieneStanding{50, 1000}, false, true},
		{"not yet half", 10, []run{{101, true}, {948, false}}, HygieneStanding{52, 1000}, false, false},
		{"half", 10, []run{{101, true}, {950, false}}, HygieneStanding{50, 1000}, false, true},
		{"half of too few", 10, []run{{20, true}, {950, false}}, HygieneStanding{20, 970}, false, false},
		{"a low limit", 1, []run{{11, true}}, HygieneStanding{11, 11}, true, false},
		{"a full window of unknown", 99, []run{{1500, true}}, HygieneStanding{1000, 1000}, true, false},
		{"long ago", 10, []run{{5000, true}, {5000, false}}, HygieneStanding{0, 1000}, false, true},
	}
	for _, tt := range tests {
		for _, members := range []int{1, 3} {
			t.Run(tt.name, func(t *testing.T) {
				saw, i := make([]Hygiene, members), 0
				for _, r := range tt.runs {
					for range r.n {
						saw[i%members].Observe(start.Add(time.Duration(i)*10*time.Millisecond), r.unknown)
						i++
					}
				}
				got := JudgeHygiene(spansOf(saw)...)
				if slack := (members - 1) * hygieneSpan; got.Recipients != tt.want.Recipients || abs(got.Unknown-tt.want.Unknown) > slack {
					t.Errorf("%d members: %+v, want %+v", members, got, tt.want)
				}
				if got.Unclean(tt.limit) != tt.unclean || members == 1 && got.Clean(tt.limit) != tt.clean {
					t.Errorf("%d members: unclean %v, clean %v", members, got.Unclean(tt.limit), got.Clean(tt.limit))
				}
				suspects := false
				for i := range saw {
					suspects = suspects || saw[i].Suspect(tt.limit, members)
				}
				if tt.unclean && !suspects {
					t.Errorf("%d members: nobody suspects it", members)
				}
			})
		}
	}
}

// TestHygieneIsSharedOut: however recipients fall on members, what those saw together is what one would have seen: off by
// what the oldest span of each may hold.
func TestHygieneIsSharedOut(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var one Hygiene
		many := make([]Hygiene, 1+rnd.IntN(5))
		share, now := rnd.Float64(), time.Unix(1e9, 0)
		for range 200 + rnd.IntN(4000) {
			now = now.Add(time.Duration(rnd.IntN(50)) * time.Millisecond)
			unknown := rnd.Float64() < share
			one.Observe(now, unknown)
			many[min(rnd.IntN(len(many)), rnd.IntN(len(many)))].Observe(now, unknown) // the first has most
		}
		want, got := JudgeHygiene(one.Spans()), JudgeHygiene(spansOf(many)...)
		if got.Recipients != want.Recipients || abs(got.Unknown-want.Unknown) > hygieneSpan*len(many)*2 {
			t.Errorf("%d members: %+v, one: %+v", len(many), got, want)
		}
	}
}

// What another member says is believed only where it can be.
func TestHygieneOfOthersIsBounded(t *testing.T) {
	bad := []HygieneSpan{{1, -5, 0}, {2, 1000, 1000}, {3, 5, 6}, {4, 5, -1}}
	if got := JudgeHygiene(bad, []HygieneSpan{{5, 10, 1}}); got != (HygieneStanding{1, 10}) {
		t.Errorf("%+v", got)
	}
	if size := unsafe.Sizeof(Hygiene{}); size > 700 {
		t.Errorf("%d octets", size)
	}
}

func spansOf(saw []Hygiene) (all [][]HygieneSpan) {
	for i := range saw {
		all = append(all, saw[i].Spans())
	}
	return all
}

func abs(n int) int { return max(n, -n) }

func BenchmarkHygiene(b *testing.B) {
	var h Hygiene
	now := time.Unix(1e9, 0)
	b.ReportAllocs()
	for b.Loop() {
		h.Observe(now, false)
	}
}
