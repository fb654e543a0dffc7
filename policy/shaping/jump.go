package shaping

import (
	"net/netip"
	"time"
)

// Shares tell a source that a receiver refuses from mail that it refuses, where it has the same words for both: docomo answers
// "Unknown user" after DATA where a recipient's own filter refuses a mail, and where it refuses the source (receivers.md 3). Only the
// share of such answers tells them apart. A source is refused where that is far above what the source knew until then, and above
// what the other sources of the node get there: a list, or a campaign, that many filters refuse is refused to all that send it.
// Where nothing can be compared with, nothing follows.
//
// There is one of these for each receiver that answers so, with some 100 bytes for each source. The zero value is ready.
type Shares struct {
	of map[netip.Addr]*share
}

// share is what a source gets. Shares are those of spans of jumpSpan mails that followed one another.
type share struct {
	mails, hits int       // of the present span: taken, or answered so; and those answered so
	last        float64   // share of the span before, 0 to 1 …
	usual       float64   // … and of all of them, those of late counting most
	known       bool      // there was one
	at          time.Time // when it was last answered so
}

// Figures of jumps.
const (
	jumpSpan  = 100           // mails
	jumpTimes = 2             // what is usual, so often, is a jump
	jumpLate  = 4             // so many spans make a share usual, for the most part
	jumpFresh = 2 * time.Hour // what others got within that time is compared with at its worst, what is older as it was usual
)

// Answered counts a mail of source that was answered so, after taken others that were taken. It tells whether the source is refused:
// whether at least so many percent of a span were, and twice what is usual. Who is refused for long gets used to it: what a pause of
// an hour did not end after the third time is no refusal of the source.
func (s *Shares) Answered(now time.Time, source netip.Addr, taken, percent int) bool {
	x := s.of[source]
	if x == nil {
		if s.of == nil {
			s.of = map[netip.Addr]*share{}
		}
		x = &share{}
		s.of[source] = x
	}
	x.took(taken)
	x.mails++
	x.hits++
	x.at = now
	usual, known := s.others(now, source)
	if x.known {
		usual = max(usual, x.usual)
	}
	jumped := (known || x.known) && float64(x.hits) >= jumpSpan*max(float64(percent)/100, jumpTimes*usual)
	if jumped || x.mails >= jumpSpan {
		x.close()
	}
	return jumped
}

// others is the mean share of the other sources, false where none has had a span yet.
func (s *Shares) others(now time.Time, source netip.Addr) (mean float64, known bool) {
	n := 0
	for a, x := range s.of {
		if a == source || !x.known {
			continue
		}
		n++
		mean += x.usual
		if now.Sub(x.at) < jumpFresh {
			mean += max(0, x.last-x.usual, float64(x.hits)/jumpSpan-x.usual)
		}
	}
	return mean / float64(max(1, n)), n > 0
}

// took counts mails that were taken.
func (x *share) took(n int) {
	for n = min(n, 64*jumpSpan); n > 0; { // nothing of what was usual is left after those
		some := min(n, jumpSpan-x.mails)
		x.mails += some
		n -= some
		if x.mails == jumpSpan {
			x.close()
		}
	}
}

// close ends the present span.
func (x *share) close() {
	x.last = float64(x.hits) / float64(x.mails)
	if !x.known {
		x.usual, x.known = x.last, true
	}
	x.usual += (x.last - x.usual) / jumpLate
	x.mails, x.hits = 0, 0
}
