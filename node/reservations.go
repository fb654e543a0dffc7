package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

type reservationService struct{ *Node }

// reservation is what the mail of one group has in common (requirement R29).
type reservation struct {
	tenant string
	from   mail.Domain
	due    int64 // Unix milliseconds
}

func reservationOf(d *mail.Delivery) reservation {
	return reservation{d.Tenant, d.From.Domain(), d.Due.UnixMilli()}
}

// id is the same on every node, so that what they tell of one group can be put together.
func (r reservation) id() string {
	h := sha256.Sum256([]byte(r.tenant + "\x00" + string(r.from) + "\x00" + strconv.FormatInt(r.due, 10)))
	return hex.EncodeToString(h[:8])
}

// waits tells whether d is reserved for a moment that has not come, and of the tenant, "" = of any.
func waits(d *mail.Delivery, tenant string, now time.Time) bool {
	return d.Reserved && d.Attempts == 0 && d.Due.After(now) && (tenant == "" || d.Tenant == tenant)
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

// Reservations implements service.Reservations. It reads the whole queue: there is no book of reservations that could
// be wrong, and whoever asks is a person.
func (n reservationService) Reservations(ctx context.Context, tenant string) ([]service.Reservation, error) {
	e, err := n.running()
	if err != nil {
		return nil, err
	}
	all, err := e.destinations()
	if err != nil {
		return nil, err
	}
	now, last := n.clock.Now(), time.UnixMilli(1<<47)
	counts := map[reservation]int{}
	for _, d := range all {
		var at queue.Cursor
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("node: list reservations: %w", err)
			}
			var ds []mail.Delivery
			if ds, at, more, _, err = e.store.Scan(d, at, last, scanBatch); err != nil {
				return nil, fmt.Errorf("node: list reservations: %w", err)
			}
			for i := range ds {
				if waits(&ds[i], tenant, now) {
					counts[reservationOf(&ds[i])]++
				}
			}
		}
	}
	out := make([]service.Reservation, 0, len(counts))
	for r := range maps.Keys(counts) {
		out = append(out, service.Reservation{ID: r.id(), Tenant: r.tenant, Time: time.UnixMilli(r.due).UTC(), FromDomain: r.from, Count: counts[r]})
	}
	slices.SortFunc(out, func(a, b service.Reservation) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// CancelReservation implements service.Reservations. What a crash leaves over is cancelled by asking again.
func (n reservationService) CancelReservation(ctx context.Context, tenant, id, author string) (total int, err error) {
	list, err := n.Reservations(ctx, tenant)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(list, func(r service.Reservation) bool { return r.ID == id })
	if i < 0 {
		return 0, fmt.Errorf("%w: no mail waits for a reservation %q", service.ErrNotFound, id)
	}
	e, err := n.running()
	if err != nil {
		return 0, err
	}
	all, err := e.destinations()
	if err != nil {
		return 0, err
	}
	want := reservation{list[i].Tenant, list[i].FromDomain, list[i].Time.UnixMilli()}
	for _, d := range all {
		k, err := e.actors.Destinations().Interrupt(ctx, d, func(d *mail.Delivery) bool {
			return d.Reserved && d.Attempts == 0 && reservationOf(d) == want
		})
		if total += k; err != nil {
			return total, fmt.Errorf("node: cancel reservation: %w", err)
		}
	}
	n.log.Warn("reservation cancelled", "reservation", id, "tenant", want.tenant, "deliveries", total, "author", author)
	return total, nil
}
