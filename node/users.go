package node

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

type userService struct{ *Node }

// User implements service.Users.
func (n userService) User(name string) (service.User, string, bool) {
	m, u := n.book.now.Load().index.ByUser(name)
	if m == nil {
		return service.User{}, "", false
	}
	return service.User{Name: u.Name, Tenant: m.Tenant.Name, Composition: m.Composition.Name,
		HTTP: slices.Contains(u.Permissions, settings.PermissionHTTP), Administrator: u.Administers(),
		ViewAddresses: u.SeesAddresses(), OwnData: u.OwnData, Zone: zoneOf(u.Zone)}, u.SecretHash, true
}

// zoneOf is the time zone of a name that was validated; "" is that of the process.
func zoneOf(name string) *time.Location {
	if zone, err := time.LoadLocation(name); err == nil && name != "" {
		return zone
	}
	return time.Local
}

// Compositions implements service.Users.
func (n userService) Compositions(tenant string) (names []string) {
	for _, m := range n.book.now.Load().index.Members() {
		if m.Tenant.Name == tenant {
			names = append(names, m.Composition.Name)
		}
	}
	return names
}

// ErrorThreshold implements service.Users.
func (n userService) ErrorThreshold(tenant string) int {
	return n.book.now.Load().suppression[tenant].threshold
}

// AllowsAPI implements service.Users.
func (n userService) AllowsAPI(from netip.Addr) bool {
	return n.book.now.Load().index.Allows(from, func(a *settings.Allow) bool { return a.ConsoleAPI })
}
