package bounce

import "time"

// Late counts, by the hour and over the last day, how many messages a receiver took and how many of such it reported as
// failed afterwards (requirement N17): a receiver whose 250 means little. It is a pure value; the zero value is of a
// receiver of which nothing is known.
type Late struct {
	Hours map[int64]LateHour `json:"hours"` // by hours since 1970; at most lateHours
}

// LateHour is one hour: what was taken, and what was reported in it.
type LateHour struct {
	Taken    int64 `json:"taken"`
	Reported int64 `json:"reported,omitempty"`
}

// lateHours is how many hours count.
const lateHours = 24

func lateHour(now time.Time) int64 { return now.Unix() / 3600 }

// Count adds messages taken and reports heard at a moment.
func (l *Late) Count(now time.Time, taken, reported int64) {
	if taken == 0 && reported == 0 {
		return
	}
	if l.Hours == nil {
		l.Hours = map[int64]LateHour{}
	}
	at := lateHour(now)
	h := l.Hours[at]
	h.Taken, h.Reported = h.Taken+taken, h.Reported+reported
	l.Hours[at] = h
}

// Sum forgets what is older than a day and returns the rest.
func (l *Late) Sum(now time.Time) (sum LateHour) {
	first := lateHour(now) - lateHours + 1
	for at, h := range l.Hours {
		if at < first {
			delete(l.Hours, at)
			continue
		}
		sum.Taken, sum.Reported = sum.Taken+h.Taken, sum.Reported+h.Reported
	}
	return sum
}

// And is what two members counted together.
func (h LateHour) And(o LateHour) LateHour {
	return LateHour{h.Taken + o.Taken, h.Reported + o.Reported}
}

// Alarms tells whether somebody should look: at least least reports, and more than percent of what was taken. Reports of
// mail of former days count as well: where more are heard than mail was taken, they are all of it. An alarm that stands
// does so until the reports are no more than three quarters of percent: a receiver at the limit would raise it all day.
func (h LateHour) Alarms(percent, least int, stands bool) bool {
	quarters := int64(4)
	if stands {
		quarters = 3
	}
	return h.Reported >= int64(max(least, 1)) && h.Reported*400 > quarters*int64(percent)*h.Taken
}
