package admin

import (
	"net/http"

	"github.com/ekiden-mta/ekiden/admin/service"
)

// deliveryStopJSON is what stops the deliveries of a composition (requirement R101).
type deliveryStopJSON struct {
	Tenant           string      `json:"tenant"`
	Composition      string      `json:"composition"`
	RunAt            string      `json:"run_at"`
	ReleaseAfterDays int         `json:"release_after_days"` // 0: never
	ReleaseDisabled  bool        `json:"release_disabled"`
	Reasons          map[int]int `json:"reasons"`            // status to occurrences
	LastRun          *momentJS   `json:"last_run,omitempty"` // absent: not yet, or it stops at once
	Stopped          int         `json:"stopped"`            // by the last run
}

// deliveryStops serves GET /v1/delivery-stops?tenant=.
func (s *Server) deliveryStops(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.DeliveryStops == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	list, err := s.c.Services.DeliveryStops.DeliveryStops(r.Context(), r.URL.Query().Get("tenant"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := struct {
		DeliveryStops []deliveryStopJSON `json:"delivery_stops"`
	}{DeliveryStops: []deliveryStopJSON{}}
	for _, d := range list {
		row := deliveryStopJSON{Tenant: d.Tenant, Composition: d.Composition, RunAt: d.RunAt, ReleaseAfterDays: d.ReleaseAfterDays,
			ReleaseDisabled: d.ReleaseDisabled, Reasons: d.Reasons, LastRun: momentOf(d.LastRun), Stopped: d.Stopped}
		if row.Reasons == nil {
			row.Reasons = map[int]int{}
		}
		out.DeliveryStops = append(out.DeliveryStops, row)
	}
	reply(w, out)
}
