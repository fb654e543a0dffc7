package node

import (
	"cmp"
	"context"
	"slices"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/policy/gate"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

type groupService struct{ *Node }

// Groups implements service.Groups: the groups whose mail is counted, and those that are stopped.
func (n groupService) Groups(context.Context) ([]service.Group, error) {
	e, err := n.running()
	if err != nil {
		return nil, err
	}
	var out []service.Group
	standing, parked := e.actors.Destinations().Groups(), e.store.Parked().Groups
	e.store.Counters().Groups(func(tenant, name string, total stats.Counts) {
		if name == "" {
			return
		}
		k := gate.Key{Tenant: tenant, Group: name}
		g := service.Group{Name: name, Tenant: tenant, State: service.GroupOpen, Counters: countersOf(total), LastSent: standing[k].LastSent}
		gauges(&g.Counters, &total, standing[k])
		g.Counters[service.Undelivered] += int64(parked[k])
		out = append(out, g)
	})
	for _, g := range n.gates.table.List() {
		state, known := n.gates.state(e, g), false
		for i := range out {
			if out[i].Name == g.Group && (g.Tenant == "" || g.Tenant == out[i].Tenant) {
				known = true
				if state != service.GroupOpen {
					out[i].State = state
				}
			}
		}
		if g.Closed && !known { // without mail
			out = append(out, service.Group{Name: g.Group, Tenant: g.Tenant, State: state,
				LastSent: e.actors.Destinations().LastSent(gate.Key{Tenant: g.Tenant, Group: g.Group})})
		}
	}
	slices.SortFunc(out, func(a, b service.Group) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Tenant, b.Tenant))
	})
	return out, nil
}
