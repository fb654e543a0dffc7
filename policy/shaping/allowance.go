package shaping

import "time"

// allowance is how many messages may go in each span of the UTC clock, an hour or a day. The zero allowance has no bound.
type allowance struct {
	most  int
	span  int64 // seconds
	at    int64 // spans since 1970
	spent int   // messages granted in it and not given back
	stale int   // messages out when it began: giving them back does not raise what is left
}

// advance begins a new span where it is time for one; pending messages are out.
func (a *allowance) advance(now time.Time, pending int) {
	if a.most == 0 {
		return
	}
	if at := now.Unix() / a.span; at > a.at {
		a.at, a.spent, a.stale = at, 0, pending
	}
}

// debit counts messages that are granted.
func (a *allowance) debit(n int) {
	if a.most > 0 {
		a.spent += n
	}
}

// credit counts messages that come back; none tells that nothing is out any more.
func (a *allowance) credit(n int, none bool) {
	if a.most == 0 {
		return
	}
	old := min(n, a.stale)
	a.stale -= old
	a.spent = max(0, a.spent-(n-old))
	if none {
		a.stale = 0
	}
}

// left is how many of n may go.
func (a *allowance) left(n int) int {
	if a.most == 0 {
		return n
	}
	return max(0, min(n, a.most-a.spent))
}

// ends is when the next span begins.
func (a *allowance) ends(now time.Time) time.Time {
	return time.Unix((a.at+1)*a.span, 0).In(now.Location())
}
