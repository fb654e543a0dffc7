package statistics

import (
	"fmt"
	"time"
)

// Date is a day of the process's zone, as the number of that date's days since 1970.
type Date int32

// DateOf is the day that t lies in.
func DateOf(t time.Time) Date {
	y, m, d := t.Local().Date()
	return Date(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

// Begin is the first moment of the day.
func (d Date) Begin() time.Time {
	y, m, day := d.civil().Date()
	return time.Date(y, m, day, 0, 0, 0, 0, time.Local)
}

func (d Date) civil() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// String returns the date as YYYY/MM/DD.
func (d Date) String() string { return d.civil().Format("2006/01/02") }

// ParseDate reads YYYY/MM/DD, YYYY-MM-DD or YYYYMMDD.
func ParseDate(s string) (Date, error) {
	for _, form := range []string{"2006/01/02", "2006-01-02", "20060102"} {
		if t, err := time.Parse(form, s); err == nil && t.Year() >= 1970 {
			return Date(t.Unix() / 86400), nil
		}
	}
	return 0, fmt.Errorf("%q is no date; allowed: YYYY/MM/DD", s)
}
