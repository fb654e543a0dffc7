package rpc

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// Bounds of one answer, in events.
const (
	defaultPage  = 100
	defaultTrace = 200
	maxPage      = 1000
	maxCursor    = service.MaxCursor
)

// Time of one page: pageTime, and at most one pageShare-th of what the caller has left, so that the answer still arrives.
const (
	pageTime  = 20 * time.Second
	pageShare = 4
)

// Trace returns the life of a message or of an address.
func (h *handler) Trace(ctx context.Context, req *adminpb.TraceRequest) (*adminpb.TraceResponse, error) {
	if h.s.Log == nil {
		return nil, notYet("Trace", "a later release")
	}
	q := service.TraceQuery{Limit: clamp(int(req.Limit), defaultTrace)}
	var err error
	switch {
	case (req.Message == "") == (req.Address == ""):
		return nil, fmt.Errorf("%w: either message or address is needed", service.ErrInvalid)
	case req.Message != "":
		if q.Message, err = mail.ParseMessageID(req.Message); err != nil {
			return nil, fmt.Errorf("%w: %w", service.ErrInvalid, err)
		}
		if q.Message.IsZero() { // it would not narrow
			return nil, fmt.Errorf("%w: no message has the id %s", service.ErrNotFound, req.Message)
		}
	case len(req.Address) > mail.MaxPathLine:
		return nil, fmt.Errorf("%w: %w", service.ErrInvalid, mail.ErrTooLong)
	default:
		q.Address = mail.Address(req.Address)
	}
	t, err := h.s.Log.Trace(ctx, q)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	r := &adminpb.TraceResponse{Missing: missing}
	for i := range t.Events {
		r.Events = append(r.Events, Event(&t.Events[i]))
	}
	for i := range t.Waiting {
		r.Waiting = append(r.Waiting, Waiting(&t.Waiting[i]))
	}
	return r, nil
}

// Waiting is a delivery that waits, as the RPC tells it.
func Waiting(w *service.Waiting) *adminpb.Waiting {
	d := &w.Delivery
	return &adminpb.Waiting{Message: d.Message.String(), Delivery: uint64(d.Seq), To: clean(string(d.To)),
		Domain: string(d.Domain), Receiver: w.Receiver, Due: stamp(d.Due), Expires: stamp(d.Expires),
		Attempts: uint32(d.Attempts), Binding: w.Binding, Detail: clean(w.Detail), Until: stamp(w.Until)}
}

// SearchEvents returns one page of the log. Where what is looked for is rare the page ends in time all the same, maybe without an
// event, and says where to go on.
func (h *handler) SearchEvents(ctx context.Context, req *adminpb.SearchEventsRequest) (*adminpb.SearchEventsResponse, error) {
	if h.s.Log == nil {
		return nil, notYet("SearchEvents", "a later release")
	}
	q := service.EventQuery{To: mail.Address(req.To), From: mail.Address(req.From), Group: req.Group, Tenant: req.Tenant,
		Since: instant(req.Since), Until: instant(req.Until), After: req.Cursor, APIData: req.ApiData, Mail: req.Mail, User: req.User}
	var err error
	if q.Source, q.Status, err = narrowed(req.Source, req.Classes); err != nil {
		return nil, err
	}
	if q.Kinds, err = service.ParseStatuses(req.Status); err != nil {
		return nil, err
	}
	if len(req.Cursor) > maxCursor || len(req.To) > mail.MaxPathLine || len(req.From) > mail.MaxPathLine {
		return nil, fmt.Errorf("%w: to, from or cursor is too long", service.ErrInvalid)
	}
	if req.Domain != "" {
		if q.Domain, err = mail.ParseDomain(req.Domain); err != nil {
			return nil, fmt.Errorf("%w: domain: %w", service.ErrInvalid, err)
		}
	}
	if req.Message != "" {
		if q.Message, err = service.ParseMessage(req.Message); err != nil {
			return nil, err
		}
	}
	limit := clamp(int(req.Limit), defaultPage)
	if q.Mail {
		limit = min(limit, service.MailPage)
	}
	r := &adminpb.SearchEventsResponse{NextCursor: req.Cursor}
	ends := pageEnd(ctx, clock.Wall())
	q.Reached = func(position string) bool {
		r.NextCursor = position
		r.More = !clock.Wall().Before(ends)
		return !r.More
	}
	err = h.s.Log.Search(ctx, q, func(e mail.Event, position string) bool {
		if len(r.Events) == limit {
			r.More = true
			return false
		}
		r.Events = append(r.Events, Event(&e))
		r.NextCursor = position
		if h.node {
			r.Positions = append(r.Positions, position)
		}
		return true
	})
	if r.Missing, err = absent(err); err != nil {
		return nil, err
	}
	return r, nil
}

