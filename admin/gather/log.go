package gather

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// page is how many events a member is asked for at once.
const page = 500

type eventLog struct{ *gatherer }

// line is an event and where its member's log goes on behind it.
type line struct {
	event    mail.Event
	position string
	bare     bool // no event: the search has come to this position
}

// stream is one member's log, read line by line.
type stream struct {
	node string
	next func() (line, bool)
	head line
	more bool // head is the next line
}

// advance goes on to the next event. What is looked through without one is told to come; false where that ends the search.
func (s *stream) advance(come func(node, position string) bool) bool {
	for s.head, s.more = s.next(); s.more && s.head.bare; s.head, s.more = s.next() {
		if !come(s.node, s.head.position) {
			return false
		}
	}
	return true
}

// Search merges the logs of all members by time. A position is one per member, so that a member which does not answer
// now is read from where it stood once it does.
func (g eventLog) Search(ctx context.Context, q service.EventQuery, yield func(mail.Event, string) bool) error {
	if node, position, ok := strings.Cut(q.After, cursorAt); ok {
		return g.searchOf(ctx, q, node, position, yield)
	}
	at, err := parseCursor(q.After, g.Name)
	if err != nil {
		return err
	}
	if q.One {
		return g.any(ctx, q, yield)
	}
	wait := ask(ctx, g.gatherer, func(ctx context.Context, c member) (*adminpb.SearchEventsResponse, error) {
		return c.SearchEvents(ctx, searchRequest(q, at[c.name]))
	})

	var ownErr error
	next, stop := iter.Pull(func(yield func(line) bool) {
		own := q
		own.After = at[g.Name]
		own.Reached = func(position string) bool { return yield(line{position: position, bare: true}) }
		ownErr = g.Local.Log.Search(ctx, own, func(e mail.Event, position string) bool { return yield(line{event: e, position: position}) })
	})
	defer stop()
	streams := []*stream{{node: g.Name, next: next}}
	answers, missing := wait()
	known := map[string]bool{g.Name: true}
	for _, a := range answers {
		r := &remoteLog{g: g.gatherer, name: a.node, query: q, page: a.value, told: at[a.node], missing: &missing}
		streams = append(streams, &stream{node: a.node, next: func() (line, bool) { return r.next(ctx) }})
		known[a.node] = true
	}
	for _, a := range missing {
		known[a.Name] = true
	}
	for node := range at {
		if !known[node] {
			delete(at, node) // a member that is none any more
		}
	}
	if g.merge(streams, at, q.Reached, yield) && ownErr == nil {
		ownErr = ctx.Err() // then a member's log ended early
	}
	if ownErr != nil {
		return ownErr
	}
	return partial(missing)
}

// merge yields the events of all streams, the oldest first, and tells whether it came to their end. at is where each stands.
func (g eventLog) merge(streams []*stream, at cursor, reached func(string) bool, yield func(mail.Event, string) bool) bool {
	come := func(node, position string) bool {
		at[node] = position
		return reached == nil || reached(at.String())
	}
	for _, s := range streams {
		if !s.advance(come) {
			return false
		}
	}
	for {
		s := oldest(streams)
		if s == nil {
			return true
		}
		at[s.node] = s.head.position
		if !yield(s.head.event, at.String()) || !s.advance(come) {
			return false
		}
	}
}

