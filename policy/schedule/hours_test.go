package schedule

import (
	"testing"
	"time"
)

func mustHours(t testing.TB, text string) Hours {
	t.Helper()
	h, err := ParseHours(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func mustTime(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestUntil(t *testing.T) {
	for _, tt := range []struct{ name, hours, at, end string }{
		{"before", "1000-1100@UTC", "2026-11-26T09:59:59Z", ""},
		{"from is inside", "1000-1100@UTC", "2026-11-26T10:00:00Z", "2026-11-26T11:00:00Z"},
		{"to is outside", "1000-1100@UTC", "2026-11-26T11:00:00Z", ""},
		{"over midnight, evening", "2000-0800@Asia/Tokyo", "2026-11-26T21:00:00+09:00", "2026-11-27T08:00:00+09:00"},
		{"over midnight, morning", "2000-0800@Asia/Tokyo", "2026-11-27T07:59:59+09:00", "2026-11-27T08:00:00+09:00"},
		{"over midnight, day", "2000-0800@Asia/Tokyo", "2026-11-27T08:00:00+09:00", ""},
		{"two that touch", "2000-0000@UTC,0000-0600@UTC", "2026-11-26T23:00:00Z", "2026-11-27T06:00:00Z"},
		{"two that overlap", "0100-0300@UTC,0200-0500@UTC", "2026-11-26T01:00:00Z", "2026-11-26T05:00:00Z"},
		{"end in the hour that spring skips", "0100-0230@Europe/Berlin", "2026-03-29T01:30:00+01:00", "2026-03-29T01:30:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			end, quiet := mustHours(t, tt.hours).Until(mustTime(t, tt.at))
			if quiet != (tt.end != "") || quiet && !end.Equal(mustTime(t, tt.end)) {
				t.Errorf("quiet %v until %v", quiet, end)
			}
		})
	}
}

func TestLifetimeStandsStill(t *testing.T) {
	for _, tt := range []struct {
		name, hours, start string
		lifetime           time.Duration
		want               string
	}{
		{"none between", "2000-0800@UTC", "2026-11-26T12:00:00Z", time.Hour, "2026-11-26T13:00:00Z"},
		{"one between", "2000-0800@UTC", "2026-11-26T19:45:00Z", time.Hour, "2026-11-27T08:45:00Z"},
		{"starts inside", "2000-0800@UTC", "2026-11-26T21:00:00Z", time.Hour, "2026-11-27T09:00:00Z"},
		{"several", "2000-0800@UTC", "2026-11-26T19:00:00Z", 14 * time.Hour, "2026-11-28T09:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustHours(t, tt.hours).After(mustTime(t, tt.start), tt.lifetime); !got.Equal(mustTime(t, tt.want)) {
				t.Errorf("%v", got)
			}
		})
	}
}

// An end inside hours that it did not know of moves behind them, by as much as of them has passed.
func TestBeyond(t *testing.T) {
	for _, tt := range []struct{ name, hours, at, want string }{
		{"open", "2000-0800@UTC", "2026-11-26T19:59:00Z", "2026-11-26T19:59:00Z"},
		{"their end", "2000-0800@UTC", "2026-11-26T08:00:00Z", "2026-11-26T08:00:00Z"},
		{"their beginning", "2000-0800@UTC", "2026-11-26T20:00:00Z", "2026-11-27T08:00:00Z"},
		{"in the evening", "2000-0800@UTC", "2026-11-26T20:20:00Z", "2026-11-27T08:20:00Z"},
		{"in the morning", "2000-0800@UTC", "2026-11-27T06:30:00Z", "2026-11-27T18:30:00Z"},
		{"two that touch", "2000-0000@UTC,0000-0600@UTC", "2026-11-27T00:10:00Z", "2026-11-27T10:10:00Z"},
		{"more than is open", "0100-2300@UTC", "2026-11-26T04:00:00Z", "2026-11-28T00:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustHours(t, tt.hours).Beyond(mustTime(t, tt.at)); !got.Equal(mustTime(t, tt.want)) {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestOutside(t *testing.T) {
	at := func(h, m int) int { return h*60 + m }
	for _, tt := range []struct {
		name  string
		open  []Window
		quiet string
		open2 string
	}{
		{"a day span", []Window{{From: at(9, 0), To: at(18, 0), Zone: time.UTC}}, "2026-11-26T08:59:59Z", "2026-11-26T09:00:00Z"},
		{"over midnight", []Window{{From: at(22, 0), To: at(2, 0), Zone: time.UTC}}, "2026-11-26T02:00:00Z", "2026-11-26T01:59:00Z"},
		{"two spans", []Window{{From: at(9, 0), To: at(12, 0), Zone: time.UTC}, {From: at(13, 0), To: at(18, 0), Zone: time.UTC}},
			"2026-11-26T12:30:00Z", "2026-11-26T13:00:00Z"},
		{"to the end of the day", []Window{{From: at(8, 0), To: 24 * 60, Zone: time.UTC}}, "2026-11-26T07:59:00Z", "2026-11-26T23:59:59Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := Outside(tt.open)
			if _, quiet := h.Until(mustTime(t, tt.quiet)); !quiet {
				t.Errorf("%s is not quiet", tt.quiet)
			}
			if _, quiet := h.Until(mustTime(t, tt.open2)); quiet {
				t.Errorf("%s is quiet", tt.open2)
			}
		})
	}
	if h := Outside([]Window{{From: 0, To: 24 * 60}}); len(h) != 0 {
		t.Errorf("the whole day is permitted: %v", h)
	}
}

func FuzzParseHours(f *testing.F) {
	for _, s := range []string{"2100-0800", "2100-0800@Asia/Tokyo", "0000-0001,0001-0000", "2400-0000", "1-2", "@", ","} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHours(s)
		if err != nil {
			return
		}
		if end, quiet := h.Until(now); quiet && !end.After(now) {
			t.Errorf("%q: quiet until %v, which is no later than now", s, end)
		}
		if got := h.After(now, time.Hour); got.Before(now.Add(time.Hour)) {
			t.Errorf("%q: an hour's lifetime ends %v", s, got)
		}
		if got := h.Beyond(now); got.Before(now) {
			t.Errorf("%q: an end is moved back to %v", s, got)
		}
	})
}
