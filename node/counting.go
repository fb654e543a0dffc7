package node

import (
	"context"

	"github.com/ekiden-mta/ekiden/actors/destination"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/gate"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

type numberService struct{ *Node }

// Counters implements service.Numbers. The gauges are counted from events, as the counts are, so that groups and domains
// add up to the whole, and a restart changes nothing; only what is in delivery is the actors' to know.
func (n numberService) Counters(_ context.Context, q service.CounterQuery) ([]service.CounterBucket, error) {
	e, err := n.running()
	if err != nil {
		return nil, err
	}
	unit := map[string]stats.Unit{service.UnitTotal: stats.Total, service.UnitHour: stats.Hour, service.UnitFive: stats.Five}[q.Unit]
	of := stats.Of{Tenant: q.Tenant, Group: q.Group, Domain: q.Domain}
	buckets := e.store.Counters().Buckets(unit, of, n.clock.Now())
	out := make([]service.CounterBucket, len(buckets))
	for i, b := range buckets {
		out[i] = service.CounterBucket{Start: b.Start, Counters: countersOf(b.Counts)}
	}
	if len(out) == 0 {
		return out, nil
	}
	last := &out[len(out)-1].Counters // the gauges are of now: they stand in the newest bucket
	var standing destination.GroupStanding
	standing.Flight, standing.Again = e.actors.Destinations().Flight(func(d *mail.Delivery) bool {
		return !d.Own && wanted(q.Tenant, d.Tenant) && wanted(q.Group, d.Group) && (q.Group != "" || wanted(q.Domain, d.Domain))
	})
	total := e.store.Counters().Buckets(stats.Total, of, n.clock.Now())[0].Counts
	gauges(last, &total, standing)
	switch parked := e.store.Parked(); {
	case q.Group != "" || q.Domain == "" && q.Tenant != "":
		last[service.Undelivered] += int64(parkedOf(parked.Groups, gate.Key{Tenant: q.Tenant, Group: q.Group}))
	case q.Domain == "":
		last[service.Undelivered] += int64(parked.Deliveries)
	case q.Tenant == "":
		last[service.Undelivered] += int64(parked.Domains[q.Domain])
	}
	return out, nil
}

// standingOf adds up what stands under k, of all tenants where k names none.
func standingOf(all map[gate.Key]destination.GroupStanding, k gate.Key) destination.GroupStanding {
	if k.Tenant != "" {
		return all[k]
	}
	var sum destination.GroupStanding
	for have, s := range all {
		if have.Group == k.Group {
			sum.Flight, sum.Again = sum.Flight+s.Flight, sum.Again+s.Again
			if s.LastSent.After(sum.LastSent) {
				sum.LastSent = s.LastSent
			}
		}
	}
	return sum
}

// parkedOf is standingOf for what waits to be brought home.
func parkedOf(all map[gate.Key]int, k gate.Key) (n int) {
	if k.Tenant != "" {
		return all[k]
	}
	for have, parked := range all {
		if have.Group == k.Group {
			n += parked
		}
	}
	return n
}

// gauges fills in the first three counters: all that has no final outcome, and of that what is in delivery or was put off.
func gauges(c *service.Counters, total *stats.Counts, s destination.GroupStanding) {
	left := max(0, total.Left())
	c[service.InDelivery] = min(int64(s.Flight), left)
	c[service.Retry] = min(max(0, total.Retrying()-int64(s.Again)), left-c[service.InDelivery])
	c[service.Undelivered] = left - c[service.InDelivery] - c[service.Retry]
}

// countersOf puts the counts behind the three gauges. What a list let no mail go to has failed like the rest (E-43), or the
// outcomes would not add up to the mails that are finished (R60).
func countersOf(c stats.Counts) (out service.Counters) {
	for i := stats.Succeeded; i <= stats.Interrupted; i++ {
		out[service.Succeeded+int(i)] = int64(c[i])
	}
	out[service.Failed] += int64(c[stats.Suppressed])
	return out
}
