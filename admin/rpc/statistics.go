package rpc

import (
	"context"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// GetStatistics returns what is counted day by day.
func (h *handler) GetStatistics(ctx context.Context, req *adminpb.GetStatisticsRequest) (*adminpb.GetStatisticsResponse, error) {
	if h.s.Statistics == nil {
		return nil, notYet("GetStatistics", "a later release")
	}
	q := service.StatisticsQuery{Tenant: req.Tenant, Composition: req.Composition, User: req.User, From: mail.Domain(req.FromDomain),
		To: mail.Domain(req.ToDomain), Live: req.Live}
	if err := q.ReadDays(req.From, req.To, h.clock.Now()); err != nil {
		return nil, err
	}
	report, err := h.s.Statistics.Statistics(ctx, q)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	r := &adminpb.GetStatisticsResponse{Through: report.Through.String(), Missing: missing}
	for i := range report.Rows {
		v := &report.Rows[i]
		r.Rows = append(r.Rows, &adminpb.StatisticsRow{Date: v.Date.String(), Tenant: v.Tenant, Composition: v.Composition,
			User: clean(v.User), FromDomain: clean(string(v.From)), Carrier: v.Carrier, Cleaning: v.Cleaning, Queued: v.Queued,
			Succeeded: v.Succeeded, Failed: v.Failed, Blocked: v.Blocked, Bounced: v.Bounced, Success: v.Success, Ng: v.NG})
	}
	for _, v := range report.Errors {
		r.Errors = append(r.Errors, &adminpb.ErrorCount{Date: v.Date.String(), Tenant: v.Tenant, User: clean(v.User),
			Domain: clean(string(v.Domain)), Class: uint32(v.Status), Count: v.Count})
	}
	return r, nil
}

// StatisticsOf reads a report.
func StatisticsOf(p *adminpb.GetStatisticsResponse) (report service.StatisticsReport) {
	report.Through, _ = statistics.ParseDate(p.Through) // a member that has worked nothing up
	for _, v := range p.Rows {
		date, err := statistics.ParseDate(v.Date)
		if err != nil {
			continue
		}
		report.Rows = append(report.Rows, statistics.Counted{Date: date, Row: statistics.Row{Tenant: v.Tenant, Composition: v.Composition,
			User: v.User, From: mail.Domain(v.FromDomain), Carrier: v.Carrier, Cleaning: v.Cleaning},
			Result: statistics.Result{Queued: v.Queued, Succeeded: v.Succeeded, Failed: v.Failed, Blocked: v.Blocked, Bounced: v.Bounced,
				Success: v.Success, NG: v.Ng}})
	}
	for _, v := range p.Errors {
		date, err := statistics.ParseDate(v.Date)
		if err != nil {
			continue
		}
		report.Errors = append(report.Errors, statistics.Errors{Date: date, Count: v.Count, ErrorsOf: statistics.ErrorsOf{
			Tenant: v.Tenant, User: v.User, Domain: mail.Domain(v.Domain), Status: mail.Status(v.Class)}})
	}
	return report
}

// RebuildStatistics counts everything anew, or tells how far that is.
func (h *handler) RebuildStatistics(ctx context.Context, req *adminpb.RebuildStatisticsRequest) (*adminpb.RebuildStatisticsResponse, error) {
	if h.s.Statistics == nil {
		return nil, notYet("RebuildStatistics", "a later release")
	}
	list, err := h.s.Statistics.Rebuild(ctx, req.Watch)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	r := &adminpb.RebuildStatisticsResponse{Missing: missing}
	for _, v := range list {
		r.Nodes = append(r.Nodes, &adminpb.Rebuilt{Node: v.Node, Events: v.Events, Same: v.Same, Running: v.Running})
	}
	return r, nil
}
