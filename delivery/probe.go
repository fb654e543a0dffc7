package delivery

import (
	"context"

	"github.com/ekiden-mta/ekiden/mail"
)

// Probe connects to the first host of t that takes us and asks for addresses, as long as next gives any, without ever
// sending DATA (requirement R50). Who is not reached gets no report. The report of the connection is that of Run.
func (c *Courier) Probe(ctx context.Context, t Trip, from mail.Address, next func() (mail.Address, bool),
	report func(mail.Address, mail.Outcome)) Report {
	a := attempt{c: c, t: t}
	for _, h := range t.Route.Hosts {
		if a.done(ctx, h) {
			break
		}
		if s := a.host(ctx, h); s != nil {
			n, trouble := s.Probe(ctx, from, t.PerConnection, t.Interval, next, report)
			return Report{Connected: true, Outcome: trouble, Messages: n}
		}
	}
	return Report{Outcome: a.verdict()}
}
