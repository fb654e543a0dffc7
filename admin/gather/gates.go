package gather

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
)

// gates are agreed on by all members; what one of them alone knows is asked of it.
type gates struct{ *gatherer }

// Suspend is agreed on. A source address is known to the member that has it: where this one does not, another puts it to
// the members.
func (g gates) Suspend(ctx context.Context, s service.Suspension) error {
	err := g.Local.Gates.Suspend(ctx, s)
	if s.Kind != service.SubjectSource || !errors.Is(err, service.ErrInvalid) {
		return err
	}
	req := &adminpb.SuspendRequest{Subject: rpc.SubjectOf(s.Subject), Reason: s.Reason}
	if !s.Until.IsZero() {
		req.For = durationpb.New(s.Until.Sub(s.Since))
	}
	return g.elsewhere(ctx, err, connect.CodeInvalidArgument, func(ctx context.Context, c member) error {
		_, err := c.Suspend(ctx, req)
		return err
	})
}

// Unsuspend is agreed on; a block is lifted by the member whose source waits it out. ErrNotFound where none of those that
// answer knows of it.
func (g gates) Unsuspend(ctx context.Context, s service.Subject, author string) error {
	err := g.Local.Gates.Unsuspend(ctx, s, author)
	if !errors.Is(err, service.ErrNotFound) && (err != nil || s.Kind != service.SubjectRule) { // of a rule others may have their own
		return err
	}
	return g.elsewhere(ctx, err, connect.CodeNotFound, func(ctx context.Context, c member) error {
		_, err := c.Unsuspend(ctx, &adminpb.UnsuspendRequest{Subject: rpc.SubjectOf(s)})
		return err
	})
}

// elsewhere asks the other members to do what this one cannot. own is why; a member that says code cannot either.
func (g gates) elsewhere(ctx context.Context, own error, code connect.Code, do func(context.Context, member) error) error {
	answers, missing := ask(ctx, g.gatherer, func(ctx context.Context, c member) (bool, error) {
		err := do(ctx, c)
		if connect.CodeOf(err) == code {
			return false, nil
		}
		return err == nil, err
	})()
	if slices.ContainsFunc(answers, func(a answer[bool]) bool { return a.value }) {
		return partial(missing)
	}
	return own
}

// Suspensions lists each subject once, with the suspension that lasts longest.
func (g gates) Suspensions(ctx context.Context) ([]service.Suspension, error) {
	wait := ask(ctx, g.gatherer, func(ctx context.Context, c member) (*adminpb.ListSuspensionsResponse, error) {
		return c.ListSuspensions(ctx, &adminpb.ListSuspensionsRequest{})
	})
	own, err := g.Local.Gates.Suspensions(ctx)
	answers, missing := wait()
	if err != nil {
		return nil, err
	}
	out := slices.Clone(own)
	for _, a := range answers {
		for _, p := range a.value.Suspensions {
			s, err := rpc.SuspensionOf(p)
			if err != nil {
				continue // of a kind that a newer version knows
			}
			i := slices.IndexFunc(out, func(have service.Suspension) bool { return have.Subject == s.Subject })
			if i < 0 {
				out = append(out, s)
			} else if lastsLonger(s, out[i]) {
				out[i] = s
			}
		}
	}
	slices.SortStableFunc(out, func(a, b service.Suspension) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
	return out, partial(missing)
}

func lastsLonger(a, b service.Suspension) bool {
	return !b.Until.IsZero() && (a.Until.IsZero() || a.Until.After(b.Until))
}

// members passes through what all agree on.
type members struct {
	service.Members
	g *gatherer
}

// List completes this node's view by what each member alone knows of itself.
func (s members) List(ctx context.Context) (service.Roster, error) {
	wait := ask(ctx, s.g, func(ctx context.Context, c member) (*adminpb.ListMembersResponse, error) {
		return c.ListMembers(ctx, &adminpb.ListMembersRequest{})
	})
	own, err := s.Members.List(ctx)
	answers, missing := wait()
	if err != nil {
		return own, err
	}
	own.Members = slices.Clone(own.Members)
	for _, a := range answers {
		at := slices.IndexFunc(own.Members, func(m service.Member) bool { return m.Name == a.node })
		i := slices.IndexFunc(a.value.Members, func(m *adminpb.Member) bool { return m.Name == a.node })
		if at < 0 || i < 0 {
			continue
		}
		complete(&own.Members[at], rpc.MemberOf(a.value.Members[i]))
	}
	return own, partial(missing)
}

// complete puts into m what only the member itself knows. Who owns what, and who leads, is as this node has it: a
// member that is cut off may still believe what is over.
func complete(m *service.Member, itself service.Member) {
	m.State, m.Applied, m.Waiting, m.Version = itself.State, itself.Applied, itself.Waiting, itself.Version
	for i := range m.Lineages {
		l := &m.Lineages[i]
		for _, its := range itself.Lineages {
			if its.ID == l.ID && its.Epoch == l.Epoch {
				l.Degraded, l.Exposed, l.Standbys = its.Degraded, its.Exposed, its.Standbys
			}
		}
	}
}

// Drain tells the member that is meant.
func (s members) Drain(ctx context.Context, node string) error {
	if node == "" || node == s.g.Name {
		return s.Members.Drain(ctx, "")
	}
	if !slices.ContainsFunc(s.g.Peers.List(), func(p Peer) bool { return p.Name == node }) {
		return s.Members.Drain(ctx, node) // it says in its own words that there is none of that name
	}
	_, err := one(ctx, s.g, node, drainTimeout, func(ctx context.Context, c member) (*adminpb.DrainResponse, error) {
		return c.Drain(ctx, &adminpb.DrainRequest{})
	})
	return err
}
