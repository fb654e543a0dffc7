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
}

// stream is one member's log, read line by line.
type stream struct {
	node string
	next func() (line, bool)
	head line
	more bool // head is the next line
}

func (s *stream) advance() { s.head, s.more = s.next() }

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
		ownErr = g.Local.Log.Search(ctx, own, func(e mail.Event, position string) bool { return yield(line{e, position}) })
	})
	defer stop()
	streams := []*stream{{node: g.Name, next: next}}
	answers, missing := wait()
	known := map[string]bool{g.Name: true}
	for _, a := range answers {
		r := &remoteLog{g: g.gatherer, name: a.node, query: q, page: a.value, missing: &missing}
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
	for _, s := range streams {
		s.advance()
	}
	for ownErr == nil {
		s := oldest(streams)
		if s == nil {
			break
		}
		at[s.node] = s.head.position
		if !yield(s.head.event, at.String()) {
			break
		}
		s.advance()
	}
	if ownErr != nil {
		return ownErr
	}
	return partial(missing)
}

// searchOf reads on in the log of one member, of which a webhook told the cursor.
func (g eventLog) searchOf(ctx context.Context, q service.EventQuery, node, position string, yield func(mail.Event, string) bool) error {
	tell := func(e mail.Event, at string) bool { return yield(e, node+cursorAt+at) }
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
	r := &remoteLog{g: g.gatherer, name: node, query: q, page: first, missing: &missing}
	for l, ok := r.next(ctx); ok; l, ok = r.next(ctx) {
		if !tell(l.event, l.position) {
			break
		}
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
		if len(a.value.Events) > 0 {
			yield(rpc.EventOf(a.value.Events[0]), cursor{a.node: a.value.NextCursor}.String())
			return nil
		}
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
	at      int // in page
	missing *[]service.Absent
}

func (r *remoteLog) next(ctx context.Context) (line, bool) {
	if r.at == len(r.page.Events) {
		if !r.page.More {
			return line{}, false
		}
		after := r.page.NextCursor
		p, err := one(ctx, r.g, r.name, r.g.Timeout, func(ctx context.Context, c member) (*adminpb.SearchEventsResponse, error) {
			return c.SearchEvents(ctx, searchRequest(r.query, after))
		})
		if err != nil {
			*r.missing = append(*r.missing, r.g.absent(Peer{Name: r.name}, err))
			return line{}, false
		}
		if r.page, r.at = p, 0; len(p.Events) == 0 {
			return line{}, false
		}
	}
	l := line{event: rpc.EventOf(r.page.Events[r.at]), position: r.page.NextCursor}
	if r.at < len(r.page.Positions) {
		l.position = r.page.Positions[r.at]
	}
	r.at++
	return l, true
}

func searchRequest(q service.EventQuery, after string) *adminpb.SearchEventsRequest {
	r := &adminpb.SearchEventsRequest{To: string(q.To), From: string(q.From), Group: q.Group, Tenant: q.Tenant, Domain: string(q.Domain),
		Since: stamp(q.Since), Until: stamp(q.Until), Cursor: after, Limit: page, ApiData: q.APIData, Mail: q.Mail}
	if q.Source.IsValid() {
		r.Source = q.Source.String()
	}
	if q.One {
		r.Limit = 1
	}
	for _, s := range q.Status {
		r.Classes = append(r.Classes, uint32(s))
	}
	if q.Kind != 0 {
		r.Status = service.StatusWord(q.Kind)
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
		return t, service.ErrNotFound
	}
	slices.SortStableFunc(t.Events, func(a, b mail.Event) int { return a.At.Compare(b.At) })
	if q.Limit > 0 && len(t.Events) > q.Limit {
		t.Events = t.Events[len(t.Events)-q.Limit:]
	}
	return t, partial(missing)
}
