package gather

import (
	"context"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// localStatistics is embedded under a name that leaves Statistics to the method.
type localStatistics = service.Statistics

// statisticsOfAll passes through the downloads, which all members agree on.
type statisticsOfAll struct {
	localStatistics
	g *gatherer
}

// Statistics adds up row by row, as far as every member that answers has worked its days up.
func (s statisticsOfAll) Statistics(ctx context.Context, q service.StatisticsQuery) (service.StatisticsReport, error) {
	wait := ask(ctx, s.g, func(ctx context.Context, c member) (*adminpb.GetStatisticsResponse, error) {
		return c.GetStatistics(ctx, &adminpb.GetStatisticsRequest{From: q.First.String(), To: q.Last.String(), Tenant: q.Tenant,
			Composition: q.Composition, User: q.User, FromDomain: string(q.From), ToDomain: string(q.To), Live: q.Live})
	})
	own, err := s.localStatistics.Statistics(ctx, q)
	answers, missing := wait()
	if err != nil {
		return own, err
	}
	for _, a := range answers {
		other := rpc.StatisticsOf(a.value)
		own.Through = min(own.Through, other.Through)
		own.Rows = append(own.Rows, other.Rows...)
		own.Errors = append(own.Errors, other.Errors...)
	}
	return addUp(own), partial(missing)
}

// addUp makes one of rows that are of the same, and leaves out days that not all have worked up.
func addUp(r service.StatisticsReport) service.StatisticsReport {
	type rowOf struct {
		date statistics.Date
		row  statistics.Row
	}
	type errorOf struct {
		date statistics.Date
		of   statistics.ErrorsOf
	}
	counted := func(date statistics.Date) bool { return date <= r.Through }
	return service.StatisticsReport{Through: r.Through,
		Rows: merge(r.Rows, func(v *statistics.Counted) (rowOf, bool) { return rowOf{v.Date, v.Row}, counted(v.Date) },
			func(sum, v *statistics.Counted) { sum.Add(v.Result) }),
		Errors: merge(r.Errors, func(v *statistics.Errors) (errorOf, bool) { return errorOf{v.Date, v.ErrorsOf}, counted(v.Date) },
			func(sum, v *statistics.Errors) { sum.Count += v.Count })}
}

// merge adds up what has the same key, in the order in which keys appear; what key does not want is left out.
func merge[K comparable, T any](list []T, key func(*T) (K, bool), add func(sum, v *T)) (out []T) {
	at := map[K]int{}
	for i := range list {
		k, wanted := key(&list[i])
		if !wanted {
			continue
		}
		if have, known := at[k]; known {
			add(&out[have], &list[i])
			continue
		}
		at[k] = len(out)
		out = append(out, list[i])
	}
	return out
}

// Rebuild has every member count anew, or asks every member how far it is.
func (s statisticsOfAll) Rebuild(ctx context.Context, watch bool) ([]service.Rebuilt, error) {
	wait := askFor(ctx, s.g, rebuildTimeout, func(ctx context.Context, c member) (*adminpb.RebuildStatisticsResponse, error) {
		return c.RebuildStatistics(ctx, &adminpb.RebuildStatisticsRequest{Watch: watch})
	})
	out, err := s.localStatistics.Rebuild(ctx, watch)
	answers, missing := wait()
	if err != nil {
		return nil, err
	}
	for _, a := range answers {
		for _, v := range a.value.Nodes {
			out = append(out, service.Rebuilt{Node: v.Node, Events: v.Events, Same: v.Same, Running: v.Running})
		}
	}
	return out, partial(missing)
}
