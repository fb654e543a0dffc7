package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

const (
	settingsPath = "/v1/settings"
	maxSettings  = 5 << 20 // octets; settings themselves are refused above 4 MiB with better words
)

// settings serves GET /v1/settings: the settings in force as JSON, or as YAML to who asks for application/yaml. ETag is
// their revision.
func (s *Server) settings(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Settings == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	yaml, revision, err := s.c.Services.Settings.Settings(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("ETag", entityTag(revision))
	if strings.Contains(r.Header.Get("Accept"), "yaml") {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(yaml)
		return
	}
	book, err := settings.Decode(yaml, nil)
	if err != nil {
		s.refuse(w, r, fmt.Errorf("settings in force: %w", errors.New(err.Error()))) // our trouble, not the caller's file
		return
	}
	reply(w, book)
}

type changeJSON struct {
	Kind   string     `json:"kind"`
	Name   string     `json:"name"`
	Change string     `json:"change"`
	Lines  []lineJSON `json:"lines"`
}

type lineJSON struct {
	Key string `json:"key"`
	Old string `json:"old"`
	New string `json:"new"`
}

// applySettings serves PUT /v1/settings[?dry_run=true] with settings as YAML or JSON. With If-Match, 412 unless that
// revision is in force.
func (s *Server) applySettings(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Settings == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	a := service.Application{Author: author}
	var err error
	if a.Base, err = revisionOf(r.Header.Get("If-Match")); err != nil {
		s.refuse(w, r, err)
		return
	}
	if v := r.URL.Query().Get("dry_run"); v != "" {
		if a.DryRun, err = strconv.ParseBool(v); err != nil {
			problem(w, http.StatusBadRequest, "dry_run must be true or false")
			return
		}
	}
	if a.YAML, err = io.ReadAll(r.Body); err != nil {
		problem(w, http.StatusRequestEntityTooLarge, "the settings are too large")
		return
	}
	done, err := s.c.Services.Settings.Apply(r.Context(), a)
	if errors.Is(err, service.ErrConflict) && a.Base != nil {
		problem(w, http.StatusPreconditionFailed, err.Error())
		return
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := struct {
		Revision   uint64       `json:"revision"`
		Difference string       `json:"difference"`
		Changes    []changeJSON `json:"changes"`
	}{done.Revision, settings.Difference(done.Changes), []changeJSON{}}
	for _, c := range done.Changes {
		one := changeJSON{Kind: c.Kind, Name: c.Name, Change: c.Change, Lines: []lineJSON{}}
		for _, l := range c.Lines {
			one.Lines = append(one.Lines, lineJSON(l))
		}
		out.Changes = append(out.Changes, one)
	}
	w.Header().Set("ETag", entityTag(done.Revision))
	reply(w, out)
}

func entityTag(revision uint64) string { return `"` + strconv.FormatUint(revision, 10) + `"` }

// revisionOf reads If-Match (RFC 9110 §13.1.1): one entity tag of ours, or nothing, or "*".
func revisionOf(match string) (*uint64, error) {
	if match == "" || match == "*" {
		return nil, nil
	}
	text, opened := strings.CutPrefix(strings.TrimSpace(match), `"`)
	text, closed := strings.CutSuffix(text, `"`)
	n, err := strconv.ParseUint(text, 10, 64)
	if !opened || !closed || err != nil {
		return nil, fmt.Errorf(`%w: If-Match must be an ETag of GET %s, such as "7"`, service.ErrInvalid, settingsPath)
	}
	return &n, nil
}

// refuseSettings answers with everything that is wrong with settings, line by line.
func refuseSettings(w http.ResponseWriter, wrong settings.Errors) {
	type row struct {
		Line int    `json:"line"` // 0 where no line is to blame
		Key  string `json:"key"`
		Text string `json:"text"`
	}
	out := struct {
		Type     string `json:"type"`
		Title    string `json:"title"`
		Status   int    `json:"status"`
		Detail   string `json:"detail"`
		Problems []row  `json:"problems"`
	}{"about:blank", http.StatusText(http.StatusBadRequest), http.StatusBadRequest, wrong.Error(), nil}
	for _, e := range wrong {
		out.Problems = append(out.Problems, row{e.Line, e.Key, e.Text})
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(out)
}
