package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/statistics"
)

// maxErrorAddresses bounds the addresses of one list. Whoever has more of them on one day narrows by domain or user.
const maxErrorAddresses = 500_000

// errorAddressJSON is an address that got no mail on a day because it does not exist, or refused it.
type errorAddressJSON struct {
	Address string `json:"address"`
	Result  string `json:"result"` // unknown user, reject
}

// errorAddresses serves GET /v1/error-addresses?tenant=&domain=&date=&user=&cursor=&format=json|tsv: those of one day
// that has been worked up (requirement R133), yesterday where none is named. domain is that of the sender. A search that takes long
// ends with what was found, and where to go on: next_cursor, and as TSV the header Ekiden-Next-Cursor. An address of one piece may
// stand in a later one again.
func (s *Server) errorAddresses(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Statistics == nil || s.c.Services.Log == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	v := r.URL.Query()
	q, date, err := errorAddressQuery(v, s.c.Clock.Now())
	if format := v.Get("format"); err == nil && format != "" && format != "json" && format != "tsv" {
		err = fmt.Errorf("%w: format: %q is no format; allowed: json, tsv", service.ErrInvalid, format)
	}
	if err == nil {
		var report service.StatisticsReport
		report, err = s.c.Services.Statistics.Statistics(r.Context(), service.StatisticsQuery{First: date, Last: date, Tenant: q.Tenant})
		if _, err = absent(w, err); err == nil && report.Through < date {
			err = fmt.Errorf("%w: the list of %s is made the night after", service.ErrNotFound, date)
		}
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	list, next, err := s.collect(r, q, mail.Domain(v.Get("domain")))
	missing, err := absent(w, err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if v.Get("format") != "tsv" {
		reply(w, struct {
			Date       string             `json:"date"`
			Addresses  []errorAddressJSON `json:"error_addresses"`
			NextCursor string             `json:"next_cursor,omitempty"`
			More       bool               `json:"more"`
			Missing    []absentJSON       `json:"missing,omitempty"`
		}{date.String(), list, next, next != "", missing})
		return
	}
	err = s.c.Services.Statistics.NoteDownload(r.Context(), service.Download{Tenant: q.Tenant, Account: authorOf(r), At: s.c.Clock.Now(), Count: len(list)})
	if err != nil { // who took the addresses must be known
		s.refuse(w, r, err)
		return
	}
	if next != "" {
		w.Header().Set(compat.CursorHeader, next)
	}
	w.Header().Set("Content-Type", "text/tab-separated-values; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="error-addresses-`+strings.ReplaceAll(date.String(), "/", "")+`.tsv"`)
	var b strings.Builder
	for _, a := range list {
		b.WriteString(compat.TSVEscapes.Replace(a.Address) + "\t" + a.Result + "\n")
	}
	_, _ = w.Write([]byte(b.String())) // a peer that has gone away is no trouble
}

func errorAddressQuery(v url.Values, now time.Time) (service.EventQuery, statistics.Date, error) {
	date := statistics.DateOf(now) - 1
	if text := v.Get("date"); text != "" {
		var err error
		if date, err = statistics.ParseDate(text); err != nil {
			return service.EventQuery{}, 0, fmt.Errorf("%w: date: %w", service.ErrInvalid, err)
		}
	}
	q := service.EventQuery{Tenant: v.Get("tenant"), User: v.Get("user"), Since: date.Begin(), Until: (date + 1).Begin(), After: v.Get("cursor"),
		Status: []mail.Status{mail.StatusHostUnknown, mail.StatusUserUnknown, mail.StatusRefused}}
	if len(q.After) > maxCursor {
		return q, date, fmt.Errorf("%w: cursor is too long", service.ErrInvalid)
	}
	if d := v.Get("domain"); d != "" {
		domain, err := mail.ParseDomain(d)
		if err != nil {
			return q, date, fmt.Errorf("%w: domain: %w", service.ErrInvalid, err)
		}
		q.From = mail.Address("@" + domain)
		v.Set("domain", string(domain))
	}
	return q, date, nil
}

// collect looks through the log of the day; each address stands in the list once, with the first that was said of it. next is where
// to go on; "" where all was looked through.
func (s *Server) collect(r *http.Request, q service.EventQuery, domain mail.Domain) (out []errorAddressJSON, next string, err error) {
	out = []errorAddressJSON{}
	seen := map[string]struct{}{}
	full, at, ends := false, q.After, clock.Wall().Add(searchTime)
	ctx, cancel := context.WithTimeout(r.Context(), searchMost)
	defer cancel()
	q.Reached = func(position string) bool {
		if at = position; clock.Wall().Before(ends) {
			return true
		}
		next = position
		return false
	}
	err = s.c.Services.Log.Search(ctx, q, func(e mail.Event, position string) bool {
		if !statistics.IsError(&e) || domain != "" && e.From.Domain() != domain ||
			e.Kind == mail.EventSuppressed && e.Status == mail.StatusRefused {
			return q.Reached(position)
		}
		if _, known := seen[e.To.Fold()]; known {
			return q.Reached(position)
		}
		if full = len(out) == maxErrorAddresses; full {
			return false
		}
		seen[e.To.Fold()] = struct{}{}
		result := "unknown user"
		if e.Status == mail.StatusRefused {
			result = "reject"
		}
		out = append(out, errorAddressJSON{strings.Clone(string(e.To)), result})
		return q.Reached(position)
	})
	if full {
		return nil, "", fmt.Errorf("%w: more than %d addresses; narrow by tenant, domain or user", service.ErrInvalid, maxErrorAddresses)
	}
	if at != q.After && errors.Is(err, context.DeadlineExceeded) { // an answer that is late all the same
		next, err = at, nil
	}
	return out, next, err
}

// downloads serves GET /v1/error-addresses/downloads?tenant=: the newest ten, newest first (requirement R133).
func (s *Server) downloads(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Statistics == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	list, err := s.c.Services.Statistics.Downloads(r.Context(), r.URL.Query().Get("tenant"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, struct {
		Downloads []service.Download `json:"downloads"`
	}{append([]service.Download{}, list...)})
}
