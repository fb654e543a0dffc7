package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// farthest is how far from 1970 the product clock can be set, in seconds: the year 9999.
const farthest = 253402300799

// showClock serves GET /testing/clock.
func (s *Server) showClock(w http.ResponseWriter, _ *http.Request) {
	reply(w, struct {
		Now int64 `json:"now"`
	}{s.c.Clock.Now().Unix()})
}

// steerClock serves POST /testing/clock {"set":UNIX} or {"advance":"90s"}.
func (s *Server) steerClock(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Set     *int64  `json:"set"`
		Advance *string `json:"advance"`
	}
	if status, err := readJSON(r.Body, &in); err != nil {
		problem(w, status, err.Error())
		return
	}
	switch {
	case (in.Set == nil) == (in.Advance == nil):
		problem(w, http.StatusBadRequest, `either "set" (UNIX seconds) or "advance" (a duration such as 90s) is needed`)
		return
	case in.Set != nil:
		if *in.Set < 0 || *in.Set > farthest {
			problem(w, http.StatusBadRequest, "set is out of range")
			return
		}
		s.c.Clock.Set(time.Unix(*in.Set, 0))
	default:
		d, err := time.ParseDuration(*in.Advance)
		if err != nil {
			problem(w, http.StatusBadRequest, "advance must be a duration such as 90s")
			return
		}
		s.c.Clock.Advance(d)
	}
	s.c.Log.Warn("clock steered", "now", s.c.Clock.Now())
	s.showClock(w, r)
}

// runJob serves POST /testing/jobs/{job}.
func (s *Server) runJob(w http.ResponseWriter, r *http.Request) {
	job := r.PathValue("job")
	if s.c.Services.Jobs == nil {
		problem(w, http.StatusNotImplemented, "there are no jobs in this release")
		return
	}
	if err := s.c.Services.Jobs.RunJob(r.Context(), job); err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, struct {
		Job string `json:"job"`
	}{job})
}

// unknownKey begins what encoding/json says of a key that it does not know.
const unknownKey = "json: unknown field "

// readJSON reads one strict JSON object, or tells the status to answer and why.
func readJSON(body io.Reader, v any) (int, error) {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var large *http.MaxBytesError
	var kind *json.UnmarshalTypeError
	var moment momentError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, errors.New("the body is too large")
	case errors.As(err, &kind) && kind.Field != "":
		return http.StatusBadRequest, fmt.Errorf("%s: a JSON %s is no value for it", kind.Field, kind.Value)
	case err != nil && strings.HasPrefix(err.Error(), unknownKey):
		return http.StatusBadRequest, fmt.Errorf("%s is no key of this call", strings.TrimPrefix(err.Error(), unknownKey))
	case errors.As(err, &moment):
		return http.StatusBadRequest, moment
	case err != nil:
		return http.StatusBadRequest, errors.New("the body is no JSON object with the keys of this call")
	case d.More():
		return http.StatusBadRequest, errors.New("one JSON object is expected")
	}
	return http.StatusOK, nil
}
