package gather

import (
	"cmp"
	"context"
	"slices"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
)

type numbers struct{ *gatherer }

// Counters adds up bucket by bucket.
func (g numbers) Counters(ctx context.Context, q service.CounterQuery) ([]service.CounterBucket, error) {
	wait := ask(ctx, g.gatherer, func(ctx context.Context, c member) (*adminpb.GetCountersResponse, error) {
		return c.GetCounters(ctx, &adminpb.GetCountersRequest{Unit: q.Unit, Group: q.Group, Domain: string(q.Domain), Tenant: q.Tenant})
	})
	own, err := g.Local.Numbers.Counters(ctx, q)
	answers, missing := wait()
	if err != nil {
		return nil, err
	}
	out := own
	for _, a := range answers {
		var other []service.CounterBucket
		for _, b := range a.value.Buckets {
			other = append(other, rpc.BucketOf(b))
		}
		out = addBuckets(out, other)
	}
	// A member whose clock is ahead has begun a bucket more: the window keeps its length, and its newest buckets.
	if extra := len(out) - len(own); extra > 0 && len(own) > 0 {
		out = out[extra:]
	}
	return out, partial(missing)
}

// addBuckets adds b to a, bucket by bucket as they start, oldest first.
func addBuckets(a, b []service.CounterBucket) []service.CounterBucket {
	out := slices.Clone(a)
	for _, one := range b {
		i := slices.IndexFunc(out, func(have service.CounterBucket) bool { return have.Start.Equal(one.Start) })
		if i < 0 {
			out = append(out, one)
			continue
		}
		out[i].Counters = addCounters(out[i].Counters, one.Counters)
	}
	slices.SortStableFunc(out, func(a, b service.CounterBucket) int { return a.Start.Compare(b.Start) })
	return out
}

func addCounters(a, b service.Counters) service.Counters {
	for i := range a {
		a[i] += b[i]
	}
	return a
}

func (g numbers) ask(ctx context.Context, tenant string) func() ([]answer[*adminpb.GetQueuesResponse], []service.Absent) {
	return ask(ctx, g.gatherer, func(ctx context.Context, c member) (*adminpb.GetQueuesResponse, error) {
		return c.GetQueues(ctx, &adminpb.GetQueuesRequest{Tenant: tenant})
	})
}

// Queues adds up row by row.
func (g numbers) Queues(ctx context.Context, tenant string) ([]service.Queue, error) {
	wait := g.ask(ctx, tenant)
	own, err := g.Local.Numbers.Queues(ctx, tenant)
	answers, missing := wait()
	if err != nil {
		return nil, err
	}
	out := slices.Clone(own)
	for _, a := range answers {
		for _, q := range a.value.Queues {
			i := slices.IndexFunc(out, func(have service.Queue) bool { return have.Name == q.Name })
			if i < 0 {
				out, i = append(out, service.Queue{Name: q.Name}), len(out)
			}
			out[i].Waiting += int64(q.Waiting)
			out[i].Slowed += int64(q.Slowed)
			out[i].Urgent += int64(q.Urgent)
			out[i].Warming += int64(q.Warming)
		}
	}
	return out, partial(missing)
}

// Receivers lists every member's rows under its name: a source address belongs to one member.
func (g numbers) Receivers(ctx context.Context) ([]service.Receiver, error) {
	wait := g.ask(ctx, "")
	own, err := g.Local.Numbers.Receivers(ctx)
	answers, missing := wait()
	if err != nil {
		return nil, err
	}
	out := slices.Clone(own)
	for i := range out {
		out[i].Node = g.Name
	}
	for _, a := range answers {
		for _, p := range a.value.Receivers {
			r := rpc.ReceiverOf(p)
			r.Node = a.node
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b service.Receiver) int {
		return cmp.Or(cmp.Compare(a.Receiver, b.Receiver), a.Source.Compare(b.Source), cmp.Compare(a.Node, b.Node))
	})
	return out, partial(missing)
}

// localGroups is embedded under a name that leaves Groups to the method.
type localGroups = service.Groups

// groups passes through whatever else the node's service for groups can do.
type groups struct {
	localGroups
	g *gatherer
}

// Groups adds up by name and tenant.
func (s groups) Groups(ctx context.Context) ([]service.Group, error) {
	wait := ask(ctx, s.g, func(ctx context.Context, c member) (*adminpb.ListGroupsResponse, error) {
		return c.ListGroups(ctx, &adminpb.ListGroupsRequest{})
	})
	own, err := s.localGroups.Groups(ctx)
	answers, missing := wait()
	if err != nil {
		return nil, err
	}
	out := slices.Clone(own)
	for _, a := range answers {
		for _, p := range a.value.Groups {
			out = addGroup(out, rpc.GroupOf(p))
		}
	}
	slices.SortStableFunc(out, func(a, b service.Group) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Tenant, b.Tenant))
	})
	return out, partial(missing)
}

func addGroup(list []service.Group, one service.Group) []service.Group {
	i := slices.IndexFunc(list, func(have service.Group) bool { return have.Name == one.Name && have.Tenant == one.Tenant })
	if i < 0 {
		return append(list, one)
	}
	have := &list[i]
	have.Counters = addCounters(have.Counters, one.Counters)
	if one.LastSent.After(have.LastSent) {
		have.LastSent = one.LastSent
	}
	if one.State != have.State { // one member has heard of the stop, another has not
		have.State = "stopping"
	}
	return list
}
