package mail

// Destination is where a part of the queue goes: the mail of one tenant to one recipient domain. What one tenant has
// waiting for a domain is never in the way of what another has (requirement N11), and is in strict order in itself (R35).
type Destination struct {
	Domain Domain
	Tenant string // "" = of all tenants: mail that was stored before tenants had parts of their own
}

// String is for logs.
func (d Destination) String() string {
	if d.Tenant == "" {
		return string(d.Domain)
	}
	return string(d.Domain) + " of " + d.Tenant
}

// Destination is the part of the queue that d waits in.
func (d *Delivery) Destination() Destination {
	if !d.Apart {
		return Destination{Domain: d.Domain}
	}
	return Destination{Domain: d.Domain, Tenant: d.Tenant}
}
