package gather

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"connectrpc.com/connect"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
)

// reservations adds up what every member has queued: a group is spread over the nodes that took its mail.
type reservations struct{ *gatherer }

// Reservations adds the counts of equal groups.
func (g reservations) Reservations(ctx context.Context, tenant string) ([]service.Reservation, error) {
	wait := ask(ctx, g.gatherer, func(ctx context.Context, c member) (*adminpb.ListReservationsResponse, error) {
		return c.ListReservations(ctx, &adminpb.ListReservationsRequest{Tenant: tenant})
	})
	own, err := g.Local.Reservations.Reservations(ctx, tenant)
	answers, missing := wait()
	if err != nil {
		return nil, err
	}
	out := slices.Clone(own)
	for _, a := range answers {
		for _, p := range a.value.Reservations {
			v := rpc.ReservationOf(p)
			if i := slices.IndexFunc(out, func(have service.Reservation) bool { return have.ID == v.ID }); i >= 0 {
				out[i].Count += v.Count
			} else {
				out = append(out, v)
			}
		}
	}
	slices.SortFunc(out, func(a, b service.Reservation) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	return out, partial(missing)
}

// CancelReservation cancels on every member; ErrNotFound where none of those that answer has any of it.
func (g reservations) CancelReservation(ctx context.Context, tenant, id, author string) (int, error) {
	wait := ask(ctx, g.gatherer, func(ctx context.Context, c member) (uint64, error) {
		r, err := c.CancelReservation(ctx, &adminpb.CancelReservationRequest{Tenant: tenant, Id: id})
		if connect.CodeOf(err) == connect.CodeNotFound {
			return 0, nil
		}
		return r.GetCancelled(), err
	})
	total, err := g.Local.Reservations.CancelReservation(ctx, tenant, id, author)
	answers, missing := wait()
	for _, a := range answers {
		total += int(a.value)
	}
	if err != nil && !(total > 0 && errors.Is(err, service.ErrNotFound)) {
		return total, err
	}
	return total, partial(missing)
}
