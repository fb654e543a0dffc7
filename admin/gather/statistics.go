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
	out := service.StatisticsReport{Through: r.Through}
	type rowOf struct {
		date statistics.Date
		row  statistics.Row
	}
	rows := map[rowOf]int{}
	for _, v := range r.Rows {
		k := rowOf{v.Date, v.Row}
		switch i, known := rows[k]; {
		case v.Date > r.Through:
		case known:
			out.Rows[i].Add(v.Result)
		default:
			rows[k] = len(out.Rows)
			out.Rows = append(out.Rows, v)
		}
	}
	type errorOf struct {
		date statistics.Date
		of   statistics.ErrorsOf
	}
	errors := map[errorOf]int{}
	for _, v := range r.Errors {
		k := errorOf{v.Date, v.ErrorsOf}
		switch i, known := errors[k]; {
		case v.Date > r.Through:
		case known:
			out.Errors[i].Count += v.Count
		default:
			errors[k] = len(out.Errors)
			out.Errors = append(out.Errors, v)
		}
	}
	return out
}

// Rebuild has every member count anew.
func (s statisticsOfAll) Rebuild(ctx context.Context) ([]service.Rebuilt, error) {
	wait := askFor(ctx, s.g, rebuildTimeout, func(ctx context.Context, c member) (*adminpb.RebuildStatisticsResponse, error) {
		return c.RebuildStatistics(ctx, &adminpb.RebuildStatisticsRequest{})
	})
	out, err := s.localStatistics.Rebuild(ctx)
	answers, missing := wait()
	if err != nil {
		return nil, err
	}
	for _, a := range answers {
		for _, v := range a.value.Nodes {
			out = append(out, service.Rebuilt{Node: v.Node, Events: v.Events, Same: v.Same})
		}
	}
	return out, partial(missing)
}
