package intake

import (
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/schedule"
)

// forward applies the forwarding filters to the recipients (requirement R116).
func forward(v *filter.Values, to []mail.Address) []mail.Address {
	if !v.Forwards() {
		return to
	}
	out := make([]mail.Address, 0, len(to)+1)
	for _, a := range to {
		instead, copies := v.Forward(a)
		out = append(append(out, instead), copies...)
	}
	return out
}

// keepQuiet gives d its quiet hours and moves its beginning and its end out of them; true where it begins later for it
// (requirements R36-R38, E-26). Whoever carries mail looks at the hours again: this only spares it the trouble.
func (p *plan) keepQuiet(d *mail.Delivery) bool {
	d.Quiet = p.values.Quiet(d.To)
	if p.quiet != "" {
		if d.Quiet != "" {
			d.Quiet += ","
		}
		d.Quiet += p.quiet
	}
	hours := p.hours(d.Domain)
	if d.Quiet != "" {
		own, err := schedule.ParseHours(d.Quiet)
		if err != nil { // both were checked: a header when it was read, settings when they were made
			d.Quiet = ""
		}
		hours = append(hours[:len(hours):len(hours)], own...)
	}
	if len(hours) == 0 {
		return false
	}
	due := d.Due
	end, quiet := hours.Until(due)
	if quiet {
		d.Due = end.Truncate(time.Millisecond)
	}
	d.Expires = schedule.Expires(due, d.Due, p.lifetime, hours)
	return quiet
}
