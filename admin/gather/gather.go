// Package gather answers for all members of a cluster: it asks every other member for what it alone knows, puts the
// answers together with this node's own, and says who did not answer.
//
// It must never hide that an answer is incomplete, never wait for a dead member longer than its time-out, and never
// decide: what all members agree on anyway (settings, suppression, audit) passes through to this node's services.
// Read Services first, then ask.
package gather

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	defaultTimeout = 2 * time.Second
	rebuildTimeout = 30 * time.Second // members answer within half of it, whether they have counted all of the log or not
	drainTimeout   = time.Minute      // a member that drains finishes its open transactions and waits for its standby
	maxAnswer      = 64 << 20         // octets
)

// Peer is another member.
type Peer struct {
	Name string
	Seen time.Time // when it was last heard of by any means, by the machine's clock; zero = unknown
}

// Peers are the other members. Its methods may be called from anywhere.
type Peers interface {
	// List returns all that ought to answer, dead or alive, without this node.
	List() []Peer
	// Client returns a caller of the named member's RPC (see NewClient), or nil where there is no way to it.
	Client(name string) adminpb.AdminServiceClient
}

// NewClient returns a caller of a member's RPC. do carries the requests over the wire between members; baseURL is what
// do expects in front of the path.
func NewClient(do connect.HTTPClient, baseURL string) adminpb.AdminServiceClient {
	return adminpb.NewAdminServiceClient(do, baseURL, connect.WithReadMaxBytes(maxAnswer))
}

// Config is what gathering needs.
type Config struct {
	Name    string           // of this node
	Local   service.Services // what this node alone answers
	Peers   Peers
	Timeout time.Duration // of one question to one member; 0 = 2 s
	Log     *slog.Logger
}

// Services returns services that answer for all members where members know different things.
func Services(c Config) service.Services {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	g := &gatherer{Config: c, answered: map[string]time.Time{}, late: map[string]time.Time{}}
	s := c.Local
	if s.Numbers != nil {
		s.Numbers = numbers{g}
	}
	if s.Log != nil {
		s.Log = eventLog{g}
	}
	if s.Statistics != nil {
		s.Statistics = statisticsOfAll{c.Local.Statistics, g}
	}
	if s.Groups != nil {
		s.Groups = groups{c.Local.Groups, g}
	}
	if s.Gates != nil {
		s.Gates = gates{g}
	}
	if s.Reservations != nil {
		s.Reservations = reservations{g}
	}
	if s.Replies != nil {
		s.Replies = replies{g}
	}
	if s.Members != nil {
		s.Members = members{c.Local.Members, g}
	}
	return s
}

type gatherer struct {
	Config

	mu       sync.Mutex
	answered map[string]time.Time // when each member last answered a question of ours
	late     map[string]time.Time // when each last did not, within its time
}

// member is who is asked.
type member struct {
	adminpb.AdminServiceClient
	name string
}

// answer is what a member said.
type answer[T any] struct {
	node  string
	value T
}

// ask puts a question to every other member at once. The returned function waits for the answers, at most the
// time-out, and returns them in the order of the members' names, and who did not answer.
func ask[T any](ctx context.Context, g *gatherer, question func(context.Context, member) (T, error)) func() ([]answer[T], []service.Absent) {
	return askFor(ctx, g, g.Timeout, question)
}

// askFor is ask with a time-out of its own.
func askFor[T any](ctx context.Context, g *gatherer, timeout time.Duration, question func(context.Context, member) (T, error)) func() ([]answer[T], []service.Absent) {
	peers := g.Peers.List()
	slices.SortFunc(peers, func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
	values, failures := make([]T, len(peers)), make([]error, len(peers))
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() {
			values[i], failures[i] = one(ctx, g, p.Name, timeout, question)
		})
	}
	return func() (answers []answer[T], missing []service.Absent) {
		all.Wait()
		for i, p := range peers {
			if failures[i] != nil {
				missing = append(missing, g.absent(p, failures[i]))
				continue
			}
			answers = append(answers, answer[T]{p.Name, values[i]})
		}
		return answers, missing
	}
}

// one puts a question to one member, which is to answer for itself alone, within the time-out.
func one[T any](ctx context.Context, g *gatherer, name string, timeout time.Duration, question func(context.Context, member) (T, error)) (value T, err error) {
	client := g.Peers.Client(name)
	if client == nil {
		return value, errNoWay
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	limited, call := connect.NewClientContext(limited)
	call.RequestHeader().Set(rpc.ScopeHeader, rpc.ScopeNode)
	value, err = question(limited, member{client, name})
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.answered[name] = clock.Wall()
		delete(g.late, name)
	case limited.Err() != nil && ctx.Err() == nil:
		g.late[name] = clock.Wall()
	}
	return value, err
}

// silent tells whether a member lately did not answer in time.
func (g *gatherer) silent(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, late := g.late[name]
	return late && clock.Since(at) < silence
}

var errNoWay = errors.New("there is no connection to it")

// absent describes a member that did not answer.
func (g *gatherer) absent(p Peer, err error) service.Absent {
	g.mu.Lock()
	seen := g.answered[p.Name]
	g.mu.Unlock()
	if p.Seen.After(seen) {
		seen = p.Seen
	}
	a := service.Absent{Name: p.Name, For: -1, Reason: err.Error()}
	if !seen.IsZero() {
		a.For = max(clock.Since(seen), 0)
	}
	var ce *connect.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), connect.CodeOf(err) == connect.CodeDeadlineExceeded:
		a.Reason = fmt.Sprintf("no answer within %v", g.Timeout)
	case errors.As(err, &ce):
		a.Reason = ce.Message()
	}
	g.Log.Debug("member did not answer", "member", p.Name, "reason", a.Reason)
	return a
}

// partial is the error of an answer that lacks what the missing know; nil where nobody is missing.
func partial(missing ...[]service.Absent) error {
	all := map[string]service.Absent{}
	for _, list := range missing {
		for _, a := range list {
			all[a.Name] = a
		}
	}
	if len(all) == 0 {
		return nil
	}
	p := &service.Partial{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p.Missing = append(p.Missing, all[name])
	}
	return p
}
