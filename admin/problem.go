package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// problem answers with an error as RFC 9457 writes it.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	writeJSON(w, struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
	}{"about:blank", http.StatusText(status), status, detail})
}

// refuse answers with an error of a service. Trouble of the node goes to the log, not to the caller.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var wrong settings.Errors
	if errors.As(err, &wrong) {
		refuseSettings(w, wrong)
		return
	}
	for _, m := range []struct {
		err    error
		status int
	}{
		{service.ErrInvalid, http.StatusBadRequest},
		{service.ErrNotFound, http.StatusNotFound},
		{service.ErrConflict, http.StatusConflict},
		{service.ErrRefused, http.StatusConflict},
		{service.ErrNoQuorum, http.StatusServiceUnavailable},
		{service.ErrNotYet, http.StatusNotImplemented},
		{service.ErrSealed, http.StatusServiceUnavailable},
		{service.ErrUnready, http.StatusServiceUnavailable},
		{service.ErrTooSoon, http.StatusTooManyRequests},
		{context.DeadlineExceeded, http.StatusGatewayTimeout},
	} {
		if errors.Is(err, m.err) {
			problem(w, m.status, err.Error())
			return
		}
	}
	if !errors.Is(err, context.Canceled) {
		s.c.Log.Error("request failed", "path", r.URL.Path, "error", err)
	}
	problem(w, http.StatusInternalServerError, "the node has trouble answering; its log says why")
}

func notBuilt(w http.ResponseWriter, _ *http.Request) {
	problem(w, http.StatusNotFound, "there is no such call in this release")
}

// notAllowed answers a call of a path by another method than those it has.
func notAllowed(methods []string) http.HandlerFunc {
	list := strings.Join(methods, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", list)
		problem(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s is not served here; allowed: %s", r.Method, list))
	}
}

// reply answers 200 with v as JSON.
func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	writeJSON(w, v)
}

// writeJSON writes v; text in it is escaped so that no browser can take it for markup. A peer that has gone away is
// no trouble.
func writeJSON(w http.ResponseWriter, v any) {
	_ = json.NewEncoder(w).Encode(v)
}
