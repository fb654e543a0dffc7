package destination

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/schedule"
)

// hoursMost bounds how many texts of quiet hours are kept in their read form.
const hoursMost = 1000

// hours remembers the quiet hours that deliveries carry: few different ones, read once.
type hours struct {
	read sync.Map // string -> schedule.Hours
	n    atomic.Int32
}

// of reads text; what cannot be read, which intake never lets in, is no quiet hours.
func (x *hours) of(text string) schedule.Hours {
	if h, ok := x.read.Load(text); ok {
		return h.(schedule.Hours)
	}
	h, err := schedule.ParseHours(text)
	if err != nil {
		h = nil
	}
	if x.n.Add(1) > hoursMost { // those in use come back
		x.read.Clear()
		x.n.Store(0)
	}
	x.read.Store(string([]byte(text)), h) // not the memory of a whole record
	return h
}

// domainQuiet tells whether nothing may be sent to d at t, and until when.
func (e *Env) domainQuiet(t time.Time, d mail.Domain) (time.Time, bool) {
	if e.QuietHours == nil {
		return time.Time{}, false
	}
	return e.QuietHours(d).Until(t)
}

// allHours are the quiet hours of d's domain, as they are now, and its own.
func (e *Env) allHours(d *mail.Delivery) (all schedule.Hours) {
	if e.QuietHours != nil {
		all = e.QuietHours(d.Domain)
	}
	if d.Quiet != "" {
		all = append(all[:len(all):len(all)], e.hours.of(d.Quiet)...)
	}
	return all
}

// quiet tells whether d must not be sent at t, and when that ends (invariant I11).
func (e *Env) quiet(t time.Time, d *mail.Delivery) (end time.Time, quiet bool) {
	for range 4 { // the end of one may lie in the other
		at, found := e.domainQuiet(t, d.Domain)
		if !found && d.Quiet != "" {
			at, found = e.hours.of(d.Quiet).Until(t)
		}
		if !found {
			break
		}
		t, end, quiet = at, at, true
	}
	return end, quiet
}
