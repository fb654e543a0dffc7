package compat

import (
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// statistic is one record of statistics/list (requirement B6).
type statistic struct {
	Date      string `json:"date" xml:"date"`
	Queued    uint64 `json:"queued" xml:"queued"`
	Succeeded uint64 `json:"succeeded" xml:"succeeded"`
	Failed    uint64 `json:"failed" xml:"failed"`
	Blocked   uint64 `json:"blocked" xml:"blocked"`
	Valid     uint64 `json:"valid" xml:"valid"`
}

// The years that are asked for.
const (
	firstYear = 1970
	lastYear  = 9999
)

// statistics serves statistics/list: the days of a month on which there was mail, today included (E-29), or their sum.
func (c *call) statistics() (*answer, error) {
	c.needed("year")
	c.needed("month")
	year, month := c.number("year", 0, firstYear, lastYear), c.number("month", 0, 1, 12)
	total := c.truth("total")
	q := service.StatisticsQuery{Tenant: c.user.Tenant, Live: true}
	if c.values.Get("server_composition") != "" {
		q.Composition = c.composition()
	}
	if c.user.OwnData {
		q.User = c.user.Name
	}
	first := time.Date(year, time.Month(month), 1, 0, 0, 0, 0, time.Local)
	if year > 0 && first.After(c.now) {
		c.faults.add(codeDate, "month")
	}
	if len(c.faults.list) > 0 {
		return nil, c.faults
	}
	q.First, q.Last = statistics.DateOf(first), statistics.DateOf(first.AddDate(0, 1, -1))
	report, err := c.c.Services.Statistics.Statistics(c.ctx, q)
	lines, sum := statistics.DailyOf(report.Rows, false)
	if total {
		lines = []statistics.Daily{sum}
	}
	out := &answer{name: "statistics", item: "statistic"}
	for i := range lines {
		d := &lines[i]
		out.list = append(out.list, statistic{strings.ReplaceAll(d.Span, "/", "-"), d.Queued, d.Succeeded, d.Failed, d.Blocked, d.Valid()})
	}
	return out, err
}
