package bounce

import (
	"testing"
	"time"
)

// TestLate: the last 24 hours count, and an alarm wants a number of reports and a share.
func TestLate(t *testing.T) {
	at := func(hours int) time.Time { return time.Date(2026, 11, 26, hours, 30, 0, 0, time.UTC) }
	rows := []struct {
		name            string
		taken, reported int64 // at 00:30 …
		more            int64 // … taken at 10:30
		hour            int   // when it is looked at
		want            LateHour
		alarms, stands  bool // without an alarm, and where one stands
	}{
		{"nothing", 0, 0, 0, 1, LateHour{}, false, false},
		{"at the limit", 1000, 30, 0, 1, LateHour{1000, 30}, false, true},
		{"at three quarters of it", 1200, 27, 0, 1, LateHour{1200, 27}, false, false},
		{"above three quarters", 1200, 28, 0, 1, LateHour{1200, 28}, false, true},
		{"above it", 1000, 31, 0, 1, LateHour{1000, 31}, true, true},
		{"few, whatever share", 10, 9, 0, 1, LateHour{10, 9}, false, false},
		{"reports of yesterday's mail", 0, 10, 0, 1, LateHour{0, 10}, true, true},
		{"later mail was better", 1000, 31, 100, 11, LateHour{1100, 31}, false, true},
		{"the day's last hour", 1000, 31, 0, 23, LateHour{1000, 31}, true, true},
		{"a day ago", 1000, 31, 5, 24, LateHour{5, 0}, false, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var l Late
			l.Count(at(0), row.taken, row.reported)
			l.Count(at(10), row.more, 0)
			if got := l.Sum(at(row.hour)); got != row.want || got.Alarms(3, 10, false) != row.alarms || got.Alarms(3, 10, true) != row.stands {
				t.Errorf("%+v, alarms %v, or stands %v", got, got.Alarms(3, 10, false), got.Alarms(3, 10, true))
			}
		})
	}
}
