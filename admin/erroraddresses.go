package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/admin/service"
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

// errorAddresses serves GET /v1/error-addresses?tenant=&domain=&date=&user=&format=json|tsv: those of one day that has
// been worked up (requirement R133), yesterday where none is named. domain is that of the sender.
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
	list, err := s.collect(r, q, mail.Domain(v.Get("domain")))
	missing, err := absent(w, err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if v.Get("format") != "tsv" {
		reply(w, struct {
			Date      string             `json:"date"`
			Addresses []errorAddressJSON `json:"error_addresses"`
			Missing   []absentJSON       `json:"missing,omitempty"`
		}{date.String(), list, missing})
		return
	}
	err = s.c.Services.Statistics.NoteDownload(r.Context(), service.Download{Tenant: q.Tenant, Account: authorOf(r), At: s.c.Clock.Now(), Count: len(list)})
	if err != nil { // who took the addresses must be known
		s.refuse(w, r, err)
		return
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
	q := service.EventQuery{Tenant: v.Get("tenant"), User: v.Get("user"), Since: date.Begin(), Until: (date + 1).Begin(),
		Status: []mail.Status{mail.StatusHostUnknown, mail.StatusUserUnknown, mail.StatusRefused}}
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

// collect looks through the log of the day; each address stands in the list once, with the first that was said of it.
func (s *Server) collect(r *http.Request, q service.EventQuery, domain mail.Domain) ([]errorAddressJSON, error) {
	out, seen := []errorAddressJSON{}, map[string]struct{}{}
	full := false
	err := s.c.Services.Log.Search(r.Context(), q, func(e mail.Event, _ string) bool {
		if !statistics.IsError(&e) || domain != "" && e.From.Domain() != domain ||
			e.Kind == mail.EventSuppressed && e.Status == mail.StatusRefused {
			return true
		}
		if _, known := seen[e.To.Fold()]; known {
			return true
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
		return true
	})
	if full {
		return nil, fmt.Errorf("%w: more than %d addresses; narrow by tenant, domain or user", service.ErrInvalid, maxErrorAddresses)
	}
	return out, err
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