// pageEnd is when a page that begins now is to end.
func pageEnd(ctx context.Context, now time.Time) time.Time {
	if deadline, ok := ctx.Deadline(); ok {
		return now.Add(min(pageTime, deadline.Sub(now)/pageShare))
	}
	return now.Add(pageTime)
}

// narrowed reads a source address and error statuses.
func narrowed(source string, classes []uint32) (ip netip.Addr, statuses []mail.Status, err error) {
	if source != "" {
		if ip, err = netip.ParseAddr(source); err != nil {
			return ip, nil, fmt.Errorf("%w: source: %q is no IP address", service.ErrInvalid, source)
		}
	}
	for _, c := range classes {
		if c > uint32(mail.StatusInterrupted) && c != uint32(mail.StatusOther) {
			return ip, nil, fmt.Errorf("%w: %d is no error status; allowed: 0 to 12, 99", service.ErrInvalid, c)
		}
		statuses = append(statuses, mail.Status(c))
	}
	return ip, statuses, nil
}

// Event returns e as it goes over the wire.
func Event(e *mail.Event) *adminpb.Event {
	p := &adminpb.Event{
		At: stamp(e.At), Status: service.StatusWord(e.Kind), Message: e.Message.String(), Delivery: uint64(e.Delivery),
		Tenant: e.Tenant, Group: e.Group, From: clean(string(e.From)), To: clean(string(e.To)), Domain: string(e.Domain),
		Attempt: uint32(e.Attempt), Composition: e.Composition, User: clean(e.User),
		HeaderFrom: clean(e.HeaderFrom), HeaderId: clean(e.HeaderID), Subject: clean(e.Subject), ApiData: clean(e.APIData),
		Size: uint32(e.Size), Cleaning: e.Cleaning, Due: stamp(e.Due), Receiver: e.Receiver, Class: uint32(e.Status),
		InDoubt: e.InDoubt, Code: int32(e.Reply.Code), Enhanced: e.Reply.Enhanced.String(), Reply: clean(e.Reply.Text),
		Detail: clean(e.Detail), Mx: clean(e.MX), Tls: e.TLS, Next: stamp(e.Next),
		Sequence: e.Sequence, Taken: stamp(e.Taken), Own: e.Own, Mail: []byte(e.Mail), Bounce: bounce.Kind(e),
	}
	if e.Kind != mail.EventAccepted && e.Kind != mail.EventTakenOver && e.Kind != mail.EventHandedOver {
		p.Stage = e.Stage.String()
	}
	if e.Status != mail.StatusNone && (e.Reply.Code != 0 || e.Rule != "") || e.Kind == mail.EventAlarm {
		p.Scope, p.Rule = e.Scope.String(), e.Rule
	}
	if e.Rule != "" {
		p.Action = e.Action.String()
	}
	if v := e.Served; v != (mail.Served{}) {
		p.Served = &adminpb.Served{Succeeded: v.Delivered, Deferred: v.Deferred, Failed: v.Failed}
	}
	if e.For > 0 {
		p.For = durationpb.New(e.For)
	}
	if e.Client.IsValid() {
		p.Client = e.Client.String()
	}
	if e.Source.IsValid() {
		p.Source = e.Source.String()
	}
	if e.Remote.IsValid() {
		p.Remote = e.Remote.String()
	}
	return p
}

func clamp(n, standard int) int {
	if n <= 0 {
		return standard
	}
	return min(n, maxPage)
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func instant(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
