package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

type reservationService struct{ *Node }

// reservationID names a reservation. It is the same on every node, so that what they tell of one group can be put together.
func reservationID(r queue.Reservation) string {
	h := sha256.Sum256([]byte(r.Tenant + "\x00" + string(r.From) + "\x00" + strconv.FormatInt(r.Due.UnixMilli(), 10)))
	return hex.EncodeToString(h[:8])
}

// scanBatch is how many deliveries are read at once.
const scanBatch = 1000

// destinations lists where queued mail goes.
func (e *engine) destinations() ([]mail.Destination, error) {
	var out []mail.Destination
	err := e.store.Destinations(func(d mail.Destination, _ int, _ time.Time) error {
		out = append(out, d)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("node: look through the queue: %w", err)
	}
	return out, nil
}

// Reservations implements service.Reservations.
func (n reservationService) Reservations(ctx context.Context, tenant string) ([]service.Reservation, error) {
	_, list, err := n.reserved(ctx, tenant)
	if err != nil {
		return nil, err
	}
	out := make([]service.Reservation, 0, len(list))
	for _, r := range list {
		out = append(out, service.Reservation{ID: reservationID(r), Tenant: r.Tenant, Time: r.Due, FromDomain: r.From, Count: r.Count})
	}
	slices.SortFunc(out, func(a, b service.Reservation) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// reserved lists what the store counts, of one tenant, "" = of all.
func (n reservationService) reserved(ctx context.Context, tenant string) (*engine, []queue.Reservation, error) {
	e, err := n.running()
	if err != nil {
		return nil, nil, err
	}
	list, err := e.store.Reservations(ctx, n.clock.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("node: %w", err)
	}
	return e, slices.DeleteFunc(list, func(r queue.Reservation) bool { return tenant != "" && r.Tenant != tenant }), nil
}

// CancelReservation implements service.Reservations. What a crash leaves over is cancelled by asking again.
func (n reservationService) CancelReservation(ctx context.Context, tenant, id, author string) (total int, err error) {
	e, list, err := n.reserved(ctx, tenant)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(list, func(r queue.Reservation) bool { return reservationID(r) == id })
	if i < 0 {
		return 0, fmt.Errorf("%w: no mail waits for a reservation %q", service.ErrNotFound, id)
	}
	want := list[i]
	all, err := e.store.DestinationsAt(ctx, want.Due)
	if err != nil {
		return 0, fmt.Errorf("node: cancel reservation: %w", err)
	}
	for _, d := range all {
		k, err := e.actors.Destinations().Cancel(ctx, d, want.Due, func(d *mail.Delivery) bool {
			return d.Reserved && d.Attempts == 0 && d.Tenant == want.Tenant && d.From.Domain() == want.From
		})
		if total += k; err != nil {
			return total, fmt.Errorf("node: cancel reservation: %w", err)
		}
	}
	n.log.Warn("reservation cancelled", "reservation", id, "tenant", want.Tenant, "deliveries", total, "author", author)
	return total, nil
}
