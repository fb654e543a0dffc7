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
	e.store.Counters().Groups(func(name string, total stats.Counts) {
		g := service.Group{Name: name, State: service.GroupOpen, Counters: countersOf(total), LastSent: standing[name].LastSent}
		gauges(&g.Counters, &total, standing[name])
		g.Counters[service.Undelivered] += int64(parked[name])
		out = append(out, g)
	})
	for _, g := range n.gates.table.List() {
		state := n.gates.state(e, g)
		i := slices.IndexFunc(out, func(o service.Group) bool { return g.Tenant == "" && o.Name == g.Group })
		switch {
		case i >= 0:
			out[i].State = state
		case g.Closed: // without mail, or of one tenant: the books do not know whose the mail of a group is
			out = append(out, service.Group{Name: g.Group, Tenant: g.Tenant, State: state,
				LastSent: e.actors.Destinations().LastSent(gate.Key{Tenant: g.Tenant, Group: g.Group})})
		}
	}
	slices.SortFunc(out, func(a, b service.Group) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Tenant, b.Tenant))
	})
	return out, nil
}
