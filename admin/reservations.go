package admin

import (
	"net/http"

	"github.com/ekiden-mta/ekiden/admin/service"
)

// reservations serves GET /v1/reservations?tenant=: one row for all mail from a domain that waits for one moment.
func (s *Server) reservations(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Reservations == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	list, err := s.c.Services.Reservations.Reservations(r.Context(), r.URL.Query().Get("tenant"))
	missing, err := absent(w, err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	type row struct {
		ID         string    `json:"id"`
		Time       *momentJS `json:"time"`
		FromDomain string    `json:"from_domain"`
		Count      int       `json:"count"`
		Tenant     string    `json:"tenant"`
	}
	out := struct {
		Reservations []row        `json:"reservations"`
		Missing      []absentJSON `json:"missing,omitempty"`
	}{[]row{}, missing}
	for _, v := range list {
		out.Reservations = append(out.Reservations, row{v.ID, momentOf(v.Time), string(v.FromDomain), v.Count, v.Tenant})
	}
	reply(w, out)
}

// cancelReservation serves DELETE /v1/reservations/{id}?tenant=.
func (s *Server) cancelReservation(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Reservations == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	n, err := s.c.Services.Reservations.CancelReservation(r.Context(), r.URL.Query().Get("tenant"), r.PathValue("id"), author)
	missing, err := absent(w, err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, struct {
		Cancelled int          `json:"cancelled"`
		Missing   []absentJSON `json:"missing,omitempty"`
	}{n, missing})
}
