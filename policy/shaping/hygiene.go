package shaping

import (
	"cmp"
	"slices"
	"time"
)

// Figures of hygiene.
const (
	hygieneWindow = 1000 // recipients a share of unknown users is taken of (requirement D2)
	hygieneSpan   = 25   // recipients of one span
	hygieneSpans  = hygieneWindow/hygieneSpan + 1
)

// Hygiene is how clean a tenant's lists are as one receiver has shown them to one member: which of the last 1,000
// recipients were unknown there. Receivers turn away whoever writes to many unknown users; beyond a limit the pair's bulk
// mail goes at the pace of cleaning mail until the lists have become better. What several members saw is judged together:
//
//	each member: Observe ──▶ Spans ──┐
//	                                 ├──▶ JudgeHygiene: Unclean? Clean again?
//	each other:  Observe ──▶ Spans ──┘
//
// It is a pure value of some 700 octets.
type Hygiene struct {
	spans   [hygieneSpans]HygieneSpan // a ring; the one at next is being filled
	next    int
	unknown int // in all of them
}

// HygieneSpan is some recipients that followed one another.
type HygieneSpan struct {
	At         int64 `json:"t"` // when the last of them was answered, Unix milliseconds
	Recipients int16 `json:"n"`
	Unknown    int16 `json:"u,omitempty"`
}

// HygieneStanding is what was seen of the last recipients of a pair.
type HygieneStanding struct {
	Unknown    int // of the last …
	Recipients int // … so many: 1,000 at most
}

// Observe counts the end of a delivery: whether its recipient was unknown. It tells whether a span is full with that.
func (h *Hygiene) Observe(now time.Time, unknown bool) (full bool) {
	s := &h.spans[h.next]
	s.At = now.UnixMilli()
	s.Recipients++
	if unknown {
		s.Unknown++
		h.unknown++
	}
	if s.Recipients < hygieneSpan {
		return false
	}
	h.next = (h.next + 1) % hygieneSpans
	h.unknown -= int(h.spans[h.next].Unknown)
	h.spans[h.next] = HygieneSpan{}
	return true
}

// Suspect tells whether the lists may be unclean by what several members saw together: of more unknown recipients than
// 1,000 may have, one of them must have seen its part. limit is in percent, 1 to 99.
func (h *Hygiene) Suspect(limit, members int) bool {
	return h.unknown*max(members, 1) > hygieneMost(limit)
}

// Spans returns what was seen, in no order.
func (h *Hygiene) Spans() []HygieneSpan {
	return slices.DeleteFunc(slices.Clone(h.spans[:]), func(s HygieneSpan) bool { return s.Recipients == 0 })
}

// JudgeHygiene puts together what members saw: the last 1,000 recipients of all of them. Of the oldest span that has part
// in those, a part counts. What makes no sense is left out: it may come from another member.
func JudgeHygiene(seen ...[]HygieneSpan) (s HygieneStanding) {
	all := slices.DeleteFunc(slices.Concat(seen...), func(s HygieneSpan) bool {
		return s.Recipients <= 0 || s.Recipients > hygieneSpan || s.Unknown < 0 || s.Unknown > s.Recipients
	})
	slices.SortStableFunc(all, func(a, b HygieneSpan) int { return cmp.Compare(b.At, a.At) })
	for _, one := range all {
		n := min(int(one.Recipients), hygieneWindow-s.Recipients)
		if n == 0 {
			break
		}
		s.Recipients += n
		s.Unknown += int(one.Unknown) * n / int(one.Recipients)
	}
	return s
}

// Unclean tells whether more are unknown than 1,000 recipients may have; limit is in percent, 1 to 99.
func (s HygieneStanding) Unclean(limit int) bool { return s.Unknown > hygieneMost(limit) }

// Clean tells whether 1,000 recipients have no more than half of what they may have.
func (s HygieneStanding) Clean(limit int) bool {
	return s.Recipients == hygieneWindow && s.Unknown <= hygieneMost(limit)/2
}

func hygieneMost(limit int) int { return limit * hygieneWindow / 100 }
