package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// Bounds of a page of events.
const (
	defaultEvents = 100
	maxEvents     = 1000
	maxCursor     = service.MaxCursor
	searchTime    = 40 * time.Second // then a page ends with what there is, …
	searchMost    = 50 * time.Second // … or the search is given up; below what the front gives a connection
)

// events serves GET /v1/events?cursor=&to=&from=&group=&status=&since=&until=&domain=&tenant=&user=&message=&api_data=
// &source=&class=&mail=&limit=. status takes words and class error statuses, separated by commas; user is who handed the mail over; mail=true brings
// the mail that told of bounces, as base64.
// Events have the form they have in the RPC. since and until are UNIX seconds, RFC 3339 or a duration back from now.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Log == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	v := r.URL.Query()
	q, limit, err := eventQuery(v, s.c.Clock.Now())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := struct {
		Events     []json.RawMessage `json:"events"`
		NextCursor string            `json:"next_cursor"` // where to go on, also at the end of the log
		More       bool              `json:"more"`
		Missing    []absentJSON      `json:"missing,omitempty"` // what they know follows once they answer
	}{Events: []json.RawMessage{}, NextCursor: q.After}
	var broken error
	ends := clock.Wall().Add(searchTime)
	ctx, cancel := context.WithTimeout(r.Context(), searchMost)
	defer cancel()
	q.Reached = func(position string) bool { // whoever asks goes on from there
		out.NextCursor = position
		out.More = !clock.Wall().Before(ends)
		return !out.More
	}
	err = s.c.Services.Log.Search(ctx, q, func(e mail.Event, position string) bool {
		if len(out.Events) == limit {
			out.More = true
			return false
		}
		raw, err := protoJSON(rpc.Event(&e))
		if err != nil {
			broken = err
			return false
		}
		out.Events = append(out.Events, raw)
		return q.Reached(position)
	})
	if out.Missing, err = absent(w, err); err == nil {
		err = broken
	}
	if out.NextCursor != q.After && errors.Is(err, context.DeadlineExceeded) {
		out.More, err = true, nil
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, out)
}

// spanOf reads since= and until=; zero where they are not there.
func spanOf(v url.Values, now time.Time) (since, until time.Time, err error) {
	if since, err = service.ParseInstant(v.Get("since"), now); err != nil {
		return since, until, fmt.Errorf("since: %w", err)
	}
	if until, err = service.ParseInstant(v.Get("until"), now); err != nil {
		return since, until, fmt.Errorf("until: %w", err)
	}
	return since, until, nil
}

func eventQuery(v url.Values, now time.Time) (service.EventQuery, int, error) {
	q := service.EventQuery{To: mail.Address(v.Get("to")), From: mail.Address(v.Get("from")), Group: v.Get("group"),
		Tenant: v.Get("tenant"), After: v.Get("cursor"), APIData: v.Get("api_data"), User: v.Get("user")}
	var err error
	if source := v.Get("source"); source != "" {
		if q.Source, err = netip.ParseAddr(source); err != nil {
			return q, 0, fmt.Errorf("%w: source: %q is no IP address", service.ErrInvalid, source)
		}
	}
	if q.Status, err = service.ParseClasses(v.Get("class")); err != nil {
		return q, 0, fmt.Errorf("class: %w", err)
	}
	if q.Kinds, err = service.ParseStatuses(v.Get("status")); err != nil {
		return q, 0, fmt.Errorf("status: %w", err)
	}
	if len(q.After) > maxCursor || len(q.To) > mail.MaxPathLine || len(q.From) > mail.MaxPathLine {
		return q, 0, fmt.Errorf("%w: to, from or cursor is too long", service.ErrInvalid)
	}
	if d := v.Get("domain"); d != "" {
		if q.Domain, err = mail.ParseDomain(d); err != nil {
			return q, 0, fmt.Errorf("%w: domain: %w", service.ErrInvalid, err)
		}
	}
	if m := v.Get("message"); m != "" {
		if q.Message, err = service.ParseMessage(m); err != nil {
			return q, 0, err
		}
	}
	if q.Since, q.Until, err = spanOf(v, now); err != nil {
		return q, 0, err
	}
	limit, err := pageOf(v)
	switch m := v.Get("mail"); m {
	case "", "false":
	case "true":
		q.Mail = true
	default:
		return q, 0, fmt.Errorf("%w: mail: %.80q is neither true nor false", service.ErrInvalid, m)
	}
	if q.Mail {
		limit = min(limit, service.MailPage)
	}
	return q, limit, err
}