// searchOf reads on in the log of one member, of which a webhook told the cursor.
func (g eventLog) searchOf(ctx context.Context, q service.EventQuery, node, position string, yield func(mail.Event, string) bool) error {
	tell := func(e mail.Event, at string) bool { return yield(e, node+cursorAt+at) }
	come := q.Reached
	if come != nil {
		q.Reached = func(at string) bool { return come(node + cursorAt + at) }
	}
	if q.After = position; node == g.Name {
		return g.Local.Log.Search(ctx, q, tell)
	}
	peers := g.Peers.List()
	i := slices.IndexFunc(peers, func(p Peer) bool { return p.Name == node })
	if i < 0 {
		return fmt.Errorf("%w: cursor: there is no member %q", service.ErrInvalid, node)
	}
	first, err := one(ctx, g.gatherer, node, g.Timeout, func(ctx context.Context, c member) (*adminpb.SearchEventsResponse, error) {
		return c.SearchEvents(ctx, searchRequest(q, position))
	})
	switch {
	case connect.CodeOf(err) == connect.CodeInvalidArgument:
		return fmt.Errorf("%w: %s: %w", service.ErrInvalid, node, err)
	case err != nil:
		return partial([]service.Absent{g.absent(peers[i], err)})
	}
	var missing []service.Absent
	r := &remoteLog{g: g.gatherer, name: node, query: q, page: first, told: position, missing: &missing}
	for l, ok := r.next(ctx); ok; l, ok = r.next(ctx) {
		if l.bare && q.Reached != nil && !q.Reached(l.position) || !l.bare && !tell(l.event, l.position) {
			return partial(missing)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return partial(missing)
}

// silence is how long a member that did not answer in time is not asked for single events, of which a call may want many.
const silence = 10 * time.Second

// any yields one event that matches: this node's own, or else another member's.
func (g eventLog) any(ctx context.Context, q service.EventQuery, yield func(mail.Event, string) bool) error {
	found := false
	err := g.Local.Log.Search(ctx, q, func(e mail.Event, position string) bool {
		found = true
		yield(e, cursor{g.Name: position}.String())
		return false
	})
	if err != nil || found {
		return err
	}
	answers, missing := ask(ctx, g.gatherer, func(ctx context.Context, c member) (*adminpb.SearchEventsResponse, error) {
		if g.silent(c.name) {
			return nil, errSilent
		}
		return c.SearchEvents(ctx, searchRequest(q, ""))
	})()
	for _, a := range answers {
		r := &remoteLog{g: g.gatherer, name: a.node, query: q, page: a.value, missing: &missing}
		for l, ok := r.next(ctx); ok; l, ok = r.next(ctx) {
			if !l.bare {
				yield(l.event, cursor{a.node: l.position}.String())
				return nil
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return partial(missing)
}

var errSilent = errors.New("it did not answer in time a moment ago")

// oldest returns the stream whose next event is the oldest, nil at the end of all.
func oldest(streams []*stream) *stream {
	var first *stream
	for _, s := range streams {
		if s.more && (first == nil || s.head.event.At.Before(first.head.event.At)) {
			first = s
		}
	}
	return first
}

// remoteLog reads a member's log page by page.
type remoteLog struct {
	g       *gatherer
	name    string
	query   service.EventQuery
	page    *adminpb.SearchEventsResponse
	at      int    // in page
	told    string // position of the last line
	missing *[]service.Absent
}

// next returns the next line; false at the end, where the member does not answer, and where ctx ends. A member ends a page in
// time although nothing matched, and is then asked for the next one.
func (r *remoteLog) next(ctx context.Context) (line, bool) {
	for {
		switch p := r.page; {
		case r.at < len(p.Events):
			l := line{event: rpc.EventOf(p.Events[r.at]), position: p.NextCursor}
			if r.at < len(p.Positions) {
				l.position = p.Positions[r.at]
			}
			r.at++
			r.told = l.position
			return l, true
		case p.NextCursor != r.told:
			r.told = p.NextCursor
			return line{position: r.told, bare: true}, true
		case !p.More || !r.turn(ctx):
			return line{}, false
		}
	}
}

// turn gets the next page; false where there is none, or it gets nowhere.
func (r *remoteLog) turn(ctx context.Context) bool {
	p, err := one(ctx, r.g, r.name, r.g.Timeout, func(ctx context.Context, c member) (*adminpb.SearchEventsResponse, error) {
		return c.SearchEvents(ctx, searchRequest(r.query, r.told))
	})
	if err != nil {
		if ctx.Err() == nil {
			*r.missing = append(*r.missing, r.g.absent(Peer{Name: r.name}, err))
		}
		return false
	}
	r.page, r.at = p, 0
	return len(p.Events) > 0 || p.NextCursor != r.told
}

func searchRequest(q service.EventQuery, after string) *adminpb.SearchEventsRequest {
	r := &adminpb.SearchEventsRequest{To: string(q.To), From: string(q.From), Group: q.Group, Tenant: q.Tenant, Domain: string(q.Domain),
		Since: stamp(q.Since), Until: stamp(q.Until), Cursor: after, Limit: page, ApiData: q.APIData, Mail: q.Mail, User: q.User,
		Status: service.Statuses(q.Kinds)}
	if q.Source.IsValid() {
		r.Source = q.Source.String()
	}
	if q.One {
		r.Limit = 1
	}
	for _, s := range q.Status {
		r.Classes = append(r.Classes, uint32(s))
	}
	if !q.Message.IsZero() {
		r.Message = q.Message.String()
	}
	return r
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Trace puts together what every member knows of a message or an address: a queue that changed hands has left its
// earlier events with its earlier owner.
func (g eventLog) Trace(ctx context.Context, q service.TraceQuery) (service.Trace, error) {
	req := &adminpb.TraceRequest{Address: string(q.Address), Limit: int32(q.Limit)}
	if !q.Message.IsZero() {
		req.Message = q.Message.String()
	}
	wait := ask(ctx, g.gatherer, func(ctx context.Context, c member) (*adminpb.TraceResponse, error) {
		r, err := c.Trace(ctx, req)
		if connect.CodeOf(err) == connect.CodeNotFound {
			return &adminpb.TraceResponse{}, nil
		}
		return r, err
	})
	t, err := g.Local.Log.Trace(ctx, q)
	answers, missing := wait()
	if err != nil && !errors.Is(err, service.ErrNotFound) {
		return t, err
	}
	t.Events, t.Waiting = slices.Clone(t.Events), slices.Clone(t.Waiting)
	for _, a := range answers {
		for _, e := range a.value.Events {
			t.Events = append(t.Events, rpc.EventOf(e))
		}
		for _, w := range a.value.Waiting {
			t.Waiting = append(t.Waiting, rpc.WaitingOf(w))
		}
	}
	if len(t.Events)+len(t.Waiting) == 0 && len(missing) == 0 {
		return t, err
	}
	slices.SortStableFunc(t.Events, func(a, b mail.Event) int { return a.At.Compare(b.At) })
	if q.Limit > 0 && len(t.Events) > q.Limit {
		t.Events = t.Events[len(t.Events)-q.Limit:]
	}
	return t, partial(missing)
}
