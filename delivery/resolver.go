package delivery

import (
	"context"
	"time"

	"github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// staticRoute is how long a route of the node file is good before it is looked up again.
const staticRoute = time.Hour

// Resolver says where mail for a domain goes. Safe for concurrent use.
type Resolver struct {
	Routes *Routes       // asked first; nil = none
	DNS    *dns.Resolver // for everything else
	Port   uint16        // of hosts found in the DNS; 0 = 25
	Clock  *clock.Clock  // for Outcome.At; nil = the machine's
}

// Route returns the hosts for d in the order to try. Where there are none the outcome says why: deferred when nobody
// knew at the moment, failed with status 1 when the DNS was sure (requirement R48); otherwise it is zero.
func (r *Resolver) Route(ctx context.Context, d mail.Domain) (mail.Route, mail.Outcome) {
	if route, ok := r.Routes.Lookup(d); ok {
		route.Until = clock.Wall().Add(staticRoute)
		return route, mail.Outcome{}
	}
	mx, until, err := r.DNS.MX(ctx, d)
	if err != nil {
		return mail.Route{Until: until}, dnsOutcome(err, now(r.Clock))
	}
	port := r.Port
	if port == 0 {
		port = 25
	}
	route := mail.Route{Hosts: make([]mail.Host, len(mx)), Until: until}
	for i, m := range mx {
		route.Hosts[i] = mail.Host{Name: m.Host, Port: port, Pref: m.Pref}
	}
	return route, mail.Outcome{}
}

// dnsOutcome is the outcome of a resolution that failed with err.
func dnsOutcome(err error, at time.Time) mail.Outcome {
	o := mail.Outcome{
		Result: mail.Deferred, Stage: mail.StageDNS, Status: mail.StatusTimeout, Scope: mail.ScopeReceiver,
		Detail: clip(err.Error()), At: at,
	}
	if dns.Final(err) {
		o.Result, o.Status = mail.Failed, mail.StatusHostUnknown
	}
	return o
}

func now(c *clock.Clock) time.Time {
	if c == nil {
		return clock.Wall()
	}
	return c.Now()
}

// clip cuts a text to what Outcome.Detail holds.
func clip(s string) string { return s[:min(len(s), 200)] }
