package admin

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// bucketJSON is a window of counters: {"start":UNIX,"undelivered":N,…} in the order of requirement R60.
type bucketJSON service.CounterBucket

// MarshalJSON writes the twelve counters by name. The bucket of all time starts at 0.
func (b bucketJSON) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	start := int64(0)
	if !b.Start.IsZero() {
		start = b.Start.Unix()
	}
	out.WriteString(`{"start":` + strconv.FormatInt(start, 10))
	for i, n := range b.Counters {
		out.WriteString(`,"` + service.CounterName(i) + `":` + strconv.FormatInt(n, 10))
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// counters serves GET /v1/counters?unit=total|hour|5min&group=&domain=&tenant=.
func (s *Server) counters(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Numbers == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	v := r.URL.Query()
	unit, err := service.ParseUnit(v.Get("unit"))
	if err != nil {
		s.refuse(w, r, fmt.Errorf("unit: %w", err))
		return
	}
	q := service.CounterQuery{Unit: unit, Group: v.Get("group"), Tenant: v.Get("tenant")}
	if d := v.Get("domain"); d != "" {
		if q.Domain, err = mail.ParseDomain(d); err != nil {
			problem(w, http.StatusBadRequest, "domain: "+err.Error())
			return
		}
	}
	buckets, err := s.c.Services.Numbers.Counters(r.Context(), q)
	missing, err := absent(w, err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := struct {
		Buckets []bucketJSON `json:"buckets"`
		Missing []absentJSON `json:"missing,omitempty"`
	}{[]bucketJSON{}, missing}
	for _, b := range buckets {
		out.Buckets = append(out.Buckets, bucketJSON(b))
	}
	reply(w, out)
}

// queues serves GET /v1/queues?tenant=: the twelve rows of requirement R63.
func (s *Server) queues(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Numbers == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	rows, err := s.c.Services.Numbers.Queues(r.Context(), r.URL.Query().Get("tenant"))
	missing, err := absent(w, err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	type row struct {
		Name    string `json:"name"`
		Waiting int64  `json:"waiting"`
		Slowed  int64  `json:"slowed,omitempty"`
		Urgent  int64  `json:"urgent,omitempty"`
		Warming int64  `json:"warming,omitempty"`
	}
	out := struct {
		Queues  []row        `json:"queues"`
		Missing []absentJSON `json:"missing,omitempty"`
	}{[]row{}, missing}
	for _, q := range rows {
		out.Queues = append(out.Queues, row(q))
	}
	reply(w, out)
}

// absentJSON is a node that did not answer.
type absentJSON struct {
	Name       string   `json:"name"`
	MissingFor *float64 `json:"missing_for"` // seconds; null = it never answered
	Reason     string   `json:"reason"`
}

// absent takes the nodes that did not answer out of err, and names them in the head of the answer; what is left is real trouble.
func absent(w http.ResponseWriter, err error) ([]absentJSON, error) {
	var partial *service.Partial
	if !errors.As(err, &partial) {
		return nil, err
	}
	compat.TellMissing(w, partial.Missing)
	var out []absentJSON
	for _, a := range partial.Missing {
		one := absentJSON{Name: a.Name, Reason: a.Reason}
		if a.For >= 0 {
			seconds := a.For.Seconds()
			one.MissingFor = &seconds
		}
		out = append(out, one)
	}
	return out, nil
}
