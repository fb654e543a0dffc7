package node

import (
	"context"

	"github.com/ekiden-mta/ekiden/actors/destination"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/policy/gate"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

type numberService struct{ *Node }

// Counters implements service.Numbers. Of a tenant's mail to one domain, what is in delivery or was deferred is not known
// by tenant: it is that of the domain, as far as the tenant has as much.
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
	if q.Tenant == "" && q.Group == "" {
		e.standing(last, q)
		return out, nil
	}
	total := e.store.Counters().Buckets(stats.Total, of, n.clock.Now())[0].Counts
	k := gate.Key{Tenant: q.Tenant, Group: q.Group}
	standing := standingOf(e.actors.Destinations().Groups(), k)
	if q.Group == "" && q.Domain != "" {
		standing = destination.GroupStanding{}
		for _, s := range e.actors.Destinations().Snapshot(q.Domain) {
			standing.Flight, standing.Retrying = standing.Flight+s.Flight, standing.Retrying+s.Retrying
		}
	}
	gauges(last, &total, standing)
	if q.Group != "" || q.Domain == "" {
		last[service.Undelivered] += int64(parkedOf(e.store.Parked().Groups, k))
	}
	return out, nil
}

// standing fills in the first three counters of a domain, or of all.
func (e *engine) standing(c *service.Counters, q service.CounterQuery) {
	for _, s := range e.actors.Destinations().Snapshot(q.Domain) {
		c[service.Undelivered] += int64(s.Waiting - s.Retrying)
		c[service.Retry] += int64(s.Retrying)
		c[service.InDelivery] += int64(s.Flight)
	}
	parked := e.store.Parked()
	if q.Domain != "" {
		c[service.Undelivered] += int64(parked.Domains[q.Domain])
	} else {
		c[service.Undelivered] += int64(parked.Deliveries)
	}
}

// standingOf adds up what stands under k, of all tenants where k names none.
func standingOf(all map[gate.Key]destination.GroupStanding, k gate.Key) destination.GroupStanding {
	if k.Tenant != "" {
		return all[k]
	}
	var sum destination.GroupStanding
	for have, s := range all {
		if have.Group == k.Group {
			sum.Flight, sum.Retrying = sum.Flight+s.Flight, sum.Retrying+s.Retrying
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

// gauges fills in the first three counters: all that has no final outcome, and of that what is in delivery or was deferred.
func gauges(c *service.Counters, total *stats.Counts, s destination.GroupStanding) {
	left := total.Left()
	c[service.InDelivery] = min(int64(s.Flight), left)
	c[service.Retry] = min(int64(s.Retrying), left-c[service.InDelivery])
	c[service.Undelivered] = left - c[service.InDelivery] - c[service.Retry]
}

// countersOf puts the counts behind the three gauges.
func countersOf(c stats.Counts) (out service.Counters) {
	for i := stats.Succeeded; i <= stats.Interrupted; i++ {
		out[service.Succeeded+int(i)] = int64(c[i])
	}
	return out
}
