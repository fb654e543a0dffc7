package rpc

import (
	"context"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// ListReservations returns reserved mail in groups.
func (h *handler) ListReservations(ctx context.Context, req *adminpb.ListReservationsRequest) (*adminpb.ListReservationsResponse, error) {
	if h.s.Reservations == nil {
		return nil, notYet("ListReservations", "a later release")
	}
	list, err := h.s.Reservations.Reservations(ctx, req.Tenant)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	r := &adminpb.ListReservationsResponse{Missing: missing}
	for _, v := range list {
		r.Reservations = append(r.Reservations, &adminpb.Reservation{Id: v.ID, Tenant: v.Tenant, Time: stamp(v.Time),
			FromDomain: string(v.FromDomain), Count: uint64(v.Count)})
	}
	return r, nil
}

// ReservationOf reads a group of reserved mail.
func ReservationOf(p *adminpb.Reservation) service.Reservation {
	return service.Reservation{ID: p.Id, Tenant: p.Tenant, Time: instant(p.Time), FromDomain: mail.Domain(p.FromDomain), Count: int(p.Count)}
}

// CancelReservation ends the mail of a group.
func (h *handler) CancelReservation(ctx context.Context, req *adminpb.CancelReservationRequest) (*adminpb.CancelReservationResponse, error) {
	if h.s.Reservations == nil {
		return nil, notYet("CancelReservation", "a later release")
	}
	n, err := h.s.Reservations.CancelReservation(ctx, req.Tenant, req.Id, operator)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	h.log.Warn("reservation cancelled by the operator", "reservation", req.Id, "tenant", req.Tenant, "deliveries", n)
	return &adminpb.CancelReservationResponse{Cancelled: uint64(n), Missing: missing}, nil
}
