package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// dayMinutes is how many minutes a clock shows.
const dayMinutes = 24 * 60

// Window is a daily stretch of time in which nothing is sent. From is inside and To is outside (requirement R36); where
// From is the later of the two, it goes over midnight. Minutes since midnight, From 0-1439, To 0-1439, never equal.
type Window struct {
	From, To int
	Zone     *time.Location // nil = that of the process
}

// Hours is when nothing is sent: inside any of its windows.
type Hours []Window

// holds tells whether t is inside w.
func (w *Window) holds(t time.Time) bool {
	m := t.Hour()*60 + t.Minute()
	if w.From < w.To {
		return w.From <= m && m < w.To
	}
	return m >= w.From || m < w.To
}

// next is the first moment after t at which the clock of w shows a minute of the day. A minute that the clock passes
// over in spring comes when it would have come.
func (w *Window) next(t time.Time, minute int) time.Time {
	t = w.local(t)
	for day := range 3 {
		at := time.Date(t.Year(), t.Month(), t.Day()+day, 0, minute, 0, 0, t.Location())
		if at.After(t) {
			return at
		}
	}
	return t.AddDate(0, 0, 1) // no zone has a day that long
}

// last is the last moment no later than t at which the clock of w shows a minute of the day.
func (w *Window) last(t time.Time, minute int) time.Time {
	t = w.local(t)
	for day := range 3 {
		at := time.Date(t.Year(), t.Month(), t.Day()-day, 0, minute, 0, 0, t.Location())
		if !at.After(t) {
			return at
		}
	}
	return t.AddDate(0, 0, -1) // no zone has a day that long
}

func (w *Window) local(t time.Time) time.Time {
	if w.Zone == nil {
		return t.Local()
	}
	return t.In(w.Zone)
}

// windowsMost bounds how many windows may follow on one another: beyond it there is no open hour.
const windowsMost = 32

// Until tells whether t is quiet, and when that ends. Windows that follow on one another, or overlap, are one.
func (h Hours) Until(t time.Time) (end time.Time, quiet bool) {
	for range windowsMost {
		found := false
		for i := range h {
			if w := &h[i]; w.holds(w.local(t)) {
				t, quiet, found = w.next(t, w.To), true, true
			}
		}
		if !found {
			break
		}
	}
	if !quiet {
		return time.Time{}, false
	}
	return t.UTC(), true
}

// Beyond moves a moment out of quiet hours that it did not know of: as much open time behind their end as it lies behind
// their beginning. Any other moment stays.
func (h Hours) Beyond(t time.Time) time.Time {
	end, quiet := h.Until(t)
	if !quiet {
		return t
	}
	begin := t
	for range windowsMost {
		found := false
		for i := range h {
			if before := begin.Add(-time.Nanosecond); h[i].holds(h[i].local(before)) {
				begin, found = h[i].last(before, h[i].From), true
			}
		}
		if !found {
			break
		}
	}
	return h.After(end, t.Sub(begin))
}

// begins is when the next quiet hours after t begin; h must not be empty and t not be quiet.
func (h Hours) begins(t time.Time) (first time.Time) {
	for i := range h {
		if at := h[i].next(t, h[i].From); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// After is the moment at which so much time that is not quiet has passed since start: a lifetime's clock stands still
// in quiet hours (E-26). Where hardly any time is left between them, it gives up after a thousand windows.
func (h Hours) After(start time.Time, lifetime time.Duration) time.Time {
	if len(h) == 0 {
		return start.Add(lifetime)
	}
	t := start
	for range 1000 {
		if end, quiet := h.Until(t); quiet {
			t = end
		}
		next := h.begins(t)
		if open := next.Sub(t); lifetime > open {
			lifetime -= open
			t = next
			continue
		}
		break
	}
	return t.Add(lifetime).UTC()
}

// Text writes a window as ParseHours reads it; zone "" = that of the process.
func Text(from, to int, zone string) string {
	s := fmt.Sprintf("%02d%02d-%02d%02d", from/60, from%60, to/60, to%60)
	if zone != "" {
		s += "@" + zone
	}
	return s
}

var errHours = errors.New("quiet hours must be HHMM-HHMM with two different times")

// ParseHours reads windows of the form HHMM-HHMM or HHMM-HHMM@Zone, separated by commas: the form in which a message
// carries them (requirement R30).
func ParseHours(text string) (Hours, error) {
	var h Hours
	for part := range strings.SplitSeq(text, ",") {
		span, zone, _ := strings.Cut(part, "@")
		if len(span) != 9 || span[4] != '-' {
			return nil, errHours
		}
		from, ok1 := minuteOf(span[:4])
		to, ok2 := minuteOf(span[5:])
		if !ok1 || !ok2 || from == to {
			return nil, errHours
		}
		w := Window{From: from, To: to}
		if zone != "" {
			var err error
			if w.Zone, err = time.LoadLocation(zone); err != nil {
				return nil, fmt.Errorf("quiet hours: %w", err)
			}
		}
		h = append(h, w)
	}
	return h, nil
}

// minuteOf reads HHMM.
func minuteOf(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	h, m := n/100, n%100
	return h*60 + m, h < 24 && m < 60
}

// Outside turns permitted hours into quiet ones: what none of open holds (requirement R37). A To of 1440 is the end of
// the day. Several spans permit what any of them does.
func Outside(open []Window) Hours {
	var permitted [dayMinutes]bool
	var zone *time.Location
	for _, w := range open {
		zone = w.Zone
		to := w.To
		if to <= w.From {
			to += dayMinutes
		}
		for m := w.From; m < to; m++ {
			permitted[m%dayMinutes] = true
		}
	}
	var h Hours
	for m := range dayMinutes {
		if permitted[m] || !permitted[(m+dayMinutes-1)%dayMinutes] {
			continue
		}
		end := m
		for !permitted[end%dayMinutes] {
			end++
		}
		h = append(h, Window{From: m, To: end % dayMinutes, Zone: zone})
	}
	return h
}
