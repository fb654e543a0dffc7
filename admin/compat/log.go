package compat

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// filter says which events of the log are records of a list.
type filter struct {
	composition     string
	from, to, data  string
	match           func(text, part string) bool
	wants           func(*mail.Event) bool
	skip, take      int
	onlyUser        string // what this user handed over; "" = everybody's
	needsAcceptance bool   // from is of the message's header
}

// The values of search_option: how from, to and api_data are compared, without regard to case (E-47).
const (
	searchPartial = "partial"
	searchFull    = "full"
	searchPrefix  = "prefix"
)

// filter reads the parameters that deliveries and bounces share.
func (c *call) filter(q *service.EventQuery) *filter {
	f := &filter{composition: c.composition(), from: strings.ToLower(c.text("from")), to: strings.ToLower(c.text("to")),
		data: strings.ToLower(c.text("api_data"))}
	if f.skip, f.take = c.page(); c.values.Get("cursor") != "" {
		f.skip, q.After = c.place()
	}
	f.needsAcceptance = f.from != ""
	if c.user.OwnData {
		f.onlyUser, q.User = c.user.Name, c.user.Name
	}
	how := c.text("search_option")
	switch how {
	case "", searchPartial:
		f.match = strings.Contains
	case searchFull:
		f.match = func(text, part string) bool { return text == part }
	case searchPrefix:
		f.match = strings.HasPrefix
	default:
		c.faults.add(codeRange, "search_option")
		f.match = strings.Contains
	}
	q.Tenant = c.user.Tenant
	// The log takes a whole address for an exact one, and finds it by its index.
	if q.To = mail.Address(partOf(f.to)); how == searchFull {
		q.To = mail.Address(f.to)
	}
	return f
}

// composition reads server_composition, which must be one of the user's tenant.
func (c *call) composition() string {
	name := c.needed("server_composition")
	if name != "" && !slices.Contains(c.c.Services.Users.Compositions(c.user.Tenant), name) {
		c.faults.add(codeNotFound, "server_composition")
	}
	return name
}

// place reads cursor: how many records to pass over, and where in the log. It stands for the page.
func (c *call) place() (skip int, after string) {
	count, after, _ := strings.Cut(c.values.Get("cursor"), "-")
	skip, err := strconv.Atoi(count)
	if err != nil || skip < 0 || skip > maxPage*maxRows || len(after) > service.MaxCursor {
		c.faults.add(codeRange, "cursor")
	}
	return skip, after
}

// inTime calls each with the events of q until it wants no more, or says what broke. A search that ends so, and one that is not over
// after searchTime, leaves in c.next the place to go on from, behind *skip records.
func (c *call) inTime(q service.EventQuery, skip *int, each func(*mail.Event) (more bool, err error)) error {
	var broken error
	at, ends := q.After, clock.Wall().Add(searchTime)
	leave := func(position string) bool {
		at, c.next = position, strconv.Itoa(*skip)+"-"+position
		return false
	}
	q.Reached = func(position string) bool {
		at = position
		return clock.Wall().Before(ends) || leave(position)
	}
	err := c.c.Services.Log.Search(c.ctx, q, func(e mail.Event, position string) bool {
		var more bool
		if more, broken = each(&e); broken != nil {
			return false
		}
		if !more {
			return leave(position)
		}
		return q.Reached(position)
	})
	if broken != nil {
		err = broken
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded) && at != q.After: // an answer that is late all the same
		leave(at)
		return nil
	case errors.Is(err, service.ErrInvalid) && q.After != "":
		c.faults.add(codeRange, "cursor")
		return c.faults
	case errors.Is(err, service.ErrInvalid):
		c.faults.add(codeRange, "to")
		return c.faults
	}
	return err
}

// search calls each with the events that are wanted on the page, and with their acceptance.
func (c *call) search(q service.EventQuery, f *filter, each func(e, accepted *mail.Event)) error {
	if len(c.faults.list) > 0 {
		return c.faults
	}
	return c.inTime(q, &f.skip, func(e *mail.Event) (more bool, err error) {
		if e.Kind == mail.EventAccepted {
			c.heads.Note(e)
		}
		if !f.wants(e) || e.Own || f.to != "" && !f.match(e.To.Fold(), f.to) {
			return true, nil
		}
		accepted := e
		if e.Kind != mail.EventAccepted && (e.Composition == "" || f.needsAcceptance) {
			if accepted, err = c.heads.Head(c.ctx, e.Message, c.acceptance); err != nil {
				return false, err
			}
		}
		facts := e // what the event itself says; events of older releases say it at their acceptance only
		if e.Composition == "" {
			facts = accepted
		}
		switch {
		case facts.Composition != f.composition, f.onlyUser != "" && facts.User != f.onlyUser,
			f.data != "" && !f.match(strings.ToLower(facts.APIData), f.data),
			f.from != "" && !f.match(strings.ToLower(headerFrom(e, accepted)), f.from):
			return true, nil
		case f.skip > 0:
			f.skip--
			return true, nil
		}
		if accepted == e && e.Kind != mail.EventAccepted {
			if accepted, err = c.heads.Head(c.ctx, e.Message, c.acceptance); err != nil {
				return false, err
			}
		}
		each(e, accepted)
		f.take--
		return f.take > 0, nil
	})
}

// deliveries serves deliveries/list (requirement B3): the records of one day, hour or minute, oldest first.
func (c *call) deliveries() (*answer, error) {
	var q service.EventQuery
	f := c.filter(&q)
	c.needed("date")
	q.Since, q.Until = c.point()
	status := c.text("status")
	if status != "" && !slices.Contains([]string{Queued, Succeeded, Failed, Deferred}, status) {
		c.faults.add(codeRange, "status")
	}
	f.wants = func(e *mail.Event) bool {
		s := StatusOf(e.Kind)
		return s != "" && (status == "" || s == status)
	}
	out := &answer{name: "deliveries", item: "delivery"}
	return out, c.search(q, f, func(e, accepted *mail.Event) {
		d := DeliveryOf(e, accepted, c.user.Zone)
		if c.version == 1 {
			out.list = append(out.list, d.First())
			return
		}
		out.list = append(out.list, d)
	})
}

// bounces serves bounces/list (requirement B4): the errors of a period, oldest first.
func (c *call) bounces() (*answer, error) {
	var q service.EventQuery
	f := c.filter(&q)
	if q.Since, q.Until = c.point(); q.Since.IsZero() {
		q.Since, q.Until = c.period()
	}
	if status := c.text("status"); status != "" {
		n := c.number("status", 0, int(mail.StatusHostUnknown), int(mail.StatusOther))
		if n > int(mail.StatusUnsubscribed) && n != int(mail.StatusOther) {
			c.faults.add(codeRange, "status")
		}
		f.wants = func(e *mail.Event) bool { return IsBounce(e.Kind) && int(bounceStatus(e)) == n }
	} else {
		f.wants = func(e *mail.Event) bool { return IsBounce(e.Kind) }
	}
	out := &answer{name: "bounces", item: "bounce"}
	return out, c.search(q, f, func(e, accepted *mail.Event) {
		out.list = append(out.list, BounceOf(e, accepted, c.user.Zone))
	})
}
