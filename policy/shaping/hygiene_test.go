package shaping

import (
	"testing"
	"time"
	"unsafe"
)

// TestHygiene: bulk mail is slowed down once more than the limit of the last 1,000 recipients are unknown, and goes at its
// pace again where the last 1,000 had half of that (requirement D2).
func TestHygiene(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	type run struct {
		n       int
		unknown bool
		changed int // how many of them changed how the pair stands
	}
	tests := []struct {
		name     string
		limit    int
		runs     []run
		cleaning bool
		unknown  int
	}{
		{"nothing", 10, nil, false, 0},
		{"just at the limit", 10, []run{{900, false, 0}, {100, true, 0}}, false, 100},
		{"one more", 10, []run{{900, false, 0}, {101, true, 1}}, true, 101},
		{"before there are 1,000", 10, []run{{100, true, 0}, {1, true, 1}}, true, 101},
		{"old ones count no more", 10, []run{{100, true, 0}, {950, false, 0}, {50, true, 0}}, false, 50},
		{"stays until half", 10, []run{{101, true, 1}, {948, false, 0}}, true, 52},
		{"recovers", 10, []run{{101, true, 1}, {950, false, 1}}, false, 50},
		{"and again", 10, []run{{101, true, 1}, {1000, false, 1}, {101, true, 1}}, true, 101},
		{"a low limit", 1, []run{{10, true, 0}, {1, true, 1}}, true, 11},
		{"a full window of unknown", 99, []run{{990, true, 0}, {10, true, 1}, {500, true, 0}}, true, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h Hygiene
			for i, r := range tt.runs {
				changed := 0
				for range r.n {
					if h.Observe(now, r.unknown, tt.limit) {
						changed++
					}
				}
				if changed != r.changed {
					t.Errorf("run %d: %d changes, want %d", i, changed, r.changed)
				}
			}
			s := h.Standing()
			if s.Cleaning != tt.cleaning || s.Unknown != tt.unknown || s.Cleaning != !s.Since.IsZero() {
				t.Errorf("%+v, want cleaning %v with %d", s, tt.cleaning, tt.unknown)
			}
		})
	}
}

// An operator ends it, and a restart does not.
func TestHygieneForgivenAndResumed(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	h := ResumeHygiene(now)
	for range hygieneWindow - 1 {
		if h.Observe(now, false, 10) {
			t.Fatal("ended before a whole window was clean")
		}
	}
	if !h.Observe(now, false, 10) || h.Standing().Cleaning {
		t.Error("not ended by a clean window")
	}
	h = ResumeHygiene(now)
	h.Forgive()
	if s := h.Standing(); s != (HygieneStanding{}) {
		t.Errorf("forgiven: %+v", s)
	}
	if size := unsafe.Sizeof(h); size > 200 {
		t.Errorf("%d octets", size)
	}
}

func BenchmarkHygiene(b *testing.B) {
	var h Hygiene
	now := time.Unix(1e9, 0)
	b.ReportAllocs()
	for b.Loop() {
		h.Observe(now, false, 10)
	}
}
