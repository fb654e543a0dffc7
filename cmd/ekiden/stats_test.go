package main

import (
	"context"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// days are the statistics of two days in March 2026, of the tenant shop.
type days struct{}

func (days) Statistics(_ context.Context, q service.StatisticsQuery) (service.StatisticsReport, error) {
	first, _ := statistics.ParseDate("2026/03/01")
	report := service.StatisticsReport{Through: first + 1}
	if q.Tenant != "" && q.Tenant != "shop" {
		return report, nil
	}
	row := statistics.Row{Tenant: "shop", From: "shop.example", Carrier: "docomo"}
	for _, c := range []statistics.Counted{
		{Date: first, Row: row, Result: statistics.Result{Queued: 7833, Succeeded: 7800, Failed: 33, Success: 618, NG: 272}},
		{Date: first + 1, Row: row, Result: statistics.Result{Queued: 649, Succeeded: 605, Failed: 40, Blocked: 4}},
	} {
		if q.First != first+1 || c.Date > first {
			report.Rows = append(report.Rows, c)
		}
	}
	report.Errors = []statistics.Errors{{Date: first, Count: 33,
		ErrorsOf: statistics.ErrorsOf{Tenant: "shop", Domain: "docomo.ne.jp", Status: mail.StatusUserUnknown}}}
	return report, nil
}

// Rebuild takes as long as the first call waits.
func (days) Rebuild(_ context.Context, watch bool) ([]service.Rebuilt, error) {
	if !watch {
		return []service.Rebuilt{{Node: "n1", Events: 5, Running: true}}, nil
	}
	return []service.Rebuilt{{Node: "n1", Events: 12, Same: true}}, nil
}

func (days) Downloads(context.Context, string) ([]service.Download, error) { return nil, nil }

func (days) NoteDownload(context.Context, service.Download) error { return nil }
