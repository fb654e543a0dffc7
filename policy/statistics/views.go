package statistics

import (
	"cmp"
	"maps"
	"math/big"
	"slices"

	"github.com/ekiden-mta/ekiden/mail"
)

// Counted is the result of one row on one day.
type Counted struct {
	Date Date
	Row
	Result
}

// Errors is how often a status came on one day.
type Errors struct {
	Date Date
	ErrorsOf
	Count uint64
}

// Rate is part of whole in percent as it is printed: rounded half up to one decimal, exactly nothing as "0" (E-1).
func Rate(part, whole uint64) string {
	if part == 0 || whole == 0 {
		return "0"
	}
	return percent(tenths(part, whole))
}

// tenths is 1000 * part / whole, rounded half up, without overflow; whole is not 0.
func tenths(part, whole uint64) int64 {
	n := new(big.Int).Mul(new(big.Int).SetUint64(part), big.NewInt(2000))
	n.Add(n, new(big.Int).SetUint64(whole)).Quo(n, new(big.Int).Mul(new(big.Int).SetUint64(whole), big.NewInt(2)))
	return n.Int64()
}

// percent prints tenths of one.
func percent(tenths int64) string {
	return big.NewInt(tenths/10).String() + "." + string(rune('0'+tenths%10))
}

// WarnAbove is the error rate in percent above which senders come to harm (requirement R99).
const WarnAbove = 3

// Daily is a line of the daily table (requirements R81, R99).
type Daily struct {
	Span string // a date or a month
	Result
}

// Valid is what was not kept back by the tenant's own lists.
func (d *Daily) Valid() uint64 { return d.Queued - min(d.Blocked, d.Queued) }

// ErrorRate is errors by sent mail in percent, late reports included; DeliveryRate is the rest to 100 (R99).
func (d *Daily) ErrorRate() string { return Rate(d.errors()) }

// DeliveryRate is described with ErrorRate.
func (d *Daily) DeliveryRate() string {
	wrong, sent := d.errors()
	if sent == 0 {
		return "0"
	}
	if wrong == 0 {
		return "100.0"
	}
	if wrong == sent {
		return "0"
	}
	return percent(1000 - tenths(wrong, sent)) // of the rate as it is printed (E-32)
}

func (d *Daily) errors() (wrong, sent uint64) {
	sent = d.Succeeded + d.Failed
	return min(d.Failed+d.Bounced, sent), sent
}

// Warns tells whether the error rate is above WarnAbove.
func (d *Daily) Warns() bool {
	wrong, sent := d.errors()
	return wrong*100 > sent*WarnAbove
}

// span is what a line is about: a day, or its month.
func span(d Date, byMonth bool) string {
	if byMonth {
		return d.String()[:len("2006/01")]
	}
	return d.String()
}

// Total is the word of the line that adds up all others.
const Total = "total"

// DailyOf is the daily table, oldest first, and the line that adds it up.
func DailyOf(rows []Counted, byMonth bool) (lines []Daily, total Daily) {
	by := map[string]*Daily{}
	total.Span = Total
	for i := range rows {
		s := span(rows[i].Date, byMonth)
		d := by[s]
		if d == nil {
			d = &Daily{Span: s}
			by[s] = d
		}
		d.Add(rows[i].Result)
		total.Add(rows[i].Result)
	}
	for _, s := range slices.Sorted(maps.Keys(by)) {
		if d := by[s]; d.Queued+d.Succeeded+d.Failed+d.Blocked > 0 {
			lines = append(lines, *d)
		}
	}
	return lines, total
}

// Outcome is a line of the table of results (requirement R83).
type Outcome struct {
	Span        string // a date or a month
	Source      string // FROM domain
	Destination string // the carrier's domain; "pc" for everybody else
	Cleaning    bool
	Success, NG uint64
}

// Rate is NG by everything that ended, in percent (E-1).
func (o *Outcome) Rate() string { return Rate(o.NG, o.Success+o.NG) }

// OutcomesOf is the table of results by day, FROM domain, carrier and cleaning, and the line that adds it up.
func OutcomesOf(rows []Counted, byMonth bool) (lines []Outcome, total Outcome) {
	by := map[Outcome]*Outcome{}
	total.Span = Total
	for i := range rows {
		r := &rows[i]
		k := Outcome{Span: span(r.Date, byMonth), Source: string(r.From), Destination: r.Carrier, Cleaning: r.Cleaning}
		if k.Destination != pc && k.Destination != "" {
			k.Destination += ".ne.jp"
		}
		if r.Success+r.NG == 0 {
			continue
		}
		o := by[k]
		if o == nil {
			line := k
			o = &line
			by[k] = o
		}
		o.Success, o.NG = o.Success+r.Success, o.NG+r.NG
		total.Success, total.NG = total.Success+r.Success, total.NG+r.NG
	}
	for _, o := range by {
		lines = append(lines, *o)
	}
	slices.SortFunc(lines, func(a, b Outcome) int {
		return cmp.Or(cmp.Compare(a.Span, b.Span), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination),
			cmp.Compare(cleaning(a.Cleaning), cleaning(b.Cleaning)))
	})
	return lines, total
}

func cleaning(is bool) int {
	if is {
		return 1
	}
	return 0
}

// Slice is how often a status came from a domain (requirement R97); under the domain Total from all.
type Slice struct {
	Domain mail.Domain
	Status mail.Status
	Count  uint64
}

// SlicesOf adds errors up by domain and status, all domains first, then each in its order.
func SlicesOf(errors []Errors) []Slice {
	type key struct {
		domain mail.Domain
		status mail.Status
	}
	by := map[key]uint64{}
	for _, e := range errors {
		by[key{Total, e.Status}] += e.Count
		by[key{e.Domain, e.Status}] += e.Count
	}
	out := make([]Slice, 0, len(by))
	for k, n := range by {
		out = append(out, Slice{k.domain, k.status, n})
	}
	first := func(d mail.Domain) int {
		if d == Total {
			return 0
		}
		return 1
	}
	slices.SortFunc(out, func(a, b Slice) int {
		return cmp.Or(cmp.Compare(first(a.Domain), first(b.Domain)), cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Status, b.Status))
	})
	return out
}
