package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// tenantService knows the tenants of the settings in force.
type tenantService struct{ *Node }

// Tenant implements service.Tenants.
func (n tenantService) Tenant(name string) (string, error) {
	if n.unread() { // those of the file may be none, or others
		return "", n.unready()
	}
	var names []string
	for _, t := range n.book.now.Load().index.Settings.Tenants {
		names = append(names, t.Name)
	}
	return chooseTenant(name, names)
}

// chooseTenant returns which of names is meant by name: of "" the only one, or that which is called default.
func chooseTenant(name string, names []string) (string, error) {
	switch {
	case slices.Contains(names, name):
		return name, nil
	case name == "" && len(names) == 1:
		return names[0], nil
	case name == "" && slices.Contains(names, settings.DefaultName):
		return settings.DefaultName, nil
	}
	slices.Sort(names)
	list := strings.Join(names, ", ")
	if name == "" {
		return "", fmt.Errorf("%w: say which tenant is meant (tenant, --tenant): one of %s", service.ErrInvalid, list)
	}
	return "", fmt.Errorf("%w: tenant: there is no tenant %q; there are: %s", service.ErrInvalid, name, list)
}
