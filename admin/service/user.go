package service

import (
	"net/netip"
	"time"
)

// User is an API user: one who belongs to a tenant and proves itself by a key (requirement R132).
type User struct {
	Name          string
	Tenant        string
	Composition   string // where it is written down; it may read of all of its tenant's
	HTTP          bool   // may use the HTTP APIs
	Administrator bool   // may change, not only read
	ViewAddresses bool   // may read data that contains addresses
	OwnData       bool   // reads only of mail that it handed over itself
	Zone          *time.Location
}

// Tenants are those of the settings in force.
type Tenants interface {
	// Tenant returns the tenant that is meant by name: of "" the only one, or that which is called default. ErrInvalid, with
	// those there are, where there is none of that name, or none is named and several might be meant. ErrSealed or ErrUnready
	// where the node has not read yet which there are.
	Tenant(name string) (string, error)
}

// Whose is the tenant that t says is meant by name; t may be nil.
func Whose(t Tenants, name string) (string, error) {
	if t == nil {
		return name, nil
	}
	return t.Tenant(name)
}

// Known refuses the name of a tenant that t does not know; "" is nobody's, and t may be nil.
func Known(t Tenants, name string) error {
	if t == nil || name == "" {
		return nil
	}
	_, err := t.Tenant(name)
	return err
}

// Users are the API users in force, the same on every node.
type Users interface {
	// User returns the user of that name and the hash of its key.
	User(name string) (u User, secretHash string, ok bool)
	// Compositions lists the server compositions of a tenant.
	Compositions(tenant string) []string
	// ErrorThreshold is how many errors exclude an address from a tenant's mail; 0 = none do (requirement R100).
	ErrorThreshold(tenant string) int
	// AllowsAPI tells whether the list of allowed addresses lets an address use the transaction API (requirement R124).
	AllowsAPI(from netip.Addr) bool
}
