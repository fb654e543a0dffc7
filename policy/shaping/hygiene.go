package shaping

import (
	"math/bits"
	"time"
)

// hygieneWindow is how many recipients a share of unknown users is taken of (requirement D2).
const hygieneWindow = 1000

// Hygiene is how clean a tenant's lists are as one receiver sees them: which of its last 1,000 recipients were unknown
// there. Receivers turn away whoever writes to many unknown users; beyond a limit the pair's bulk mail goes at the pace of
// cleaning mail until the lists have become better. It is a pure value of some 150 octets.
//
//	         unknown > limit                     whole window, unknown ≤ limit/2
//	clean ─────────────────────▶ cleaning ─────────────────────────────────────▶ clean
//	  ▲                             │
//	  └─────────────────────────────┘ Forgive: an operator
type Hygiene struct {
	unknown  [(hygieneWindow + 63) / 64]uint64 // a bit for each recipient, in a ring
	next     int                               // where the next one goes
	seen     int                               // how many are in the window
	cleaning bool
	since    time.Time // of cleaning
}

// HygieneStanding is how a pair stands.
type HygieneStanding struct {
	Cleaning   bool
	Since      time.Time // when it began
	Unknown    int       // of the last …
	Recipients int       // … so many
}

// ResumeHygiene is a pair that was cleaning when it was last known; of its recipients nothing is.
func ResumeHygiene(since time.Time) Hygiene { return Hygiene{cleaning: true, since: since} }

// Observe counts the end of a delivery: whether its recipient was unknown. limit is in percent of 1,000, 1 to 99. It tells
// whether cleaning began or ended by it. It begins as soon as more are unknown than 1,000 recipients may have, and ends
// where the last 1,000 have no more than half of that.
func (h *Hygiene) Observe(now time.Time, unknown bool, limit int) (changed bool) {
	word, bit := h.next/64, uint64(1)<<(h.next%64)
	h.unknown[word] &^= bit
	if unknown {
		h.unknown[word] |= bit
	}
	h.next = (h.next + 1) % hygieneWindow
	h.seen = min(h.seen+1, hygieneWindow)
	if !unknown && !h.cleaning { // the usual case, and it can only be better than before
		return false
	}
	most, n := limit*hygieneWindow/100, h.count()
	switch {
	case !h.cleaning && n > most:
		h.cleaning, h.since = true, now
		return true
	case h.cleaning && h.seen == hygieneWindow && n <= most/2:
		h.cleaning, h.since = false, time.Time{}
		return true
	}
	return false
}

// Forgive ends cleaning and forgets the recipients it came from.
func (h *Hygiene) Forgive() { *h = Hygiene{} }

// Standing tells how the pair stands.
func (h *Hygiene) Standing() HygieneStanding {
	return HygieneStanding{Cleaning: h.cleaning, Since: h.since, Unknown: h.count(), Recipients: h.seen}
}

func (h *Hygiene) count() (n int) {
	for _, w := range h.unknown {
		n += bits.OnesCount64(w)
	}
	return n
}
