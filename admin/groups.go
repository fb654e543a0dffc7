package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
)

// author is who does what is done with the admin token.
const author = "operator"

// groupOrder is the body of POST /v1/groups/{group}/…; without one nothing is set.
type groupOrder struct {
	Tenant       string `json:"tenant"`
	RefuseIntake bool   `json:"refuse_intake"`
	HoldExpiry   bool   `json:"hold_expiry"`
}

// order reads the group and the body of a request.
func (s *Server) order(w http.ResponseWriter, r *http.Request) (group string, o groupOrder, ok bool) {
	if s.c.Services.Groups == nil {
		s.refuse(w, r, service.ErrNotYet)
		return "", o, false
	}
	group, err := service.ParseGroup(r.PathValue("group"))
	if err == nil {
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err = d.Decode(&o); errors.Is(err, io.EOF) {
			err = nil
		} else if err != nil {
			err = fmt.Errorf("%w: the body: %w", service.ErrInvalid, err)
		}
	}
	if err != nil {
		s.refuse(w, r, err)
		return "", o, false
	}
	if o.Tenant == "" {
		o.Tenant = r.URL.Query().Get("tenant")
	}
	return group, o, true
}

// stopGroup serves POST /v1/groups/{group}/stop.
func (s *Server) stopGroup(w http.ResponseWriter, r *http.Request) {
	group, o, ok := s.order(w, r)
	if !ok {
		return
	}
	if err := service.Known(s.c.Services.Tenants, o.Tenant); err != nil { // it would stop nothing, and say that it had
		s.refuse(w, r, err)
		return
	}
	st, err := s.c.Services.Groups.Stop(r.Context(), service.GroupStop{Tenant: o.Tenant, Group: group,
		RefuseIntake: o.RefuseIntake, HoldExpiry: o.HoldExpiry, Author: author})
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	type node struct {
		Name       string  `json:"name"`
		Confirmed  bool    `json:"confirmed"`
		MissingFor float64 `json:"missing_for,omitempty"` // seconds
	}
	out := struct {
		State    string     `json:"state"`
		Nodes    []node     `json:"nodes"`
		Held     int        `json:"held"`
		InFlight int        `json:"in_flight"`
		LastSent *time.Time `json:"last_sent"`
	}{State: st.State, Nodes: []node{}, Held: st.Held, InFlight: st.InFlight}
	for _, n := range st.Nodes {
		out.Nodes = append(out.Nodes, node{n.Name, n.Confirmed, n.MissingFor.Seconds()})
	}
	if !st.LastSent.IsZero() {
		last := st.LastSent.UTC()
		out.LastSent = &last
	}
	reply(w, out)
}

// resumeGroup serves POST /v1/groups/{group}/resume.
func (s *Server) resumeGroup(w http.ResponseWriter, r *http.Request) {
	group, o, ok := s.order(w, r)
	if !ok {
		return
	}
	if err := s.c.Services.Groups.Resume(r.Context(), o.Tenant, group, author); err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, map[string]string{"state": service.GroupOpen})
}

// discardGroup serves POST /v1/groups/{group}/discard.
func (s *Server) discardGroup(w http.ResponseWriter, r *http.Request) {
	group, o, ok := s.order(w, r)
	if !ok {
		return
	}
	n, err := s.c.Services.Groups.Discard(r.Context(), o.Tenant, group, author)
	missing, err := absent(w, err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, struct {
		Discarded int          `json:"discarded"`
		Missing   []absentJSON `json:"missing,omitempty"`
	}{n, missing})
}
