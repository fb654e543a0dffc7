package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// statistics serves GET /v1/statistics?view=daily|results|errors&by=day|month&tenant=&composition=&user=&domain=&from=&to=.
// domain is that of the sender, of the errors that of the recipient.
func (s *Server) statistics(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Statistics == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	v := r.URL.Query()
	q, err := statisticsQuery(v, s.c.Clock.Now())
	view, by := v.Get("view"), v.Get("by")
	switch {
	case err != nil:
	case view != "" && view != "daily" && view != "results" && view != "errors":
		err = fmt.Errorf("%w: view: %q is no view; allowed: daily, results, errors", service.ErrInvalid, view)
	case by != "" && by != "day" && by != "month":
		err = fmt.Errorf("%w: by is day or month, not %q", service.ErrInvalid, by)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if view == "errors" {
		q.From, q.To = "", q.From
	}
	report, err := s.c.Services.Statistics.Statistics(r.Context(), q)
	missing, err := absent(w, err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := struct {
		Through    string       `json:"through,omitempty"` // the last day worked up; empty = none yet
		Statistics any          `json:"statistics"`
		Warning    string       `json:"warning,omitempty"`
		Missing    []absentJSON `json:"missing,omitempty"`
	}{Missing: missing}
	if report.Through > 0 {
		out.Through = report.Through.String()
	}
	switch view {
	case "errors":
		out.Statistics = sliceRows(statistics.SlicesOf(report.Errors))
	case "results":
		out.Statistics = outcomeRows(statistics.OutcomesOf(report.Rows, by == "month"))
	default:
		lines, total := statistics.DailyOf(report.Rows, by == "month")
		if total.Warns() {
			out.Warning = fmt.Sprintf("the error rate is %s %%, above %d %%: clean the lists of addresses", total.ErrorRate(), statistics.WarnAbove)
		}
		out.Statistics = dailyRows(lines, &total)
	}
	reply(w, out)
}

// statisticsQuery reads what is asked for.
func statisticsQuery(v url.Values, now time.Time) (service.StatisticsQuery, error) {
	q := service.StatisticsQuery{Tenant: v.Get("tenant"), Composition: v.Get("composition"), User: v.Get("user")}
	if d := v.Get("domain"); d != "" {
		var err error
		if q.From, err = mail.ParseDomain(d); err != nil {
			return q, fmt.Errorf("%w: domain: %w", service.ErrInvalid, err)
		}
	}
	return q, q.ReadDays(v.Get("from"), v.Get("to"), now)
}

// dailyJSON is a line of the daily table (requirements R81, R99). The last line has the date "total".
type dailyJSON struct {
	Date         string          `json:"date"`
	Queued       uint64          `json:"queued"`
	Succeeded    uint64          `json:"succeeded"`
	Failed       uint64          `json:"failed"`
	Blocked      uint64          `json:"blocked"`
	Valid        uint64          `json:"valid"`
	Bounced      uint64          `json:"bounced"` // reported as failed after their success
	ErrorRate    json.RawMessage `json:"error_rate"`
	DeliveryRate json.RawMessage `json:"delivery_rate"`
	Warning      bool            `json:"warning"` // the error rate is above 3 %
}

func dailyRows(lines []statistics.Daily, total *statistics.Daily) []dailyJSON {
	out := []dailyJSON{}
	for i := range lines {
		out = append(out, dailyRow(&lines[i]))
	}
	if len(lines) > 0 {
		out = append(out, dailyRow(total))
	}
	return out
}

// dailyRow prints rates as numbers, to the decimal that requirement E-1 wants.
func dailyRow(d *statistics.Daily) dailyJSON {
	return dailyJSON{d.Span, d.Queued, d.Succeeded, d.Failed, d.Blocked, d.Valid(), d.Bounced, json.RawMessage(d.ErrorRate()),
		json.RawMessage(d.DeliveryRate()), d.Warns()}
}

// outcomeJSON is a line of the table of results (requirement R83). The last line has the date "total".
type outcomeJSON struct {
	Date        string          `json:"date"`
	Source      string          `json:"source"`      // FROM domain
	Destination string          `json:"destination"` // the carrier's domain; "pc" for everybody else
	Cleaning    string          `json:"cleaning"`    // how much was sent so; "--" for other mail (E-45)
	Success     uint64          `json:"success"`
	NG          uint64          `json:"ng"`
	Rate        json.RawMessage `json:"rate"` // percent
}

func outcomeRows(lines []statistics.Outcome, total statistics.Outcome) []outcomeJSON {
	out := []outcomeJSON{}
	if len(lines) > 0 {
		lines = append(lines, total)
	}
	for _, o := range lines {
		row := outcomeJSON{o.Span, o.Source, o.Destination, "--", o.Success, o.NG, json.RawMessage(o.Rate())}
		if o.Cleaning {
			row.Cleaning = strconv.FormatUint(o.Success+o.NG, 10)
		}
		out = append(out, row)
	}
	return out
}

// sliceJSON is a slice of the pie of error statuses (requirement R97). The domain "total" is all of them.
type sliceJSON struct {
	Domain string `json:"domain"`
	Status string `json:"status"` // 1-12, 99
	Count  uint64 `json:"count"`
}

func sliceRows(list []statistics.Slice) []sliceJSON {
	out := []sliceJSON{}
	for _, v := range list {
		out = append(out, sliceJSON{string(v.Domain), strconv.Itoa(int(v.Status)), v.Count})
	}
	return out
}
