package compat

import (
	"net/http"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// eachUnsubscribe calls each with the tenant's addresses on a list of those who unsubscribed that hold a part, of one filter or of
// all.
func (c *call) eachUnsubscribe(list, part, filter string, each func(*service.Suppression) bool) error {
	q := service.SuppressionQuery{Tenant: c.user.Tenant, List: list, Part: part}
	return c.c.Services.Suppressions.List(c.ctx, q, func(s service.Suppression, _ string) bool {
		return filter != "" && s.Filter != filter || each(&s)
	})
}

// downloadUnsubscribes serves unsubscribes/download: created, email, filtername as CSV in a ZIP (requirement B7).
func (c *call) downloadUnsubscribes(w http.ResponseWriter) error {
	c.composition() // the list is of the whole tenant
	part, filter := c.text("email"), c.text("filter_name")
	since, until := c.period()
	if len(c.faults.list) > 0 {
		return c.faults
	}
	within := func(at time.Time) bool { return !at.Before(since) && (until.IsZero() || at.Before(until)) }
	return c.download(w, "unsubscribes", []string{"created", "email", "filtername"}, func(row func(...string) bool) error {
		return c.eachUnsubscribe(service.Unsubscribe, part, filter, func(s *service.Suppression) bool {
			return !within(s.Since) || row(s.Since.In(c.user.Zone).Format(timeForm), string(s.Address), s.Filter)
		})
	})
}

// cancelUnsubscribes serves unsubscribes/cancel: the addresses get mail again, of one filter or of all. Those that
// wait for the batch that unsubscribes them wait no more.
func (c *call) cancelUnsubscribes() (*answer, error) {
	c.composition()
	c.needed("email")
	list, filter := c.emails(), c.text("filter_name")
	if len(list) > maxItems {
		c.faults.add(codeLong, "email")
	}
	if len(c.faults.list) > 0 {
		return nil, c.faults
	}
	wanted := map[string]bool{}
	for _, a := range list {
		wanted[a.Fold()] = true
	}
	at := map[string][]mail.Address{} // by filter
	for _, name := range []string{service.Unsubscribe, service.Leaving} {
		err := c.eachUnsubscribe(name, "", filter, func(s *service.Suppression) bool {
			if wanted[s.Address.Fold()] {
				at[s.Filter] = append(at[s.Filter], s.Address)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	removed := 0
	for name, list := range at {
		n, err := c.c.Services.Suppressions.Remove(c.ctx, service.Place{List: service.Unsubscribe, Tenant: c.user.Tenant, Filter: name}, list, c.user.Name)
		if err != nil {
			return nil, err
		}
		removed += n
	}
	if removed == 0 {
		c.faults.add(codeNotFound, "email")
		return nil, c.faults
	}
	return &answer{name: "message", text: "success"}, nil
}
