package stats

import (
	"encoding/binary"
	"maps"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
	"github.com/ekiden-mta/ekiden/storage/record"
)

// Bounds of one day. What finds no room is counted under Other, tenant by tenant.
const (
	maxRows   = 20_000 // by sender and carrier
	maxErrors = 20_000 // by destination domain and status
)

// Day is what is counted of one day.
type Day struct {
	Rows   map[statistics.Row]statistics.Result
	Errors map[statistics.ErrorsOf]uint64
}

// day is a Day that is counted on.
type day struct {
	rows   map[statistics.Row]*statistics.Result
	errors map[statistics.ErrorsOf]uint64
	dirty  bool // since it was last written
}

func newDay() *day {
	return &day{rows: map[statistics.Row]*statistics.Result{}, errors: map[statistics.ErrorsOf]uint64{}}
}

func (d *day) copy() Day {
	out := Day{Rows: make(map[statistics.Row]statistics.Result, len(d.rows)), Errors: maps.Clone(d.errors)}
	for k, r := range d.rows {
		out.Rows[k] = *r
	}
	return out
}

// row returns the counts of a row, or those of the tenant's others.
func (d *day) row(k statistics.Row) *statistics.Result {
	if r := d.rows[k]; r != nil {
		return r
	}
	if len(d.rows) >= maxRows {
		k = statistics.Row{Tenant: k.Tenant, From: Other}
		if r := d.rows[k]; r != nil {
			return r
		}
	}
	k.Tenant, k.Composition, k.User = strings.Clone(k.Tenant), strings.Clone(k.Composition), strings.Clone(k.User)
	k.From = mail.Domain(strings.Clone(string(k.From)))
	r := &statistics.Result{}
	d.rows[k] = r
	return r
}

func (d *day) fault(k statistics.ErrorsOf) {
	if _, known := d.errors[k]; !known {
		if len(d.errors) >= maxErrors {
			k.User, k.Domain = "", Other
		}
		k.Tenant, k.User, k.Domain = strings.Clone(k.Tenant), strings.Clone(k.User), mail.Domain(strings.Clone(string(k.Domain)))
	}
	d.errors[k]++
}

const dayVersion = 1

// append writes d in the form that readDay reads.
func (d *day) append(dst []byte) []byte {
	dst = append(dst, dayVersion)
	dst = binary.AppendUvarint(dst, uint64(len(d.rows)))
	for k, r := range d.rows {
		for _, s := range []string{k.Tenant, k.Composition, k.User, string(k.From), k.Carrier} {
			dst = record.AppendString(dst, s)
		}
		cleaning := byte(0)
		if k.Cleaning {
			cleaning = 1
		}
		dst = append(dst, cleaning)
		for _, n := range [...]uint64{r.Queued, r.Succeeded, r.Failed, r.Blocked, r.Bounced, r.Success, r.NG} {
			dst = binary.AppendUvarint(dst, n)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.errors)))
	for k, n := range d.errors {
		for _, s := range []string{k.Tenant, k.User, string(k.Domain)} {
			dst = record.AppendString(dst, s)
		}
		dst = binary.AppendUvarint(append(dst, byte(k.Status)), n)
	}
	return dst
}

func readDay(raw []byte) (*day, error) {
	d, r := newDay(), record.NewReader(string(raw))
	if r.Byte() != dayVersion {
		r.Fail()
	}
	for left := r.Uint(); left > 0 && r.Err() == nil; left-- {
		k := statistics.Row{Tenant: r.String(), Composition: r.String(), User: r.String(), From: mail.Domain(r.String()), Carrier: r.String(),
			Cleaning: r.Byte() == 1}
		d.rows[k] = &statistics.Result{Queued: r.Uint(), Succeeded: r.Uint(), Failed: r.Uint(), Blocked: r.Uint(), Bounced: r.Uint(),
			Success: r.Uint(), NG: r.Uint()}
	}
	for left := r.Uint(); left > 0 && r.Err() == nil; left-- {
		k := statistics.ErrorsOf{Tenant: r.String(), User: r.String(), Domain: mail.Domain(r.String()), Status: mail.Status(r.Byte())}
		d.errors[k] = r.Uint()
	}
	if r.Left() > 0 {
		r.Fail()
	}
	return d, r.Err()
}
